"""Host calls for outbound HTTP: the import module ``wasi_experimental_http``.

Source: https://github.com/deislabs/wasi-experimental-http
A guest that waits for a response is suspended like a guest that waits for input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from functools import wraps
from typing import TypeVar

from wagi.guest.capi.linker import Linker, Waiting
from wagi.guest.errno import GuestFault, NoMemoryFault
from wagi.guest.wasi.context import WasiContext
from wagi.guest.wasi.http_session import ErrorCode, OutboundError, OutboundRequest

MODULE = "wasi_experimental_http"
_READ_MAX = 1024 * 1024
T = TypeVar("T")


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    linker.define_async(MODULE, "req", "IIIIIIIIII", _with_error_codes_async(req))
    linker.define(MODULE, "close", "I", _with_error_codes(close))
    linker.define(MODULE, "header_get", "IIIIII", _with_error_codes(header_get))
    linker.define(MODULE, "headers_get_all", "IIII", _with_error_codes(headers_get_all))
    linker.define_async(MODULE, "body_read", "IIII", _with_error_codes_async(body_read))


def _with_error_codes(call: Callable[..., int]) -> Callable[..., int]:
    """Make a host call return the error codes of the interface for its exceptions."""

    @wraps(call)
    def wrapper(wasi: WasiContext, *arguments: int) -> int:
        try:
            return call(wasi, *arguments)
        except (GuestFault, UnicodeDecodeError, OutboundError) as error:
            return _error_code(wasi, error)

    return wrapper


def _with_error_codes_async(call: Callable[..., Waiting]) -> Callable[..., Waiting]:
    """Do the same for a host call that can wait."""

    @wraps(call)
    def wrapper(wasi: WasiContext, *arguments: int) -> Waiting:
        try:
            return (yield from call(wasi, *arguments))
        except (GuestFault, UnicodeDecodeError, OutboundError) as error:
            return _error_code(wasi, error)

    return wrapper


def _error_code(
    wasi: WasiContext, error: GuestFault | UnicodeDecodeError | OutboundError
) -> ErrorCode:
    if isinstance(error, OutboundError):
        wasi.http.note(error)
        return error.code
    if isinstance(error, UnicodeDecodeError):
        return ErrorCode.UTF8
    no_memory = isinstance(error, NoMemoryFault)
    return ErrorCode.MEMORY_NOT_FOUND if no_memory else ErrorCode.MEMORY_ACCESS


def req(
    wasi: WasiContext,
    url: int,
    url_length: int,
    method: int,
    method_length: int,
    headers: int,
    headers_length: int,
    body: int,
    body_length: int,
    status: int,
    handle: int,
) -> Waiting:
    """Send a request, and wait for its response head; write the status and a handle."""
    memory = wasi.memory
    memory.require(status, 2)
    memory.require(handle, 4)
    request = OutboundRequest(
        memory.read(method, method_length).decode(),
        memory.read(url, url_length).decode(),
        _parse_headers(memory.read(headers, headers_length).decode()),
        memory.read(body, body_length),
    )
    number, code = yield from _result(wasi, wasi.http.send(request))
    memory.write_u32(handle, number)
    memory.write_u16(status, code)
    return 0


def _result(wasi: WasiContext, task: asyncio.Task[T]) -> Generator[None, None, T]:
    """Suspend the guest until a task is done, and return its result."""
    while not task.done():
        wasi.wait.futures = (task,)
        yield
    return task.result()


def close(wasi: WasiContext, handle: int) -> int:
    """Close a response."""
    wasi.http.close_response(handle)
    return 0


def header_get(
    wasi: WasiContext, handle: int, name: int, name_length: int, value: int, room: int, written: int
) -> int:
    """Write the value of the first header of a name; names are case-insensitive."""
    response = wasi.http.find(handle)
    wanted = wasi.memory.read(name, name_length).decode().lower()
    for key, found in response.headers:
        if key.lower() == wanted:
            return _copy(wasi, found.encode("latin-1"), value, room, written)
    raise OutboundError(ErrorCode.HEADER_NOT_FOUND)


def headers_get_all(wasi: WasiContext, handle: int, buffer: int, room: int, written: int) -> int:
    """Write all headers, as lines of ``name:value``."""
    response = wasi.http.find(handle)
    text = "".join(f"{name}:{value}\n" for name, value in response.headers)
    return _copy(wasi, text.encode("latin-1"), buffer, room, written)


def body_read(
    wasi: WasiContext, handle: int, buffer: int, room: int, read: int
) -> Waiting:  # fmt: skip
    """Write the next bytes of the body; 0 bytes at its end."""
    memory = wasi.memory
    response = wasi.http.find(handle)
    memory.require(buffer, room)
    memory.require(read, 4)
    if room == 0:
        memory.write_u32(read, 0)
        return 0
    data = yield from _result(wasi, wasi.http.read(response, min(room, _READ_MAX)))
    memory.write(buffer, data)
    memory.write_u32(read, len(data))
    return 0


def _copy(wasi: WasiContext, data: bytes, buffer: int, room: int, written: int) -> int:
    if len(data) > room:
        raise OutboundError(ErrorCode.BUFFER_TOO_SMALL)
    wasi.memory.write(buffer, data)
    wasi.memory.write_u32(written, len(data))
    return 0


def _parse_headers(text: str) -> list[tuple[str, str]]:
    """Parse lines of ``name:value``.

    Raises:
        OutboundError: If a line has no colon.
    """
    headers = []
    for line in filter(None, text.split("\n")):
        name, colon, value = line.partition(":")
        if not colon:
            raise OutboundError(ErrorCode.INVALID_ENCODING, f"not a header line: {line[:64]!r}")
        headers.append((name.strip(), value.strip()))
    return headers
