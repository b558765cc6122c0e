"""``wasi:http/types`` as handlers of requests use it; the entry is ``wasi:http/incoming-handler``.

The request and the response-outparam are the first handles of such a guest
(``ComponentContext``). The bodies are its standard input and output.
"""

from __future__ import annotations

from struct import pack

from wagi.guest.capi.component_linker import define_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestTrap
from wagi.guest.http_error_code import HttpErrorCode
from wagi.guest.http_exchange import HttpExchange
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.http_bodies import (
    FutureTrailers,
    IncomingBody,
    OutgoingBody,
)
from wagi.guest.preview2.http_errors import HttpIoError, read_error
from wagi.guest.preview2.http_field_calls import TYPES
from wagi.guest.preview2.http_fields import Fields
from wagi.guest.preview2.http_messages import (
    IncomingRequest,
    OutgoingResponse,
    ResponseOutparam,
    ResponseSink,
)
from wagi.guest.preview2.polling import Pollable
from wagi.guest.preview2.results import NONE, OK, write_some_bytes
from wagi.guest.preview2.streams import IoError, StdinStream

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
"""The cases of the variant ``method``, in order; another one has the method as a string."""
SCHEMES = ("http", "https")
"""The cases of the variant ``scheme``, in order; another one has the scheme as a string."""
ERROR = pack("<II", 1, 0)
"""The error of a ``result`` without a payload, with which a function fails that may be called once.
"""
_MIN_STATUS, _MAX_STATUS = 100, 999  # as in wasmtime; the gateway sends those from 200 to 599


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    for resource, kind in (
        ("incoming-request", IncomingRequest),
        ("incoming-body", IncomingBody),
        ("future-trailers", FutureTrailers),
        ("outgoing-response", OutgoingResponse),
        ("outgoing-body", OutgoingBody),
        ("response-outparam", ResponseOutparam),
    ):
        define_drop(linker, TYPES, resource, kind)
    for name, parameters, results, call in (
        ("[method]incoming-request.method", "II", "", request_method),
        ("[method]incoming-request.path-with-query", "II", "", request_path),
        ("[method]incoming-request.scheme", "II", "", request_scheme),
        ("[method]incoming-request.authority", "II", "", request_authority),
        ("[method]incoming-request.headers", "I", "I", request_headers),
        ("[method]incoming-request.consume", "II", "", request_consume),
        ("[method]incoming-body.stream", "II", "", incoming_stream),
        ("[static]incoming-body.finish", "I", "I", incoming_finish),
        ("[method]future-trailers.subscribe", "I", "I", trailers_subscribe),
        ("[method]future-trailers.get", "II", "", trailers_get),
        ("[constructor]outgoing-response", "I", "I", response_construct),
        ("[method]outgoing-response.status-code", "I", "I", response_status),
        ("[method]outgoing-response.set-status-code", "II", "I", response_set_status),
        ("[method]outgoing-response.headers", "I", "I", response_headers),
        ("[method]outgoing-response.body", "II", "", response_body),
        ("[method]outgoing-body.write", "II", "", outgoing_write),
        ("[static]outgoing-body.finish", "IIII", "", outgoing_finish),
        ("[static]response-outparam.set", "IIIIQIIII", "", outparam_set),
        ("http-error-code", "II", "", http_error_code),
    ):
        define_call(linker, TYPES, name, parameters, results, call)


# The request


