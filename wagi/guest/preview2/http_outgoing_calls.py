"""``wasi:http/outgoing-handler``, and the resources of ``wasi:http/types`` for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from functools import partial
from struct import pack
from typing import Any

from wagi.guest.capi.component_linker import define_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestTrap
from wagi.guest.http_error_code import HttpErrorCode
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.http_bodies import IncomingBody, OutgoingBody
from wagi.guest.preview2.http_calls import ERROR, METHODS, SCHEMES, write_method
from wagi.guest.preview2.http_errors import HttpError
from wagi.guest.preview2.http_field_calls import TYPES
from wagi.guest.preview2.http_fields import Fields
from wagi.guest.preview2.http_messages import OutgoingRequest, RequestOptions
from wagi.guest.preview2.http_outbound import IncomingResponse, PendingResponse, RequestBody
from wagi.guest.preview2.polling import Pollable
from wagi.guest.preview2.results import NONE, write_some_bytes
from wagi.guest.wasi.http_session import HttpClient, OutboundError, OutboundRequest, Response

HANDLER = "wasi:http/outgoing-handler"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")  # RFC 3986, section 3.1
_PATH = re.compile(r"/[!-\"$-;=-~\x80-\U0010ffff]*|\?[!-\"$-;=-~\x80-\U0010ffff]*|")
_AUTHORITY = re.compile(r"[!$%&'()*+,\-.0-9:;=@A-Z\[\]_a-z~]+")  # RFC 3986, section 3.2
_MAX_TEXT = 64 * 1024  # bytes of a method, path or authority
_NANOSECONDS = 1e9


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    for resource, kind in (
        ("outgoing-request", OutgoingRequest),
        ("request-options", RequestOptions),
        ("future-incoming-response", PendingResponse),
        ("incoming-response", IncomingResponse),
    ):
        define_drop(linker, TYPES, resource, kind)
    request = "[method]outgoing-request."
    for name, parameters, results, call in (
        ("[constructor]outgoing-request", "I", "I", construct),
        (request + "body", "II", "", body),
        (request + "method", "II", "", method),
        (request + "set-method", "IIII", "I", set_method),
        (request + "path-with-query", "II", "", path_with_query),
        (request + "set-path-with-query", "IIII", "I", set_path_with_query),
        (request + "scheme", "II", "", scheme),
        (request + "set-scheme", "IIIII", "I", set_scheme),
        (request + "authority", "II", "", authority),
        (request + "set-authority", "IIII", "I", set_authority),
        (request + "headers", "I", "I", headers),
        ("[method]future-incoming-response.subscribe", "I", "I", subscribe),
        ("[method]future-incoming-response.get", "II", "", get),
        ("[method]incoming-response.status", "I", "I", status),
        ("[method]incoming-response.headers", "I", "I", response_headers),
        ("[method]incoming-response.consume", "II", "", consume),
        ("[constructor]request-options", "", "I", construct_options),
    ):
        define_call(linker, TYPES, name, parameters, results, call)
    for name in ("connect-timeout", "first-byte-timeout", "between-bytes-timeout"):
        field = name.replace("-", "_")
        options = "[method]request-options."
        define_call(linker, TYPES, options + name, "II", "", partial(get_option, field))
        setter = partial(set_option, field)
        define_call(linker, TYPES, f"{options}set-{name}", "IIQ", "I", setter)
    define_call(linker, HANDLER, "handle", "IIII", "", handle)


# The request


def construct(guest: ComponentContext, fields: int) -> int:
    """Make a request."""
    items = guest.handles.take(fields, Fields).take()
    return guest.handles.add(OutgoingRequest(items))


def body(guest: ComponentContext, handle: int, out: int) -> None:
    """Return the body, once."""
    request = guest.handles.get(handle, OutgoingRequest)
    if request.body is not None:
        guest.memory.write(out, ERROR)
        return
    request.body = RequestBody()
    made = OutgoingBody(request.body, request.headers, HttpErrorCode.HTTP_REQUEST_BODY_SIZE)
    guest.memory.write(out, pack("<II", 0, guest.handles.add(made)))


def method(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the method."""
    write_method(guest, out, guest.handles.get(handle, OutgoingRequest).method)


