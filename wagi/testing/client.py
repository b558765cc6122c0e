"""A client for tests of handlers, with an interface like that of ``requests``.

It sends requests to a gateway in this process, without sockets and with a record of the guest, or
to a server.
"""

from __future__ import annotations

import asyncio
import http.client
import json as json_
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from multidict import CIMultiDict, CIMultiDictProxy

from wagi.observe.exchange import Exchange, GuestRecord
from wagi.testing.local_gateway import Answer, LocalGateway

Fields = Mapping[str, str] | Sequence[tuple[str, str]]
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Attributes:
        target: Path and query.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Response:
    """A response, with the record of the guest if the gateway is in this process.

    Attributes:
        request: The request.
        status_code: The status.
        headers: The headers; ``getall`` returns all values of a name.
        content: The body as bytes.
        exchange: The record; None from a server.
        is_whole: Whether the body is complete.
    """

    def __init__(
        self,
        request: Request,
        status_code: int,
        headers: Sequence[tuple[str, str]],
        content: bytes,
        exchange: Exchange | None = None,
        is_whole: bool = True,
    ) -> None:
        self.request = request
        self.status_code = status_code
        self.headers = CIMultiDictProxy(CIMultiDict(headers))
        self.content = content
        self.exchange = exchange
        self.is_whole = is_whole

    def __repr__(self) -> str:
        return f"<Response [{self.status_code}] {self.request.method} {self.request.target}>"

    @property
    def ok(self) -> bool:
        """Whether the status is below 400 and the body is complete."""
        return self.status_code < 400 and self.is_whole

    @property
    def text(self) -> str:
        """The body decoded as UTF-8."""
        return self.content.decode()

    def json(self) -> Any:
        """Parse the body as JSON.

        Raises:
            ValueError: It is not valid JSON.
        """
        return json_.loads(self.content)

    @property
    def stderr(self) -> str:
        """The first 64 KiB of the guest's stderr."""
        return self._guest.stderr.decode(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """The guest's exit code: 0 if it returned, None if it trapped or was cancelled."""
        return self._guest.exit_code

    @property
    def trap(self) -> str | None:
        """The trap and the functions that were running; None if there was none."""
        return self._guest.trap

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the guest."""
        pairs = (item.decode(errors="replace").partition("=") for item in self._guest.variables)
        return {name: value for name, _, value in pairs}

    @property
    def argv(self) -> list[str]:
        """The arguments of the guest."""
        return [word.decode(errors="replace") for word in self._guest.argv]

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the guest, in seconds."""
        return self.exchange.cpu_seconds if self.exchange else 0.0

    @property
    def memory(self) -> int:
        """Size of the guest's memory at the end, in bytes."""
        return self._guest.memory

    @property
    def _guest(self) -> GuestRecord:
        if self.exchange is None:
            raise AttributeError("guests are recorded only by a gateway in this process")
        if self.exchange.guest is None:
            raise AttributeError(f"no guest ran for this request: {self.text}")
        return self.exchange.guest


def make_request(
    method: str,
    path: str,
    params: Fields | None = None,
    headers: Fields | None = None,
    data: bytes | str | Fields | None = None,
    json: Any = None,
) -> Request:
    """Create a request, with parameters like those of ``requests``.

    Args:
        method: The HTTP method.
        path: The path, optionally with a query. It is sent as it is.
        params: Parameters to add to the query.
        headers: The headers.
        data: A body, or the fields of a form.
        json: A value to send as JSON.
    """
    fields = list(_pairs(headers or ()))
    kind = ""
    if json is not None:
        body, kind = json_.dumps(json).encode(), "application/json"
    elif isinstance(data, bytes | str):
        body = data if isinstance(data, bytes) else data.encode()
    elif data is not None:
        body, kind = urlencode(list(_pairs(data))).encode(), _FORM
    else:
        body = b""
    if kind and "content-type" not in {name.lower() for name, _ in fields}:
        fields.append(("Content-Type", kind))
    if params:
        path += ("&" if "?" in path else "?") + urlencode(list(_pairs(params)))
    return Request(method.upper(), path, fields, body)


def _pairs(fields: Fields) -> Sequence[tuple[str, str]]:
    return list(fields.items()) if isinstance(fields, Mapping) else fields


class Client:
    """Sends requests and waits for the responses.

    Attributes:
        responses: All responses so far.
    """

    def __init__(self, send: Callable[[Request], Response]) -> None:
        """Create a client.

        Args:
            send: Sends a request, as made by ``in_process`` or ``over_http``.
        """
        self.responses: list[Response] = []
        self._send = send

    def request(self, method: str, path: str, **options: Any) -> Response:
        """Send a request.

        Args:
            method: The HTTP method.
            path: The path, optionally with a query.
            **options: Further parameters of ``make_request``.
        """
        response = self._send(make_request(method, path, **options))
        self.responses.append(response)
        return response

    def get(self, path: str, **options: Any) -> Response:
        """Send a GET request."""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> Response:
        """Send a HEAD request."""
        return self.request("HEAD", path, **options)

    def post(self, path: str, data: Any = None, **options: Any) -> Response:
        """Send a POST request."""
        return self.request("POST", path, data=data, **options)

    def put(self, path: str, data: Any = None, **options: Any) -> Response:
        """Send a PUT request."""
        return self.request("PUT", path, data=data, **options)

    def patch(self, path: str, data: Any = None, **options: Any) -> Response:
        """Send a PATCH request."""
        return self.request("PATCH", path, data=data, **options)

    def delete(self, path: str, **options: Any) -> Response:
        """Send a DELETE request."""
        return self.request("DELETE", path, **options)

    def options(self, path: str, **options: Any) -> Response:
        """Send an OPTIONS request."""
        return self.request("OPTIONS", path, **options)


class AsyncClient:
    """A client for coroutines: ``response = await client.get("/")``.

    Attributes:
        responses: All responses so far.
    """

    def __init__(self, gateway: LocalGateway) -> None:
        self.responses: list[Response] = []
        self._gateway = gateway

    async def request(self, method: str, path: str, **options: Any) -> Response:
        """Send a request.

        Args:
            method: The HTTP method.
            path: The path, optionally with a query.
            **options: Further parameters of ``make_request``.
        """
        request = make_request(method, path, **options)
        answer = await asyncio.wrap_future(
            self._gateway.begin(request.method, request.target, request.headers, request.body)
        )
        response = _response(request, answer)
        self.responses.append(response)
        return response

    async def get(self, path: str, **options: Any) -> Response:
        """Send a GET request."""
        return await self.request("GET", path, **options)

    async def head(self, path: str, **options: Any) -> Response:
        """Send a HEAD request."""
        return await self.request("HEAD", path, **options)

    async def post(self, path: str, data: Any = None, **options: Any) -> Response:
        """Send a POST request."""
        return await self.request("POST", path, data=data, **options)

    async def put(self, path: str, data: Any = None, **options: Any) -> Response:
        """Send a PUT request."""
        return await self.request("PUT", path, data=data, **options)

    async def patch(self, path: str, data: Any = None, **options: Any) -> Response:
        """Send a PATCH request."""
        return await self.request("PATCH", path, data=data, **options)

    async def delete(self, path: str, **options: Any) -> Response:
        """Send a DELETE request."""
        return await self.request("DELETE", path, **options)

    async def options(self, path: str, **options: Any) -> Response:
        """Send an OPTIONS request."""
        return await self.request("OPTIONS", path, **options)


def in_process(gateway: LocalGateway) -> Callable[[Request], Response]:
    """Make a function that sends requests to a gateway in this process."""

    def send(request: Request) -> Response:
        answer = gateway.ask(request.method, request.target, request.headers, request.body)
        return _response(request, answer)

    return send


def over_http(host: str, port: int, timeout: float) -> Callable[[Request], Response]:
    """Make a function that sends requests to a server, each on a new connection.

    Args:
        host: The host.
        port: The port.
        timeout: Timeout of a request in seconds.
    """

    def send(request: Request) -> Response:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
        try:
            names = {name.lower() for name, _ in request.headers}
            connection.putrequest(
                request.method, request.target, "host" in names, skip_accept_encoding=True
            )
            for name, value in request.headers:
                connection.putheader(name, value)
            if request.body or request.method in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body or None)
            response = connection.getresponse()
            try:
                content, is_whole = response.read(), True
            except http.client.IncompleteRead as cut:
                content, is_whole = cut.partial, False
            headers = response.getheaders()
            return Response(request, response.status, headers, content, is_whole=is_whole)
        finally:
            connection.close()

    return send


def _response(request: Request, answer: Answer) -> Response:
    return Response(
        request, answer.status, answer.headers, answer.body, answer.exchange, answer.is_whole
    )
