"""The output streams of ``wasi:io/streams``."""

from __future__ import annotations

from wagi.guest.capi.component_linker import ComponentWaiting, define_call, define_waiting_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestTrap
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.input_calls import STREAMS, take
from wagi.guest.preview2.polling import Pollable, wait_for
from wagi.guest.preview2.results import OK
from wagi.guest.preview2.stream_results import write_count, write_done, write_error
from wagi.guest.preview2.streams import (
    WRITE_MAX,
    InputStream,
    OutputStream,
    StreamClosedError,
    StreamFailedError,
)

_BLOCKING_WRITE_MAX = 4096  # bytes, as the interface defines it


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    define_drop(linker, STREAMS, "output-stream", OutputStream)
    prefix = "[method]output-stream."
    for name, parameters, results, call in (
        ("check-write", "II", "", check_write),
        ("write", "IIII", "", write),
        ("write-zeroes", "IQI", "", write_zeroes),
        ("flush", "II", "", flush),
        ("subscribe", "I", "I", subscribe),
        ("splice", "IIQI", "", splice),
    ):
        define_call(linker, STREAMS, prefix + name, parameters, results, call)
    for name, parameters, waiting in (
        ("blocking-write-and-flush", "IIII", blocking_write),
        ("blocking-write-zeroes-and-flush", "IQI", blocking_write_zeroes),
        ("blocking-flush", "II", blocking_flush),
        ("blocking-splice", "IIQI", blocking_splice),
    ):
        define_waiting_call(linker, STREAMS, prefix + name, parameters, "", waiting)


def check_write(guest: ComponentContext, handle: int, out: int) -> None:
    """Write how many bytes the guest may write."""
    stream = guest.handles.get(handle, OutputStream)

    def check() -> int:
        stream.granted = min(stream.check(), WRITE_MAX)
        return stream.granted

    write_count(guest, out, check)


def write(guest: ComponentContext, handle: int, pointer: int, length: int, out: int) -> None:
    """Write bytes, not more than ``check-write`` has granted."""
    stream = _granted(guest, handle, length)
    write_done(guest, out, lambda: stream.write(guest.memory.read(pointer, length)))


def write_zeroes(guest: ComponentContext, handle: int, length: int, out: int) -> None:
    """Write zeros, not more than ``check-write`` has granted."""
    stream = _granted(guest, handle, length)
    write_done(guest, out, lambda: stream.write(bytes(length)))


def _granted(guest: ComponentContext, handle: int, length: int) -> OutputStream:
    stream = guest.handles.get(handle, OutputStream)
    if length > stream.granted:
        raise GuestTrap("it wrote more to a stream than check-write had permitted")
    stream.granted -= length
    return stream


def blocking_write(
    guest: ComponentContext, handle: int, pointer: int, length: int, out: int
) -> ComponentWaiting | None:
    """Write up to 4096 bytes, and wait until they have been passed on."""
    stream = guest.handles.get(handle, OutputStream)
    if length > _BLOCKING_WRITE_MAX:
        raise GuestTrap(f"it wrote more than {_BLOCKING_WRITE_MAX} bytes in one blocking write")
    return _write_all(guest, stream, guest.memory.read(pointer, length), out)


def blocking_write_zeroes(
    guest: ComponentContext, handle: int, length: int, out: int
) -> ComponentWaiting | None:
    """Write up to 4096 zeros, and wait until they have been passed on."""
    stream = guest.handles.get(handle, OutputStream)
    if length > _BLOCKING_WRITE_MAX:
        raise GuestTrap(f"it wrote more than {_BLOCKING_WRITE_MAX} bytes in one blocking write")
    return _write_all(guest, stream, bytes(length), out)


def _write_all(
    guest: ComponentContext, stream: OutputStream, data: bytes, out: int
) -> ComponentWaiting | None:
    stream.granted = 0
    try:
        if stream.check() >= len(data):  # the common case
            stream.write(data)
            stream.flush()
            if stream.is_flushed:
                guest.memory.write(out, OK)
                return None
            data = b""
    except (StreamClosedError, StreamFailedError) as error:
        write_error(guest, out, error, 4)
        return None
    return _wait_and_write(guest, stream, data, out)


def _wait_and_write(
    guest: ComponentContext, stream: OutputStream, data: bytes, out: int
) -> ComponentWaiting:
    try:
        while data:
            size = stream.check()
            if size:
                stream.write(data[:size])
                data = data[size:]
            else:
                yield from wait_for(guest.wait, (stream,))
        stream.flush()
        yield from _until_flushed(guest, stream)
    except (StreamClosedError, StreamFailedError) as error:
        write_error(guest, out, error, 4)
    else:
        guest.memory.write(out, OK)
    return None


def flush(guest: ComponentContext, handle: int, out: int) -> None:
    """Begin to pass on what has been written."""
    write_done(guest, out, guest.handles.get(handle, OutputStream).flush)


def blocking_flush(guest: ComponentContext, handle: int, out: int) -> ComponentWaiting | None:
    """Wait until everything that was written has been passed on."""
    return _write_all(guest, guest.handles.get(handle, OutputStream), b"", out)


def _until_flushed(guest: ComponentContext, stream: OutputStream) -> ComponentWaiting:
    while not stream.is_flushed:
        stream.wait_on(guest.wait)
        yield
        stream.check()
    return None


def subscribe(guest: ComponentContext, handle: int) -> int:
    """Return a pollable for room."""
    return guest.handles.add(Pollable(guest.handles.get(handle, OutputStream)))


def splice(guest: ComponentContext, handle: int, source: int, length: int, out: int) -> None:
    """Move what is available from an input stream to an output stream."""
    target = guest.handles.get(handle, OutputStream)
    stream = guest.handles.get(source, InputStream)
    write_count(guest, out, lambda: _splice(target, stream, length))


def blocking_splice(
    guest: ComponentContext, handle: int, source: int, length: int, out: int
) -> ComponentWaiting:
    """Move at least one byte, waiting for input and for room."""
    target = guest.handles.get(handle, OutputStream)
    stream = guest.handles.get(source, InputStream)
    if length:
        yield from wait_for(guest.wait, (stream,))
        yield from wait_for(guest.wait, (target,))
    write_count(guest, out, lambda: _splice(target, stream, length))
    return None


def _splice(target: OutputStream, source: InputStream, length: int) -> int:
    target.granted = 0
    data = take(source, min(length, target.check()))
    target.write(data)
    return len(data)