def set_method(guest: ComponentContext, handle: int, case: int, pointer: int, length: int) -> int:
    """Set the method."""
    request = guest.handles.get(handle, OutgoingRequest)
    if case > len(METHODS):
        raise GuestTrap(f"it passed the method {case}")
    text = METHODS[case] if case < len(METHODS) else _text(guest, pointer, length)
    if not _TOKEN.fullmatch(text):
        return 1
    request.method = text
    return 0


def path_with_query(guest: ComponentContext, handle: int, out: int) -> None:
    """Write path and query."""
    _write_option(guest, out, guest.handles.get(handle, OutgoingRequest).path_with_query)


def set_path_with_query(
    guest: ComponentContext, handle: int, is_some: int, pointer: int, length: int
) -> int:
    """Set path and query."""
    request = guest.handles.get(handle, OutgoingRequest)
    text = _text(guest, pointer, length) if is_some else None
    if text is not None and not _PATH.fullmatch(text):
        return 1
    request.path_with_query = text
    return 0


def scheme(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the scheme: an ``option`` of a variant."""
    found = guest.handles.get(handle, OutgoingRequest).scheme
    if found is None:
        guest.memory.write(out, NONE)
    elif found in SCHEMES:
        guest.memory.write(out, pack("<II", 1, SCHEMES.index(found)))
    else:
        write_some_bytes(guest, out + 4, found.encode())
        guest.memory.write(out, pack("<II", 1, len(SCHEMES)))


def set_scheme(
    guest: ComponentContext, handle: int, is_some: int, case: int, pointer: int, length: int
) -> int:
    """Set the scheme."""
    request = guest.handles.get(handle, OutgoingRequest)
    if not is_some:
        request.scheme = None
        return 0
    if case > len(SCHEMES):
        raise GuestTrap(f"it passed the scheme {case}")
    text = SCHEMES[case] if case < len(SCHEMES) else _text(guest, pointer, length)
    if not _SCHEME.fullmatch(text):
        return 1
    request.scheme = text
    return 0


def authority(guest: ComponentContext, handle: int, out: int) -> None:
    """Write host and port."""
    _write_option(guest, out, guest.handles.get(handle, OutgoingRequest).authority)


def set_authority(
    guest: ComponentContext, handle: int, is_some: int, pointer: int, length: int
) -> int:
    """Set host and port."""
    request = guest.handles.get(handle, OutgoingRequest)
    text = _text(guest, pointer, length) if is_some else None
    if text is not None and not _AUTHORITY.fullmatch(text):
        return 1
    request.authority = text
    return 0


def headers(guest: ComponentContext, handle: int) -> int:
    """Return the header fields."""
    return guest.handles.add(Fields(guest.handles.get(handle, OutgoingRequest).headers))


def _text(guest: ComponentContext, pointer: int, length: int) -> str:
    """Read a string of a guest. One that is too long is not valid for any use of it."""
    guest.memory.require(pointer, length)
    try:
        return guest.memory.read(pointer, min(length, _MAX_TEXT + 1)).decode()
    except UnicodeDecodeError:
        raise GuestTrap("it passed a string that is not UTF-8") from None


def _write_option(guest: ComponentContext, out: int, text: str | None) -> None:
    write_some_bytes(guest, out, None if text is None else text.encode())


# Options


def construct_options(guest: ComponentContext) -> int:
    """Make options."""
    return guest.handles.add(RequestOptions())


def get_option(field: str, guest: ComponentContext, handle: int, out: int) -> None:
    """Write a time limit in nanoseconds."""
    value: int | None = getattr(guest.handles.get(handle, RequestOptions), field)
    guest.memory.write(out, NONE if value is None else pack("<QQ", 1, value))


def set_option(
    field: str, guest: ComponentContext, handle: int, is_some: int, nanoseconds: int
) -> int:
    """Set a time limit in nanoseconds."""
    options = guest.handles.get(handle, RequestOptions)
    setattr(options, field, nanoseconds if is_some else None)
    return 0


# Sending


def handle(
    guest: ComponentContext, request_handle: int, has_options: int, options_handle: int, out: int
) -> None:
    """Send a request."""
    request = guest.handles.take(request_handle, OutgoingRequest)
    options = RequestOptions()
    if has_options:
        options = guest.handles.take(options_handle, RequestOptions)
    if request.scheme not in (None, *SCHEMES):
        _fail(guest, out, HttpErrorCode.HTTP_PROTOCOL_ERROR)
    elif request.authority is None:
        _fail(guest, out, HttpErrorCode.HTTP_REQUEST_URI_INVALID)
    else:
        sink = request.body or RequestBody()
        if request.body is None:
            sink.finish(())
        sink.begin()
        try:
            task = guest.http.open(_sender(request, options, sink))
        except OutboundError as error:
            sink.stop()
            guest.http.note(error)
            _fail(guest, out, error.http_code)
            return
        pending = guest.handles.add(PendingResponse(task, guest.http))
        guest.memory.write(out, pack("<QQ", 0, pending))


def _fail(guest: ComponentContext, out: int, code: HttpErrorCode) -> None:
    """Write an error of ``handle``."""
    guest.memory.write(out, pack("<Q", 1) + HttpError(code).packed())


def _sender(
    request: OutgoingRequest, options: RequestOptions, sink: RequestBody
) -> Callable[[HttpClient], Coroutine[Any, Any, Response]]:
    url = f"{request.scheme or 'https'}://{request.authority}{request.path_with_query or '/'}"
    fields = [(name.decode(), _decoded(value)) for name, value in request.headers]

    async def send(client: HttpClient) -> Response:
        # The guest has suspended meanwhile: most have finished the body by now.
        content = sink.whole()
        try:
            return await client.send(
                OutboundRequest(
                    request.method,
                    url,
                    fields,
                    sink.pieces() if content is None else content,
                    follows_redirects=False,
                    connect_timeout=_seconds(options.connect_timeout),
                    first_byte_timeout=_seconds(options.first_byte_timeout),
                    between_bytes_timeout=_seconds(options.between_bytes_timeout),
                )
            )
        except BaseException:
            sink.stop()
            raise

    return send


def _decoded(value: bytes) -> str:
    """Decode the value of a header field, which may be in the historical encoding of HTTP."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / _NANOSECONDS


# The response


def subscribe(guest: ComponentContext, handle: int) -> int:
    """Return a pollable for the response."""
    return guest.handles.add(Pollable(guest.handles.get(handle, PendingResponse)))


def get(guest: ComponentContext, handle: int, out: int) -> None:
    """Write the response, once: an ``option`` of a ``result`` of a ``result``.

    Layout: the cases at the offsets 0, 8 and 16, and the payload at 24.
    """
    pending = guest.handles.get(handle, PendingResponse)
    if pending.was_read:
        guest.memory.write(out, pack("<QQ", 1, 1))
        return
    if not pending.is_ready:
        guest.memory.write(out, NONE)
        return
    try:
        response = pending.take()
    except OutboundError as error:
        guest.http.note(error)
        guest.memory.write(out, pack("<QQQ", 1, 0, 1) + HttpError(error.http_code).packed())
    else:
        guest.memory.write(out, pack("<QQQQ", 1, 0, 0, guest.handles.add(response)))


def status(guest: ComponentContext, handle: int) -> int:
    """Return the status code."""
    return guest.handles.get(handle, IncomingResponse).status


def response_headers(guest: ComponentContext, handle: int) -> int:
    """Return the header fields."""
    return guest.handles.add(Fields(guest.handles.get(handle, IncomingResponse).headers))


def consume(guest: ComponentContext, handle: int, out: int) -> None:
    """Return the body, once."""
    response = guest.handles.get(handle, IncomingResponse)
    if response.body is None:
        guest.memory.write(out, ERROR)
        return
    stream, response.body = response.body, None
    guest.memory.write(out, pack("<II", 0, guest.handles.add(IncomingBody(stream))))
