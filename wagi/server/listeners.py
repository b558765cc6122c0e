"""The listening sockets of a server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wagi.config.values import HostPort, UnixPath
from wagi.errors import WagiError

BACKLOG = 1024
"""Connections that wait to be accepted, per listening socket."""


@contextmanager
def listen(address: HostPort | UnixPath, count: int) -> Iterator[list[socket.socket]]:
    """Open a listening socket for each worker, and close them at the end of the block.

    Each TCP socket has its own accept queue (SO_REUSEPORT); the kernel distributes new connections
    among them. A Unix socket has a single queue: it is the same socket ``count`` times.

    Args:
        address: Where to listen.
        count: The number of workers.

    Raises:
        WagiError: The address cannot be used.
    """
    try:
        if isinstance(address, UnixPath):
            sockets = [_listen_unix(address.path)] * count
        else:
            sockets = _listen_tcp(address, count)
    except OSError as error:
        # The message of an error from asyncio or Python repeats the address.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise WagiError(f"cannot listen on {_describe(address)}: {reason}") from None
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


def _listen_unix(path: Path) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # Connections are possible only from listen on: chmod before it leaves no gap.
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a server that has died; leave one that accepts connections."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)


def _describe(address: HostPort | UnixPath) -> str:
    if isinstance(address, UnixPath):
        return f"unix:{address.path}"
    return f"{address.host}:{address.port}"


def url(listener: socket.socket, tls: bool) -> str:
    """The URL that clients use for a listening socket; ``unix:PATH`` for a Unix socket."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host = {"::": "localhost", "0.0.0.0": "localhost"}.get(name[0], name[0])
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{host}:{name[1]}"
