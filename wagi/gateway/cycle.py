"""The request cycle: route, body, environment, admission, guest, response.

A guest runs as a coroutine of the event loop. ``RequestCycle.run`` drives it in a loop: exchange
data with the client (``streaming``), resume the guest. One task performs these steps in turn, so
back-pressure works both ways: a slow client stalls the guest, and a guest that does not read stalls
the client.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from wagi.cgi.environment import BadRequest, RequestTooLarge, arguments, check_size
from wagi.cgi.response import BadResponse, ResponseParser
from wagi.errors import WagiError
from wagi.gateway import explanation
from wagi.gateway.admission import Overloaded
from wagi.gateway.error_response import send_error, write_log
from wagi.gateway.explanation import GuestFacts
from wagi.gateway.gateway import Gateway
from wagi.gateway.route import Route, StaticRoute
from wagi.gateway.streaming import Streaming
from wagi.gateway.variables import build_environment
from wagi.guest.budget import Lease
from wagi.guest.guest import Guest
from wagi.guest.http_exchange import HttpExchange
from wagi.guest.outcome import Exit, Trap, outcome_name
from wagi.guest.wasi.http_session import HttpClient
from wagi.http.body import BodyReader
from wagi.http.errors import RETRY_SOON, HTTPError
from wagi.http.request import Request, Target, make_request_head
from wagi.http.response import ResponseSource, ResponseWriter, send_text
from wagi.http.tasks import enter_task
from wagi.observe.exchange import Exchange, GuestRecord
from wagi.observe.failure import Failure
from wagi.observe.module_log import Stderr
from wagi.routing import HEALTH_PATH, Match
from wagi.static.responder import StaticResponder
from wagi.wasi_http.response import HandlerResponse, header_block

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")  # accepted from a trusted proxy


# Stages of a request, which determine the resources to release
_RECEIVED = 0
_ROUTED = 1  # it has a route and a body
_ADMITTED = 2  # it has a slot and memory
_RUNNING = 3  # it has a guest and a response


class RequestCycle:
    """One request, from its head to the end of its response.

    Attributes:
        exchange: Its record.
        is_health_check: Whether it asks for the health of the gateway itself.
        cancel_reason: Why it was cancelled by ``cancel``; empty if it was not.
    """

    # Initial values, on the class because most requests never change them
    is_health_check = False
    cancel_reason = ""
    _responder: StaticResponder | None = None  # of a route to static files
    _http: HttpExchange | None = None  # of a handler of wasi:http
    _stderr: Stderr | None = None  # created by the first write
    _excerpt = b""  # the beginning of the output

    def __init__(self, gateway: Gateway, request: Request) -> None:
        # Shared
        self._gateway = gateway
        # From the start
        self._request = request
        head, client = request.head, request.client
        request_id = head.headers.get("X-Request-Id", "") if client.trusted else ""
        if not request_id or not _REQUEST_ID.fullmatch(request_id):
            request_id = next(gateway.request_ids)
        self.exchange = Exchange(
            request_id, head.method, head.target, head.protocol, client.address, head.headers
        )
        self._stage = _RECEIVED
        # From _ROUTED on
        self._target: Target
        self._match: Match[Route | StaticRoute]
        self._route: Route
        self._client: HttpClient | None  # for outbound requests
        self._body: BodyReader | None  # None if the request has none
        self._argv: bytes
        self._environment: bytes
        # From _ADMITTED on
        self._lease: Lease
        # From _RUNNING on
        self._guest: Guest
        self._response: ResponseWriter
        self._warnings: list[str]

    async def run(self) -> None:
        """Answer the request.

        Raises:
            HTTPError: The request is answered with an error page.
            ConnectionError: The client has disconnected.
        """
        if not self._find_route():
            if self._responder is not None:
                await self._send_file(self._responder)
            return
        if self._gateway.observer is not None:
            self._gateway.observer.begin(self)
        self._open_body()
        if self._body is not None and self._request.head.content_length is None:
            await self._receive_body(self._body)
        self._build_environment()
        if not self._try_admit():
            await self._admit()
        self._start_guest()
        ended = self._step()
        if ended and self._response.fits_in_one_write:  # no wait, as for most guests
            self._finish()
            return
        await enter_task()
        timeout, spool_limit = self._route.limits.timeout, self._gateway.body_limits.spool_limit
        streaming = Streaming(self._guest, self._response, self._body, spool_limit, self._feed)
        try:
            async with asyncio.timeout(timeout):
                while not ended:
                    await self._exchange_data(streaming)
                    await self._gateway.scheduler.next(self._route.share)
                    ended = self._step()
                self._finish()
                await self._response.drain()
        except TimeoutError:
            raise self._timed_out(timeout, "time limit", "timeout") from None

    @property
    def has_responded(self) -> bool:
        """Whether a complete response has been sent, even if the guest is still running."""
        return self._stage == _RUNNING and self._response.is_complete

    @property
    def is_running(self) -> bool:
        """Whether its guest has been started."""
        return self._stage == _RUNNING

    @property
    def cpu_seconds(self) -> float:
        """CPU time of its guest so far."""
        return self._guest.cpu_seconds if self._stage == _RUNNING else 0.0

    def cancel(self, reason: str) -> None:
        """Answer the request with an error page at once.

        Args:
            reason: Message for the log.
        """
        self.cancel_reason = reason
        self._request.channel.cancel()

    def close(self) -> None:
        """Release all resources of the request and complete its record."""
        if self._stage >= _RUNNING:
            guest, exchange = self._guest, self.exchange
            exchange.cpu_seconds, exchange.memory = guest.cpu_seconds, self._lease.size
            exchange.outcome = exchange.outcome or outcome_name(guest.outcome)
            exchange.status, exchange.sent = self._response.status, self._response.sent
            if exchange.guest is not None:
                if self._http is not None:
                    exchange.guest.prepend(header_block(self._http))
                exchange.guest.finish(guest.outcome, guest.memory_size)
                exchange.guest.warnings = self._warnings
            if self._stderr is not None:
                self._stderr.close()
            guest.close()
            del self._guest  # break the reference cycle through its stderr
            for warning in self._warnings:
                write_log(self.exchange, logging.WARNING, warning)
        if self._stage >= _ADMITTED:
            self._gateway.admission.release(self._route.share, self._lease)
        if self._stage >= _ROUTED and self._body is not None:
            self.exchange.body_size = self._body.received
            self._body.close()

    def answer_error(self, error: HTTPError) -> None:
        """Send an error page, or break the connection if the response has begun.

        Raises:
            ConnectionError: The client has disconnected.
        """
        exchange = self.exchange
        exchange.failure = exchange.failure or Failure(error.reason)
        if self._stage == _RUNNING and self._response.is_started:
            write_log(exchange, logging.ERROR, error.reason)
            self._response.abort()
        else:
            send_error(self._gateway.observer, self._request, exchange, error)

    # The steps of run, in order

    def _find_route(self) -> bool:
        """Find the route.

        Returns:
            Whether it leads to a handler. Otherwise the gateway itself has answered the request,
            or the route leads to static files.
        """
        head = self._request.head
        if self._gateway.unavailable:
            reason = self._gateway.unavailable
            raise HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, reason, headers=RETRY_SOON)
        try:
            target = Target.parse(head.method, head.target)
        except BadRequest as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, str(error)) from None
        if target.path == HEALTH_PATH:
            self.is_health_check = True
            self.exchange.status = HTTPStatus.OK.value
            self.exchange.sent = send_text(self._request, HTTPStatus.OK, "OK")
            return False
        match = self._gateway.table.match(target.path)
        if match is None:
            raise HTTPError(HTTPStatus.NOT_FOUND, "No route matches this path.")
        route = match.target
        self._target, self._match = target, match
        self.exchange.route = match.pattern.text
        if route.responder is not None:
            self._responder = route.responder
            self.exchange.module = route.responder.site.name
            return False
        self._route, self._client = route, route.client
        self.exchange.module = route.handler.spec.name
        return True

    async def _send_file(self, responder: StaticResponder) -> None:
        """Answer the request with a static file."""
        path_info = self._match.raw_path_info
        await responder.answer(self._request, self._target, path_info, self.exchange)

    def _open_body(self) -> None:
        """Open the body, if the request has one."""
        self._body = None
        if self._request.head.content_length != 0:
            limit = self._route.limits.body_limit
            self._body = self._request.open_body(self._gateway.body_limits, limit)
        self._stage = _ROUTED

    async def _receive_body(self, body: BodyReader) -> None:
        """Prepare a body of unknown length; if a CGI program gets it, read it to its end."""
        limits = self._route.limits
        if self._route.request_rules is not None:
            body.limit_size(limits.body_limit)
            return
        await enter_task()
        await body.read_ahead(limits.body_limit, limits.timeout)

    def _build_environment(self) -> None:
        """Build the arguments and the environment of the guest, or the request that it gets."""
        route, match, target = self._route, self._match, self._target
        default_host, limit = self._gateway.default_host, route.limits.environment_limit
        try:
            length = 0 if self._body is None else self._body.length
            head = make_request_head(self._request, target, default_host, length)
            if route.request_rules is not None:
                request = route.request_rules.request(head, match.raw_path_info, limit)
                self._http = HttpExchange(request)
                self._environment, self._argv = route.request_rules.environment, b""
                return
            self._environment = build_environment(route.variables, head, match.raw_path_info)
            self._argv = arguments(route.argv, target.path, target.query)
            check_size(self._environment, self._argv, limit)
        except RequestTooLarge as error:
            raise HTTPError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(error)) from None
        except BadRequest as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, str(error)) from None

    def _try_admit(self) -> bool:
        """Acquire a slot and memory for the guest, if that is possible without waiting."""
        lease = self._gateway.admission.try_acquire(self._route.share)
        if lease is None:
            return False
        self._lease = lease
        self._stage = _ADMITTED
        return True

    async def _admit(self) -> None:
        """Wait for a slot and memory for the guest."""
        await enter_task()
        queued_at = time.perf_counter()
        try:
            self._lease = await self._gateway.admission.acquire(self._route.share)
        except Overloaded as error:
            raise HTTPError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many requests are running.",
                f"too many requests are running: {error}",
                RETRY_SOON,
            ) from None
        finally:
            self.exchange.queue_seconds = time.perf_counter() - queued_at
        self._stage = _ADMITTED

    def _start_guest(self) -> None:
        """Create the guest and feed it the part of the body that has arrived."""
        route, argv, environment = self._route, self._argv, self._environment
        self._warnings = []
        write: Callable[[bytes], None] = self._write_stderr
        if self._gateway.records_guests:
            self.exchange.guest = GuestRecord(_split_strings(argv), _split_strings(environment))
            write = self.exchange.guest.tee(write)
        try:
            self._guest = Guest(
                route.handler,
                argv,
                environment,
                write,
                self._client,
                self._warnings.append,
                self._lease,
                self._http,
            )
        except WagiError as error:
            message = "The handler could not be started."
            raise HTTPError(HTTPStatus.INTERNAL_SERVER_ERROR, message, str(error)) from None
        source: ResponseSource
        if self._http is None:
            source = ResponseParser(route.limits.header_limit)
        else:
            source = HandlerResponse(self._http, route.limits.header_limit)
        self._response = ResponseWriter(self._request, source, self._warnings)
        self._stage = _RUNNING
        if self._body is None:
            self._guest.end_input()
        else:
            self._feed(self._body, self._body.take())

    def _write_stderr(self, data: bytes) -> None:
        if self._stderr is None:
            route = self._route
            exchange, limit = self.exchange, route.limits.stderr_limit
            self._stderr = Stderr(route.log, exchange.request_id, limit, exchange.span)
        self._stderr.write(data)

    def _feed(self, body: BodyReader, data: bytes | None) -> None:
        if data:
            self._guest.feed(data)
            if self.exchange.guest is not None:
                self.exchange.guest.feed(data)
        if body.is_exhausted:
            self._guest.end_input()

    def _step(self) -> bool:
        """Run the guest for a slice and take its output.

        Returns:
            Whether the guest has ended.
        """
        guest = self._guest
        ended = guest.step()
        output = guest.take_output()
        if output:
            missing = explanation.EXCERPT_SIZE - len(self._excerpt)
            if missing > 0:
                self._excerpt += output[:missing]
            self._response.feed(output)
            if self.exchange.guest is not None:
                self.exchange.guest.print(output)
        if not ended:
            cpu_timeout = self._route.limits.cpu_timeout
            if cpu_timeout is not None and guest.cpu_seconds > cpu_timeout:
                raise self._timed_out(cpu_timeout, "CPU time limit", "cpu_timeout")
        return ended

    async def _exchange_data(self, streaming: Streaming) -> None:
        try:
            await streaming.exchange_data()
        except BadResponse as error:
            raise self._to_http_error(error) from None

    def _finish(self) -> None:
        """Complete the response of a guest that has ended."""
        outcome = self._guest.outcome
        if isinstance(outcome, Trap):
            failure = explanation.explain_trap(self._facts(), outcome)
            if self._response.is_started:
                failure = replace(failure, cause=f"{failure.cause}, after the headers were sent")
            raise self._failed(HTTPStatus.INTERNAL_SERVER_ERROR, "The handler failed.", failure)
        try:
            self._response.finish()
        except BadResponse as error:
            raise self._to_http_error(error) from None
        if isinstance(outcome, Exit) and outcome.status:
            end = explanation.describe_exit(outcome.status, self._stderr_tail)
            self._warnings.append(f"the handler {end}")
        if self._response.status >= 500:
            warning = explanation.explain_error_response(self._facts())
            self._warnings += [warning] if warning else []

    def _to_http_error(self, error: BadResponse) -> HTTPError:
        """Return the error response to invalid output."""
        self.exchange.outcome = "invalid_output"
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            failure = explanation.explain_output(self._facts(), error.reason)
        else:
            failure = Failure(error.reason)
        return self._failed(error.status, str(error), failure)

    def _timed_out(self, seconds: float | None, limit: str, key: str) -> HTTPError:
        """Return the error response to a guest that exceeded a time limit.

        Args:
            seconds: The limit.
            limit: Its name in a sentence.
            key: Its key.
        """
        self.exchange.outcome = key
        reason = f"the handler exceeded its {limit} of {seconds or 0:g} s ({key})"
        if self._response.is_started:
            failure = Failure(reason)
        else:
            failure = explanation.explain_timeout(self._facts(), reason)
        message = f"The handler did not answer in time ({key})."
        return self._failed(HTTPStatus.GATEWAY_TIMEOUT, message, failure)

    def _failed(self, status: HTTPStatus | int, message: str, failure: Failure) -> HTTPError:
        """Record why the guest failed, and return the error response."""
        self.exchange.failure = failure
        return HTTPError(status, message, str(failure))

    @property
    def _stderr_tail(self) -> bytes:
        return b"" if self._stderr is None else self._stderr.tail

    def _facts(self) -> GuestFacts:
        guest, spec = self._guest, self._route.handler.spec
        return GuestFacts(
            outcome=guest.outcome,
            output=self._excerpt,
            stderr=self._stderr_tail,
            memory=guest.memory_size,
            memory_limit=guest.memory_limit,
            lacks_volumes=spec.opens_files and not spec.preopens,
            entry=self._route.entry_location,
            is_spin=self._route.variables.is_spin,
            handles_http=spec.handles_http,
        )


def _split_strings(strings: bytes) -> list[bytes]:
    """Split NUL-terminated strings."""
    return strings.split(b"\0")[:-1]
