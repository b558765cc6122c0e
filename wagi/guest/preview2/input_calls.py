"""``wasi:io/error``, and the input streams of ``wasi:io/streams``."""

from __future__ import annotations

from struct import pack

from wagi.guest.capi.component_linker import ComponentWaiting, define_call, define_waiting_call
from wagi.guest.capi.linker import Linker
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.polling import Pollable, wait_for
from wagi.guest.preview2.results import write_bytes, write_ok_bytes
from wagi.guest.preview2.stream_results import write_count, write_error
from wagi.guest.preview2.streams import (
    READ_MAX,
    InputStream,
    IoError,
    StreamClosedError,
    StreamFailedError,
)

ERROR, STREAMS = "wasi:io/error", "wasi:io/streams"


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    define_call(linker, ERROR, "[method]error.to-debug-string", "II", "", to_debug_string)
    define_drop(linker, ERROR, "error", IoError)
    define_drop(linker, STREAMS, "input-stream", InputStream)
    prefix = "[method]input-stream."
    define_call(linker, STREAMS, prefix + "read", "IQI", "", read)
    define_call(linker, STREAMS, prefix + "skip", "IQI", "", skip)
    define_call(linker, STREAMS, prefix + "subscribe", "I", "I", subscribe)
    define_waiting_call(linker, STREAMS, prefix + "blocking-read", "IQI", "", blocking_read)
    define_waiting_call(linker, STREAMS, prefix + "blocking-skip", "IQI", "", blocking_skip)


def to_debug_string(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the text of an error."""
    write_bytes(guest, out, guest.handles.get(handle, IoError).text.encode())


def read(guest: ComponentContext, handle: int, length: int, out: int) -> None:
    """Read what is available."""
    _read(guest, guest.handles.get(handle, InputStream), length, out)


def blocking_read(
    guest: ComponentContext, handle: int, length: int, out: int
) -> ComponentWaiting | None:
    """Read at least one byte, waiting if necessary."""
    stream = guest.handles.get(handle, InputStream)
    if stream.is_ready or not length:
        _read(guest, stream, length, out)
        return None
    return _wait_and_read(guest, stream, min(length, READ_MAX), out)


def _read(guest: ComponentContext, stream: InputStream, length: int, out: int) -> None:
    try:
        data = stream.read(min(length, READ_MAX)) if length else b""
    except (StreamClosedError, StreamFailedError) as error:
        write_error(guest, out, error, 4)
    else:
        write_ok_bytes(guest, out, data)


def _wait_and_read(
    guest: ComponentContext, stream: InputStream, length: int, out: int
) -> ComponentWaiting:
    buffer = guest.allocate(length, 1)  # now: the guest cannot be called after a wait
    data = b""
    try:
        while not data:
            yield from wait_for(guest.wait, (stream,))
            data = stream.read(length)
    except (StreamClosedError, StreamFailedError) as error:
        write_error(guest, out, error, 4)
    else:
        guest.memory.write(buffer, data)
        guest.memory.write(out, pack("<III", 0, buffer, len(data)))
    return None


def skip(guest: ComponentContext, handle: int, length: int, out: int) -> None:
    """Read what is available, and discard it."""
    stream = guest.handles.get(handle, InputStream)
    write_count(guest, out, lambda: len(take(stream, length)))


def blocking_skip(guest: ComponentContext, handle: int, length: int, out: int) -> ComponentWaiting:
    """Read at least one byte, waiting if necessary, and discard it."""
    stream = guest.handles.get(handle, InputStream)
    if length:
        yield from wait_for(guest.wait, (stream,))
    write_count(guest, out, lambda: len(take(stream, length)))
    return None


def take(stream: InputStream, length: int) -> bytes:
    return stream.read(min(length, READ_MAX)) if length else b""


def subscribe(guest: ComponentContext, handle: int) -> int:
    """Return a pollable for input."""
    return guest.handles.add(Pollable(guest.handles.get(handle, InputStream)))
