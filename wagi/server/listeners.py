"""The listening sockets of a server."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wagi.config.values import HostPort, UnixPath
from wagi.errors import ConfigurationError, Problem, WagiError

_LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""
BACKLOG = 1024
"""Connections that wait to be accepted, per listening socket."""
_LOCK_TIMEOUT_S = 5.0  # for another server that creates a socket in the same directory
_LOCK_POLL_INTERVAL_S = 0.05
_NO_GROUP = 2**32 - 1  # (gid_t)-1, with which chown leaves the group as it is


@contextmanager
def listen(
    address: HostPort | UnixPath, count: int, option: str = "--listen"
) -> Iterator[list[socket.socket]]:
    """Open a listening socket for each worker, and close them at the end of the block.

    Each TCP socket has its own accept queue (SO_REUSEPORT); the kernel distributes new connections
    among them. A Unix socket has a single queue: it is the same socket ``count`` times.

    Args:
        address: Where to listen.
        count: The number of workers.
        option: The option that sets the address, for messages.

    Raises:
        WagiError: The address cannot be used.
    """
    try:
        if isinstance(address, UnixPath):
            sockets = [_listen_unix(address, option)] * count
        else:
            sockets = _listen_tcp(address, count)
    except OSError as error:
        # The message of an error from asyncio or Python repeats the address.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        hint = _hint(address, error.errno, option)
        raise WagiError(f"cannot listen on {address}: {reason}{hint}") from None
    inode = address.path.stat().st_ino if isinstance(address, UnixPath) else None
    try:
        yield sockets
    finally:
        for listener in sockets:
            listener.close()
        # asyncio leaves the file. Another server may have replaced it: compare the inode.
        if isinstance(address, UnixPath):
            with suppress(FileNotFoundError):
                if address.path.stat().st_ino == inode:
                    address.path.unlink()


def _listen_tcp(address: HostPort, count: int) -> list[socket.socket]:
    # First without SO_REUSEPORT, which fails if another server listens here with it.
    first = _open_tcp(address, reuse_port=False)
    if count == 1 or not hasattr(socket, "SO_REUSEPORT"):
        return [first] * count
    taken = HostPort(address.host, first.getsockname()[1])
    first.close()
    return [_open_tcp(taken, reuse_port=True) for _ in range(count)]


def _open_tcp(address: HostPort, reuse_port: bool) -> socket.socket:
    assert address.port is not None
    if not address.host:
        both = socket.has_dualstack_ipv6()
        return socket.create_server(
            ("", address.port),
            family=socket.AF_INET6 if both else socket.AF_INET,
            dualstack_ipv6=both,
            backlog=BACKLOG,
            reuse_port=reuse_port,
        )
    found = socket.getaddrinfo(
        address.address, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # A name such as localhost may resolve to both families: prefer IPv4, as the original does.
    family, _, _, _, name = min(found, key=lambda item: item[0] != socket.AF_INET)
    return socket.create_server(name[:2], family=family, backlog=BACKLOG, reuse_port=reuse_port)


def _listen_unix(address: UnixPath, option: str) -> socket.socket:
    path, group = address.path, _group_id(address, option)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # Between the check for a stale file and the bind, another server may create its own file.
        with _locked(path.parent):
            _remove_stale(path)
            # The file gets its mode when it is created. A later chmod would follow a symbolic link
            # that someone has put in its place; chown does not.
            before = os.umask(0o777 & ~address.mode)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            try:
                if group is not None:
                    os.chown(path, -1, group, follow_symlinks=False)
                listener.listen(BACKLOG)  # only now are connections possible
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except BaseException:
        listener.close()
        raise
    return listener


def _group_id(address: UnixPath, option: str) -> int | None:
    """The number of the group of a socket file; None if it is not to be changed."""
    if not address.group:
        return None
    try:
        if address.group.isascii() and address.group.isdigit():
            number = int(address.group)
            if number >= _NO_GROUP:
                raise KeyError(number)
            return number
        return grp.getgrnam(address.group).gr_gid
    except KeyError:
        raise ConfigurationError(
            Problem(f"{option}: this machine has no group {address.group!r} (see getent group)")
        ) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other servers from creating a socket in a directory while the block runs."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WagiError(f"{folder}: another process holds a lock on it") from None
                time.sleep(_LOCK_POLL_INTERVAL_S)
            else:
                break
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a server that has died.

    Anything else stays, so that the bind fails: another kind of file, or a socket that accepts
    connections, even if its queue is full or this user may not connect to it.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return


def _hint(address: HostPort | UnixPath, number: int | None, option: str) -> str:
    """The end of the message about an address that cannot be used: how to fix it."""
    if isinstance(address, UnixPath) and (hint := _unix_hint(address, number)):
        return hint
    if number == errno.EADDRINUSE:
        holder = _holder(address)
        held = f" by {holder}" if holder else ""
        stop = f"stop process {holder.split()[1]}" if holder else "stop the other server"
        return f"{held}: {stop}, or choose another address with {option}"
    if number == errno.EACCES and isinstance(address, HostPort) and (address.port or 0) < 1024:
        return (
            ": ports below 1024 require the capability CAP_NET_BIND_SERVICE: grant it, or choose a"
            f" port from 1024 on with {option}"
        )
    if number == errno.EADDRNOTAVAIL:
        return f": no interface of this machine has the address: choose another with {option}"
    return ""


def _unix_hint(address: UnixPath, number: int | None) -> str:
    path = address.path
    if number == errno.ENOENT:
        return f": create the directory {path.parent}"
    if number == errno.EADDRINUSE and not path.is_socket():
        return f": {path} exists and is not a socket: remove it, or choose another path"
    if number == errno.EPERM and address.group:
        return (
            f": only root and members of the group may give the socket to {address.group!r}: add"
            " the user of the server to the group (usermod -aG)"
        )
    if number == errno.EACCES:
        return f": make the directory {path.parent} writable for the user of the server"
    return ""


def _holder(address: HostPort | UnixPath, proc: Path = Path("/proc")) -> str:
    """Find the process that listens on an address.

    Returns:
        ``process PID (NAME)``; empty if it cannot be found, as for one of another user.
    """
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(address, proc)}
    for process in proc.glob("[0-9]*") if inodes else ():
        with suppress(OSError):  # it has ended, or belongs to another user
            links = (str(link.readlink()) for link in (process / "fd").iterdir())
            if not inodes.isdisjoint(links):
                name = (process / "comm").read_text("utf-8", "replace").strip()
                return f"process {process.name} ({name})"
    return ""


def _listening_inodes(address: HostPort | UnixPath, proc: Path) -> Iterator[str]:
    """The inodes of sockets that listen on a port of any address, or at a path; see proc(5)."""
    tables = ("unix",) if isinstance(address, UnixPath) else ("tcp", "tcp6")
    for table in tables:
        with suppress(OSError):
            for line in (proc / "net" / table).read_text("utf-8", "replace").splitlines()[1:]:
                fields = line.split()
                if isinstance(address, UnixPath):
                    if fields[7:] == [str(address.path)]:
                        yield fields[6]
                elif fields[3] == _LISTENING and int(fields[1].split(":")[1], 16) == address.port:
                    yield fields[9]


def url(listener: socket.socket, tls: bool) -> str:
    """The URL that clients use for a listening socket; ``unix:PATH`` for a Unix socket."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host = {"::": "localhost", "0.0.0.0": "localhost"}.get(name[0], name[0])
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{host}:{name[1]}"
