"""Results and parameters that the functions of ``wasi:filesystem/types`` have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from struct import Struct

from wagi.guest.errno import EFAULT, EINVAL, GuestFault, GuestTrap
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.file_errors import error_code, type_of
from wagi.guest.wasi.abi import Fstflags

_STAT = Struct("<B7xQQ" + "B7xQI4x" * 3)
"""``descriptor-stat``, 96 bytes; times are seconds (u64) and nanoseconds (u32) since 1970::

    offset  size  field
    0       1     type
    8       8     link-count
    16      8     size
    24      24    data-access-timestamp: 1 (some), 7 bytes of padding, the time
    48      24    data-modification-timestamp
    72      24    status-change-timestamp
"""
_SECOND = 10**9  # nanoseconds
_TIME_MAX = 1 << 63  # nanoseconds since 1970
_NO_CHANGE, _NOW, _TIMESTAMP = range(3)  # cases of new-timestamp


def write_result(guest: ComponentContext, out: int, offset: int, work: Callable[[], bytes]) -> None:
    """Write a ``result<T, error-code>``.

    Args:
        guest: The guest.
        out: Address of the result.
        offset: Offset of the payload in the result, in bytes: the alignment of T, or 1.
        work: Returns T in the layout of the canonical ABI, or raises GuestFault or OSError.
    """
    try:
        payload = work()
    except (GuestFault, OSError) as error:
        if isinstance(error, GuestFault) and error.errno == EFAULT:
            raise  # an invalid address is a trap
        write_failure(guest, out, offset, error)
    else:
        guest.memory.write(out, bytes(offset) + payload)


def write_failure(
    guest: ComponentContext, out: int, offset: int, error: GuestFault | OSError
) -> None:
    """Write a ``result<T, error-code>`` that is an error."""
    guest.memory.write(out, b"\1" + bytes(offset - 1) + bytes([error_code(error)]))


def pack_status(status: os.stat_result) -> bytes:
    """Convert a result of stat(2) to a ``descriptor-stat``."""
    times: list[int] = []
    for nanoseconds in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns):
        times += (1, *divmod(max(0, nanoseconds), _SECOND))
    return _STAT.pack(type_of(status.st_mode), status.st_nlink, status.st_size, *times)


def read_times(accessed: Sequence[int], modified: Sequence[int]) -> tuple[Fstflags, int, int]:
    """Convert two ``new-timestamp`` to what preview 1 has in their place.

    Args:
        accessed: Case, seconds and nanoseconds of the access time.
        modified: Case, seconds and nanoseconds of the modification time.

    Returns:
        The timestamps to set, access time and modification time in nanoseconds since 1970.

    Raises:
        GuestTrap: A case is unknown.
        GuestFault: EINVAL if a time is out of range.
    """
    wanted, times = Fstflags(0), list[int]()
    for (case, seconds, nanoseconds), (given, now) in (
        (accessed, (Fstflags.ATIM, Fstflags.ATIM_NOW)),
        (modified, (Fstflags.MTIM, Fstflags.MTIM_NOW)),
    ):
        if case > _TIMESTAMP:
            raise GuestTrap(f"it passed a new-timestamp of the unknown case {case}")
        time = seconds * _SECOND + nanoseconds if case == _TIMESTAMP else 0
        if time >= _TIME_MAX or (case == _TIMESTAMP and nanoseconds >= _SECOND):
            raise GuestFault(EINVAL)
        wanted |= {_NO_CHANGE: Fstflags(0), _NOW: now, _TIMESTAMP: given}[case]
        times.append(time)
    return wanted, times[0], times[1]