def request_method(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the method."""
    write_method(guest, out, guest.handles.get(handle, IncomingRequest).head.method)


def write_method(guest: ComponentContext, out: int, method: str) -> None:
    """Write a ``method``: the case, and the string of another method."""
    if method in METHODS:
        guest.memory.write(out, bytes((METHODS.index(method),)))
    else:
        write_some_bytes(guest, out, method.encode())
        guest.memory.write(out, bytes((len(METHODS),)))


def request_path(guest: ComponentContext, handle: int, out: int) -> None:
    """Write path and query."""
    head = guest.handles.get(handle, IncomingRequest).head
    write_some_bytes(guest, out, head.path_with_query.encode())


def request_scheme(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the scheme."""
    head = guest.handles.get(handle, IncomingRequest).head
    guest.memory.write(out, pack("<II", 1, SCHEMES.index(head.scheme)))


def request_authority(guest: ComponentContext, handle: int, out: int) -> None:
    """Write host and port."""
    head = guest.handles.get(handle, IncomingRequest).head
    write_some_bytes(guest, out, head.authority.encode())


def request_headers(guest: ComponentContext, handle: int) -> int:
    """Return the header fields."""
    return guest.handles.add(Fields(guest.handles.get(handle, IncomingRequest).head.headers))


def request_consume(guest: ComponentContext, handle: int, out: int) -> None:
    """Return the body, once."""
    request = guest.handles.get(handle, IncomingRequest)
    if request.is_consumed:
        guest.memory.write(out, ERROR)
        return
    request.is_consumed = True
    body = guest.handles.add(IncomingBody(StdinStream(guest)))
    guest.memory.write(out, pack("<II", 0, body))


# Bodies that are received


def incoming_stream(guest: ComponentContext, handle: int, out: int) -> None:
    """Return the stream of a body, once."""
    body = guest.handles.get(handle, IncomingBody)
    if body.stream is None:
        guest.memory.write(out, ERROR)
        return
    stream, body.stream = body.stream, None
    guest.memory.write(out, pack("<II", 0, guest.handles.add(stream)))


def incoming_finish(guest: ComponentContext, handle: int) -> int:
    """Return the future of the trailers."""
    guest.handles.take(handle, IncomingBody).close()
    return guest.handles.add(FutureTrailers())


def trailers_subscribe(guest: ComponentContext, handle: int) -> int:
    """Return a pollable for the trailers."""
    return guest.handles.add(Pollable(guest.handles.get(handle, FutureTrailers)))


def trailers_get(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the trailers, once: ``some(ok(ok(none)))``."""
    future = guest.handles.get(handle, FutureTrailers)
    guest.memory.write(out, pack("<QQQQ", 1, future.was_read, 0, 0))
    future.was_read = True


# The response


def response_construct(guest: ComponentContext, handle: int) -> int:
    """Make a response."""
    headers = guest.handles.take(handle, Fields).take()
    return guest.handles.add(OutgoingResponse(headers))


def response_status(guest: ComponentContext, handle: int) -> int:
    """Return the status code."""
    return guest.handles.get(handle, OutgoingResponse).status


def response_set_status(guest: ComponentContext, handle: int, status: int) -> int:
    """Set the status code."""
    response = guest.handles.get(handle, OutgoingResponse)
    if not _MIN_STATUS <= status <= _MAX_STATUS:
        return 1
    response.status = status
    return 0


def response_headers(guest: ComponentContext, handle: int) -> int:
    """Return the header fields."""
    return guest.handles.add(Fields(guest.handles.get(handle, OutgoingResponse).headers))


def response_body(guest: ComponentContext, handle: int, out: int) -> None:
    """Return the body, once."""
    response = guest.handles.get(handle, OutgoingResponse)
    if response.sink is not None:
        guest.memory.write(out, ERROR)
        return
    response.sink = ResponseSink(guest.stdout, _exchange(guest))
    body = OutgoingBody(response.sink, response.headers, HttpErrorCode.HTTP_RESPONSE_BODY_SIZE)
    guest.memory.write(out, pack("<II", 0, guest.handles.add(body)))


def _exchange(guest: ComponentContext) -> HttpExchange:
    if guest.exchange is None:
        raise GuestTrap("it makes a response, but it answers no request")
    return guest.exchange


def outparam_set(
    guest: ComponentContext,
    handle: int,
    is_error: int,
    response_or_code: int,
    has_text: int,
    pointer: int,
    length: int,
    *_: int,
) -> None:
    """Set the response, or an error in place of it.

    The flat form of an ``error-code`` joins the payloads of all cases: of those with a string, the
    first three numbers are whether there is one, its address and its length.
    """
    exchange = guest.handles.take(handle, ResponseOutparam).exchange
    if is_error:
        try:
            exchange.error = read_error(guest, response_or_code, has_text, pointer, length)
        except ValueError:
            raise GuestTrap(f"it passed the error code {response_or_code}") from None
        return
    response = guest.handles.take(response_or_code, OutgoingResponse)
    exchange.status, exchange.headers = response.status, response.headers
    if response.sink is None:
        exchange.is_finished = True
    else:
        response.sink.begin()


# Bodies that are sent


def outgoing_write(guest: ComponentContext, handle: int, out: int) -> None:
    """Return the stream of a body, once."""
    body = guest.handles.get(handle, OutgoingBody)
    if body.is_taken:
        guest.memory.write(out, ERROR)
    else:
        guest.memory.write(out, pack("<II", 0, guest.handles.add(body.open())))


def outgoing_finish(
    guest: ComponentContext, handle: int, has_trailers: int, trailers: int, out: int
) -> None:
    """Complete a body."""
    body = guest.handles.take(handle, OutgoingBody)
    fields = guest.handles.take(trailers, Fields).take() if has_trailers else ()
    error = body.finish(fields)
    if error is None:
        guest.memory.write(out, OK)
    else:
        guest.memory.write(out, pack("<Q", 1) + error.packed())


def http_error_code(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the code of an error of a stream."""
    error = guest.handles.get(handle, IoError)
    if isinstance(error, HttpIoError):
        guest.memory.write(out, pack("<Q", 1) + error.error.packed())
    else:
        guest.memory.write(out, NONE)
