"""The sockets that a server listens on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wagi.config.values import HostPort, UnixPath
from wagi.errors import WagiError

_BACKLOG = 1024


@contextmanager
def listen(where: HostPort | UnixPath, count: int) -> Iterator[list[socket.socket]]:
    """Open a listening socket for each of ``count`` workers, and clean up after them.

    Each has a queue of its own (SO_REUSEPORT), among which the system divides new connections. A
    unix socket has one queue for all: then it is the same socket ``count`` times.

    Raises: WagiError saying why the address cannot be had.
    """
    try:
        if isinstance(where, UnixPath):
            sockets = [_listen_unix(where.path)] * count
        else:
            sockets = _listen_tcp(where, count)
    except OSError as error:
        # A message of asyncio's or Python's own says it twice.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise WagiError(f"cannot listen on {_describe(where)}: {reason}") from None
    inode = where.path.stat().st_ino if isinstance(where, UnixPath) else None
    try:
        yield sockets
    finally:
        for listening in sockets:
            listening.close()
        # asyncio leaves the file; by now it may be the one of a server that took our place.
        if isinstance(where, UnixPath):
            with suppress(FileNotFoundError):
                if where.path.stat().st_ino == inode:
                    where.path.unlink()


def _listen_tcp(where: HostPort, count: int) -> list[socket.socket]:
    # Alone at first: another server's sockets with SO_REUSEPORT would not be in the way of ours.
    first = _open_tcp(where, reuse_port=False)
    if count == 1 or not hasattr(socket, "SO_REUSEPORT"):
        return [first] * count
    taken = HostPort(where.host, first.getsockname()[1])
    first.close()
    return [_open_tcp(taken, reuse_port=True) for _ in range(count)]


def _open_tcp(where: HostPort, reuse_port: bool) -> socket.socket:
    assert where.port is not None
    if not where.host:
        both = socket.has_dualstack_ipv6()
        return socket.create_server(
            ("", where.port),
            family=socket.AF_INET6 if both else socket.AF_INET,
            dualstack_ipv6=both,
            backlog=_BACKLOG,
            reuse_port=reuse_port,
        )
    found = socket.getaddrinfo(
        where.address, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # A name such as localhost may stand for both families: IPv4 is what the original listened on.
    family, _, _, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
    return socket.create_server(address[:2], family=family, backlog=_BACKLOG, reuse_port=reuse_port)


def _listen_unix(path: Path) -> socket.socket:
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        # Nobody can connect between bind and chmod: there is no listen yet.
        listening.bind(str(path))
        path.chmod(0o660)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that is gone; one that answers is left alone."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)


def _describe(where: HostPort | UnixPath) -> str:
    if isinstance(where, UnixPath):
        return f"unix:{where.path}"
    return f"{where.host}:{where.port}"


def url(listening: socket.socket, tls: bool) -> str:
    """What to put into a client to reach the socket."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host = {"::": "localhost", "0.0.0.0": "localhost"}.get(name[0], name[0])
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{host}:{name[1]}"
