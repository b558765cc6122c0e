"""Error numbers of WASI preview 1, and the exceptions that host calls raise.

Source: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md#-errno-variant
"""

from __future__ import annotations

import errno as os_errno

EBADF = 8
EEXIST = 20
EFAULT = 21
EILSEQ = 25
EINVAL = 28
EIO = 29
EISDIR = 31
ELOOP = 32
EMFILE = 33
ENAMETOOLONG = 37
ENOENT = 44
ENOTDIR = 54
ENOTSOCK = 57
ENOTSUP = 58
EPERM = 63
ESPIPE = 70

_NAMES = """
SUCCESS E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF EBADMSG
EBUSY ECANCELED ECHILD ECONNABORTED ECONNREFUSED ECONNRESET EDEADLK EDESTADDRREQ EDOM EDQUOT
EEXIST EFAULT EFBIG EHOSTUNREACH EIDRM EILSEQ EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR
ELOOP EMFILE EMLINK EMSGSIZE EMULTIHOP ENAMETOOLONG ENETDOWN ENETRESET ENETUNREACH ENFILE
ENOBUFS ENODEV ENOENT ENOEXEC ENOLCK ENOLINK ENOMEM ENOMSG ENOPROTOOPT ENOSPC ENOSYS
ENOTCONN ENOTDIR ENOTEMPTY ENOTRECOVERABLE ENOTSOCK ENOTSUP ENOTTY ENXIO EOVERFLOW
EOWNERDEAD EPERM EPIPE EPROTO EPROTONOSUPPORT EPROTOTYPE ERANGE EROFS ESPIPE ESRCH ESTALE
ETIMEDOUT ETXTBSY EXDEV ENOTCAPABLE
""".split()  # noqa: SIM905 - as a list it would be 77 lines
"""The names of the error numbers, from 0 on."""
_FROM_OS = {
    getattr(os_errno, name): number for number, name in enumerate(_NAMES) if hasattr(os_errno, name)
}


def name_of(errno: int) -> str:
    """Return the name of an error number, such as ``ENOENT``."""
    return _NAMES[errno]


class GuestFault(Exception):
    """A host call fails: it returns ``errno`` to the guest."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


class NoMemoryFault(GuestFault):
    """The guest exports no memory."""

    def __init__(self) -> None:
        super().__init__(EFAULT)


class GuestExit(Exception):
    """A host call ends the guest with an exit status (``proc_exit``)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class GuestTrap(Exception):
    """A host call ends the guest with a trap; the message has the reason."""


def errno_of(error: GuestFault | OSError) -> int:
    """Return the error number for an exception of a host call; EIO for unknown ones of the host."""
    if isinstance(error, GuestFault):
        return error.errno
    return _FROM_OS.get(error.errno or 0, EIO)
