"""Sends the bytes of a file, as fast as the client reads.

The kernel copies from the file to the socket (``sendfile``), so a response takes no memory of its
own. With TLS, on the other hand, and while earlier bytes wait in the write buffer, the file is read
piece by piece, each after the client has read most of the previous one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from array import array
from collections.abc import Callable
from fcntl import ioctl

from wagi.http.request import Channel, Request
from wagi.static.conditions import ByteRange

STALL_TIMEOUT_S = 60.0
"""Time without progress after which a client is disconnected, as nginx's ``send_timeout``."""
_SENDFILE_SIZE = 512 * 1024  # bytes at a time, before other requests have their turn
_READ_SIZE = 32 * 1024
_UNSUPPORTED = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP))


class TruncatedFileError(Exception):
    """The file has become shorter than when the response began."""


async def send_range(
    request: Request, descriptor: int, part: ByteRange, on_sent: Callable[[int], None]
) -> None:
    """Send a part of a file after the head of a response.

    Args:
        request: The request to answer.
        descriptor: The file, open for reading.
        part: What to send.
        on_sent: Called with numbers of bytes that were sent.

    Raises:
        TruncatedFileError: The file has become shorter.
        ConnectionError: The client has disconnected, or does not read.
        OSError: The file cannot be read.
    """
    channel = request.channel
    offset, end = part.offset, part.offset + part.size
    uses_sendfile = request.endpoint.scheme == "http"
    while offset < end:
        await asyncio.sleep(0)
        count = 0
        if uses_sendfile and channel.can_write and channel.descriptor is not None:
            try:
                count = _sendfile(channel.descriptor, descriptor, offset, end - offset)
            except BlockingIOError:
                uses_sendfile = await _wait_writable(channel)
                continue
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                uses_sendfile = False
                continue
        else:
            data = os.pread(descriptor, min(end - offset, _READ_SIZE), offset)
            count = len(data)
            channel.write(data)
            await _drain(channel)
        if not count:
            raise TruncatedFileError("the file was truncated while it was sent")
        offset += count
        on_sent(count)


def _sendfile(sock: int, descriptor: int, offset: int, count: int) -> int:
    return os.sendfile(sock, descriptor, offset, min(count, _SENDFILE_SIZE))


async def _wait_writable(channel: Channel) -> bool:
    """Wait until the kernel takes more bytes for the client.

    Returns:
        False if that is not possible, because the process has no file descriptors left.
    """
    loop = asyncio.get_running_loop()
    assert channel.descriptor is not None  # it was in use just now
    # The event loop watches the socket itself for its transport: watch a duplicate.
    try:
        duplicate = os.dup(channel.descriptor)
    except OSError:
        return False
    try:
        writable = loop.create_future()
        loop.add_writer(duplicate, _set_result, writable)
        try:
            await _with_progress(channel, writable)
        finally:
            loop.remove_writer(duplicate)
    finally:
        os.close(duplicate)
    return True


async def _drain(channel: Channel) -> None:
    """Wait until the write buffer has room."""
    if channel.can_write:
        return
    task = asyncio.ensure_future(channel.drain())
    try:
        await _with_progress(channel, task)
    finally:
        task.cancel()


async def _with_progress(channel: Channel, future: asyncio.Future[None]) -> None:
    """Wait for a future as long as the client reads.

    Raises:
        ConnectionError: The client has read nothing for ``STALL_TIMEOUT_S``.
    """
    unsent = _unsent(channel)
    while not (await asyncio.wait((future,), timeout=STALL_TIMEOUT_S))[0]:
        before, unsent = unsent, _unsent(channel)
        if unsent == before:
            raise ConnectionAbortedError("the client does not read the response")
    await future


def _unsent(channel: Channel) -> int:
    """Return the number of bytes in the kernel that the client has not acknowledged."""
    if channel.descriptor is None:
        return 0
    number = array("i", [0])
    ioctl(channel.descriptor, termios.TIOCOUTQ, number)
    return number[0]


def _set_result(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
