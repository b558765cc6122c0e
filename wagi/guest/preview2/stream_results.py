"""Results of functions of ``wasi:io/streams``."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.results import OK
from wagi.guest.preview2.streams import StreamClosedError, StreamFailedError

_FAILED, _CLOSED = 0, 1  # cases of stream-error


def write_done(guest: ComponentContext, out: int, work: Callable[[], None]) -> None:
    """Write a ``result<_, stream-error>``."""
    try:
        work()
    except (StreamClosedError, StreamFailedError) as error:
        write_error(guest, out, error, 4)
    else:
        guest.memory.write(out, OK)


def write_count(guest: ComponentContext, out: int, work: Callable[[], int]) -> None:
    """Write a ``result<u64, stream-error>``."""
    try:
        count = work()
    except (StreamClosedError, StreamFailedError) as error:
        write_error(guest, out, error, 8)
    else:
        guest.memory.write(out, pack("<QQ", 0, count))


def write_error(
    guest: ComponentContext, out: int, error: StreamClosedError | StreamFailedError, offset: int
) -> None:
    """Write the error of a result.

    Args:
        guest: The guest.
        out: Address of the result.
        error: The error.
        offset: Offset of the payload in the result, in bytes.
    """
    case, handle = _CLOSED, 0
    if isinstance(error, StreamFailedError):
        case, handle = _FAILED, guest.handles.add(error.error)
    guest.memory.write(out, b"\1")
    guest.memory.write(out + offset, pack("<II", case, handle))
