"""Requests and responses of ``wasi:http/types``, as resources."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.guest.http_exchange import HeaderFields, HttpExchange, HttpRequest
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.http_bodies import BodySink, wait_for_nothing
from wagi.guest.preview2.http_outbound import RequestBody
from wagi.guest.streams import Output
from wagi.guest.wasi.context import WaitReason

_EARLY_MAX = 64 * 1024
"""Maximum number of bytes of a body that are kept until the guest sets its response."""


class IncomingRequest:
    """The resource ``incoming-request``.

    Attributes:
        head: The request.
        is_consumed: Whether the guest has taken the body.
    """

    def __init__(self, head: HttpRequest) -> None:
        self.head = head
        self.is_consumed = False


class ResponseOutparam:
    """The resource ``response-outparam``, with which a guest answers its request.

    Attributes:
        exchange: Where the response goes.
    """

    def __init__(self, exchange: HttpExchange) -> None:
        self.exchange = exchange


class ResponseSink(BodySink):
    """The body of a response: the standard output, from when the guest sets the response."""

    def __init__(self, stdout: Output, exchange: HttpExchange) -> None:
        """Create a body.

        Args:
            stdout: The guest's standard output.
            exchange: Where the response goes.
        """
        self._stdout = stdout
        self._exchange = exchange
        self._is_set = False
        self._early: list[bytes] = []
        self._early_room = min(_EARLY_MAX, stdout.room)
        self._trailers: HeaderFields | None = None  # of a body that is finished

    def begin(self) -> None:
        """Note that the guest has set the response."""
        self._is_set = True
        for data in self._early:
            self._stdout.write(data)
        self._early.clear()
        if self._trailers is not None:
            self.finish(self._trailers)

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return self.check() > 0

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``: the gateway sends the output whenever the guest is suspended."""
        if self._is_set:
            wait.turn = True
        else:
            wait_for_nothing(wait)

    def check(self) -> int:
        """As ``OutputStream.check``."""
        return self._stdout.room if self._is_set else self._early_room

    def write(self, data: bytes) -> None:
        """As ``OutputStream.write``."""
        if self._is_set:
            self._stdout.write(data)
        else:
            self._early.append(data)
            self._early_room -= len(data)

    def finish(self, trailers: HeaderFields) -> None:
        """As ``BodySink.finish``."""
        self._trailers = trailers
        if self._is_set:
            self._exchange.is_finished = True
            self._exchange.trailers = trailers

    def abandon(self) -> None:
        """As ``BodySink.abandon``: the gateway notices it at the end of the guest."""
        self._exchange.is_abandoned = self._is_set


@dataclass(slots=True)
class OutgoingResponse:
    """The resource ``outgoing-response``.

    Attributes:
        headers: The header fields.
        status: Status code.
        sink: Where the body goes; None until the guest takes the body, which is empty otherwise.
    """

    headers: HeaderFields
    status: int = 200
    sink: ResponseSink | None = None


@dataclass(slots=True)
class RequestOptions:
    """The resource ``request-options``: time limits in nanoseconds, None for the default."""

    connect_timeout: int | None = None
    first_byte_timeout: int | None = None
    between_bytes_timeout: int | None = None


@dataclass(slots=True)
class OutgoingRequest:
    """The resource ``outgoing-request``.

    Attributes:
        headers: The header fields.
        method: The method.
        path_with_query: Path and query; None for the path ``/``.
        scheme: The scheme; None for ``https``.
        authority: Host and port.
        body: Where the body goes; None until the guest takes it.
    """

    headers: HeaderFields
    method: str = "GET"
    path_with_query: str | None = None
    scheme: str | None = None
    authority: str | None = None
    body: RequestBody | None = None


def begin_exchange(guest: ComponentContext, exchange: HttpExchange) -> None:
    """Prepare a guest to handle a request.

    The request and the response-outparam become its first handles: those that its entry gets
    (``wagi.guest.entry``). Its standard streams are not those of a command.
    """
    guest.handles.add(IncomingRequest(exchange.request))
    guest.handles.add(ResponseOutparam(exchange))
    guest.descriptors.separate_from_bodies()
