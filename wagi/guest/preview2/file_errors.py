"""Error codes and other constants of ``wasi:filesystem/types``, in the order of the interface."""

from __future__ import annotations

from stat import S_ISFIFO

from wagi.guest.errno import GuestFault, errno_of, name_of
from wagi.guest.wasi.abi import Filetype, filetype_of

_CODES = """
ACCES AGAIN ALREADY BADF BUSY DEADLK DQUOT EXIST FBIG ILSEQ INPROGRESS INTR INVAL IO ISDIR LOOP
MLINK MSGSIZE NAMETOOLONG NODEV NOENT NOLCK NOMEM NOSPC NOTDIR NOTEMPTY NOTRECOVERABLE NOTSUP NOTTY
NXIO OVERFLOW PERM PIPE ROFS SPIPE TXTBSY XDEV
""".split()  # noqa: SIM905 - as a list it would be 37 lines
"""``error-code``, as the names of error numbers without their E."""
_CODE_OF = {f"E{name}": code for code, name in enumerate(_CODES)}
_IO = _CODE_OF["EIO"]
_FIFO = 4
TYPES = {
    Filetype.UNKNOWN: 0,
    Filetype.BLOCK_DEVICE: 1,
    Filetype.CHARACTER_DEVICE: 2,
    Filetype.DIRECTORY: 3,
    Filetype.SYMBOLIC_LINK: 5,
    Filetype.REGULAR_FILE: 6,
    Filetype.SOCKET_DGRAM: 7,
    Filetype.SOCKET_STREAM: 7,
}
"""``descriptor-type`` by ``filetype`` of preview 1."""


def type_of(mode: int) -> int:
    """Convert the ``st_mode`` of stat(2) to a ``descriptor-type``."""
    return _FIFO if S_ISFIFO(mode) else TYPES[filetype_of(mode)]


def error_code(error: GuestFault | OSError) -> int:
    """Return the ``error-code`` for an exception; ``io`` for errors that have none."""
    return _CODE_OF.get(name_of(errno_of(error)), _IO)
