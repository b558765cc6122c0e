"""What a guest of wasi:http and the gateway exchange: a request and its response.

The bodies are not part of it: they are the guest's input and output.
"""

from __future__ import annotations

from dataclasses import dataclass

HeaderFields = tuple[tuple[bytes, bytes], ...]
"""Names and values of header fields, in order."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The head of a request, as the guest gets it.

    Attributes:
        method: The method.
        path_with_query: The path and the query as the client sent them.
        scheme: The scheme of the requested URL, ``http`` or ``https``.
        authority: The host of that URL, with its port unless it is the default of the scheme.
        headers: The header fields; the names are in lowercase.
    """

    method: str
    path_with_query: str
    scheme: str
    authority: str
    headers: HeaderFields


@dataclass(slots=True)
class HttpExchange:
    """A request, and as much of its response as the guest has set.

    Attributes:
        request: The request.
        status: Status code of the response; 0 until the guest sets the response.
        headers: Header fields of the response.
        error: The error that the guest sets in place of a response; empty for none.
        is_finished: Whether the guest has finished the body of the response.
        is_abandoned: Whether the guest has dropped the body instead.
        trailers: The trailer fields that follow the body.
    """

    request: HttpRequest
    status: int = 0
    headers: HeaderFields = ()
    error: str = ""
    is_finished: bool = False
    is_abandoned: bool = False
    trailers: HeaderFields = ()
