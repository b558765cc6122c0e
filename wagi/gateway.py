"""The journey of one request: match, admission, environment, guest, response.

A guest is a coroutine of the event loop, and this is the loop that drives it: send what it has
printed, wait for what it waits for, let it go on. Because one task does all three in turn, a slow
client holds the guest back, and a guest that does not read holds the client back.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from http import HTTPStatus
from itertools import count

from aiohttp import web

from wagi import hints
from wagi.admission import Admission, Busy
from wagi.cgi.environment import BadRequest, RequestTooLarge, arguments, check_size
from wagi.config.values import HostPort
from wagi.delivery import Delivery, send_at_once, send_refusal, send_text
from wagi.errors import WagiError
from wagi.guest.budget import Lease, MemoryAccount
from wagi.guest.guest import Guest
from wagi.guest.outcome import Exit, Returned, Trap
from wagi.guest.scheduler import FairScheduler
from wagi.intake import Body, Intake, Request, Target, protocol_of, read_head
from wagi.observe.exchange import Exchange, GuestRecord
from wagi.observe.module_log import Stderr
from wagi.observe.text import one_line, paragraph
from wagi.refusal import RETRY_SOON, Refusal
from wagi.route import Route
from wagi.routing import HEALTH_PATH, RouteTable
from wagi.trust import Client, TrustedProxies

_log = logging.getLogger("wagi")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_NO_TIMEOUT: AbstractAsyncContextManager[None] = nullcontext()
_SUCCESS = (Returned(), Exit(0))
_CLIENT_GONE = 499  # nginx's number, for the access log only
_QUICK = 0.01  # seconds of CPU time in which a guest may still end in one response
_PATIENCE = 0.1  # seconds without a byte after which a client is taken to wait for us


class Gateway:
    """Answers requests from a route table.

    Attributes: ``notice`` what error pages say besides, for those who develop handlers.
    """

    def __init__(
        self,
        table: RouteTable[Route],
        default_host: HostPort,
        proxies: TrustedProxies,
        intake: Intake,
        slots: int,
        account: MemoryAccount,
        access_log: Callable[[Exchange], None],
        records_guests: bool = False,
    ) -> None:
        """Parameters: ``intake`` of request bodies; ``slots`` for guests; ``account`` of
        their memory; ``records_guests`` whether exchanges say what guests saw and did.
        """
        self._table = table
        self._default_host = default_host
        self._proxies = proxies
        self._intake = intake
        self._access_log = access_log
        self._records_guests = records_guests
        self.notice: Callable[[Exchange, Refusal], str] = lambda exchange, refusal: ""
        self._scheduler = FairScheduler()
        self._admission = Admission(slots, {route.share for _, route in table}, account)
        self._id_prefix = secrets.token_hex(6)
        self._ids = count(1)

    async def handle(self, request: Request) -> web.StreamResponse:
        """Answer one request; aiohttp's entry to the gateway."""
        client = self._proxies.client(request.endpoint.peer, request.raw_headers)
        exchange = self._begin(request, client)
        try:
            return await self._answer(request, client, exchange)
        except Refusal as refusal:
            _log_refusal(exchange, refusal)
            exchange.status = refusal.status.value
            page = await self._refuse(request, refusal, exchange)
            exchange.sent = _length(page)
            return page
        except (asyncio.CancelledError, ConnectionError):
            exchange.status = _CLIENT_GONE
            raise
        except Exception as error:
            _log.exception("[%s] a bug of the gateway", exchange.request_id)
            exchange.status = 500
            if request.writer.output_size:
                raise ConnectionResetError("the response cannot be finished") from error
            failure = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "The gateway failed.")
            return await self._refuse(request, failure, exchange)
        finally:
            self._access_log(exchange)

    async def close(self) -> None:
        """Close what the routes have opened."""
        for client in {route.client for _, route in self._table if route.client}:
            await client.close()

    async def refuse(self, request: Request, refusal: Refusal) -> web.StreamResponse:
        """Answer what is no HTTP request: with an error page, a record, and the end."""
        client = self._proxies.client(request.endpoint.peer, ())
        exchange = self._begin(request, client)
        exchange.status = refusal.status.value
        _log_refusal(exchange, refusal)
        try:
            page = await self._refuse(request, refusal, exchange, closes=True)
            exchange.sent = _length(page)
            return page
        finally:
            self._access_log(exchange)

    async def _refuse(
        self, request: Request, refusal: Refusal, exchange: Exchange, closes: bool = False
    ) -> web.Response:
        notice = self.notice(exchange, refusal)
        return await send_refusal(request, refusal, exchange.request_id, notice, closes)

    def _begin(self, request: Request, client: Client) -> Exchange:
        request_id = ""
        if client.trusted:
            request_id = request.headers.get("X-Request-Id", "")
        if not request_id or not _REQUEST_ID.fullmatch(request_id):
            request_id = f"{self._id_prefix}-{next(self._ids)}"
        return Exchange(
            request_id,
            request.method,
            request.raw_path,
            protocol_of(request),
            client.address,
            request.headers,
        )

    async def _answer(
        self, request: Request, client: Client, exchange: Exchange
    ) -> web.StreamResponse:
        try:
            target = Target.parse(request.method, request.raw_path)
            if target.path == HEALTH_PATH:
                exchange.status = HTTPStatus.OK.value
                answer = await send_text(request, HTTPStatus.OK, "OK")
                exchange.sent = _length(answer)
                return answer
            match = self._table.match(target.path)
            if match is None:
                raise Refusal(HTTPStatus.NOT_FOUND, "No route matches this path.")
            route = match.target
            rules = route.rules
            exchange.route = match.pattern.text
            exchange.module = route.handler.name
            body = self._intake.open_at_once(request, rules.body_limit)
            if body is None:
                body = await self._intake.read_ahead(request, rules.body_limit, rules.timeout)
            try:
                head = read_head(request, target, client, self._default_host, body.length)
                environment = route.variables.environment(head, match.raw_path_info)
                argv = arguments(route.argv, match.pattern.script_name, target.query)
                check_size(environment, argv, rules.environment_limit)
                lease = self._admission.try_acquire(route.share)
                if lease is None:
                    lease = await self._admission.acquire(route.share)
                try:
                    return await self._run(request, exchange, route, argv, environment, body, lease)
                finally:
                    self._admission.release(route.share, lease)
            finally:
                body.close()
        except RequestTooLarge as error:
            raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(error)) from None
        except BadRequest as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        except Busy as error:
            raise Refusal(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many requests are running.",
                f"too many requests are running: {error}",
                RETRY_SOON,
            ) from None

    async def _run(
        self,
        request: Request,
        exchange: Exchange,
        route: Route,
        argv: list[bytes],
        environment: list[bytes],
        body: Body,
        lease: Lease,
    ) -> web.StreamResponse:
        rules = route.rules
        stderr = Stderr(route.log, exchange.request_id, rules.stderr_limit)
        warnings: list[str] = []
        record = GuestRecord(argv, environment) if self._records_guests else None
        exchange.guest = record
        write = stderr.write if record is None else record.tee(stderr.write)
        try:
            guest = Guest(
                route.handler, argv, environment, write, route.client, warnings.append, lease
            )
        except WagiError as error:
            raise Refusal(
                HTTPStatus.INTERNAL_SERVER_ERROR, "The handler could not be started.", str(error)
            ) from None
        output = b""
        try:
            _feed(guest, body)
            ended = guest.step()
            output = guest.stdout.take()
            if record is not None:
                record.print(output)
            if guest.outcome in _SUCCESS:  # most guests: done before anybody had to wait
                whole = send_at_once(request, output, rules.header_limit, warnings)
                if whole is not None:
                    exchange.status, sent = whole
                    exchange.sent = sent.sent
                    return sent
            delivery = Delivery(request, rules.header_limit, warnings)
            delivery.feed(output)
            return await self._deliver_all(guest, ended, exchange, route, body, delivery)
        except Refusal as refusal:
            if refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(
                guest.outcome, Trap
            ):
                status = guest.outcome.status if isinstance(guest.outcome, Exit) else 0
                hint = hints.about_output(output, stderr.wrote, status)
                refusal.reason = refusal.reason.rstrip(".") + hint
            raise
        finally:
            exchange.cpu_seconds = guest.cpu_seconds
            if record is not None:
                record.finish(guest.outcome, guest.memory_size)
            stderr.close()
            guest.close()
            for warning in warnings:
                _log_run(logging.WARNING, exchange, warning)

    async def _deliver_all(
        self,
        guest: Guest,
        ended: bool,
        exchange: Exchange,
        route: Route,
        body: Body,
        delivery: Delivery,
    ) -> web.StreamResponse:
        """Go on with a guest and its response until both have ended."""
        timeout = route.rules.timeout
        at_once = ended and delivery.fits_at_once
        try:
            async with _NO_TIMEOUT if at_once else asyncio.timeout(timeout):
                if not ended:
                    await self._drive(guest, delivery, body, route, exchange.guest)
                return await _end(guest, delivery)
        except (TimeoutError, Refusal) as error:
            refusal = error if isinstance(error, Refusal) else _out_of_time(timeout or 0)
            if delivery.started:
                _log_run(logging.ERROR, exchange, refusal.reason)
                return delivery.abort()
            raise refusal from None
        finally:
            exchange.status = delivery.status
            exchange.sent = delivery.sent

    def _step(self, guest: Guest, delivery: Delivery, record: GuestRecord | None) -> bool:
        ended = guest.step()
        output = guest.stdout.take()
        if record is not None:
            record.print(output)
        delivery.feed(output)
        return ended

    async def _drive(
        self,
        guest: Guest,
        delivery: Delivery,
        body: Body,
        route: Route,
        record: GuestRecord | None,
    ) -> None:
        ended = False
        cpu_timeout = route.rules.cpu_timeout
        while not ended:
            await self._deliver(guest, delivery, body)
            await _wait(guest, body, None if delivery.started else _PATIENCE)
            await self._scheduler.next(route.share)
            ended = self._step(guest, delivery, record)
            if cpu_timeout is not None and guest.cpu_seconds > cpu_timeout:
                raise _out_of_time(cpu_timeout, " of CPU time")

    async def _deliver(self, guest: Guest, delivery: Delivery, body: Body) -> None:
        """Send what the guest has printed, but not into the face of a client that still sends.

        nginx stops sending a request when its response begins, and simple clients read nothing
        before they have sent everything. So the response begins when the body is all here, when
        the client pauses, or when the guest has printed a lot: then the rest is spooled first.
        """
        if guest.wait.input and not delivery.started:
            body.invite()
        if not delivery.started and delivery.held < guest.output_buffer:
            if not body.received and body.quiet_seconds < _PATIENCE:
                return
            if guest.wait.is_turn and guest.cpu_seconds < _QUICK:
                return
        if not (delivery.started or body.received or body.quiet_seconds >= _PATIENCE):
            await body.spool(self._intake.spool_limit, _PATIENCE)
        await delivery.flush()


def _out_of_time(seconds: float, what: str = "") -> Refusal:
    return Refusal(
        HTTPStatus.GATEWAY_TIMEOUT,
        "The handler did not answer in time.",
        f"the handler was out of time after {seconds:g} seconds{what}",
    )


def _feed(guest: Guest, body: Body) -> None:
    """Give the guest what has arrived of the body."""
    if not body.length:
        guest.stdin.end()
        return
    if data := body.take():
        guest.stdin.feed(data)
    if body.ended:
        guest.stdin.end()


async def _wait(guest: Guest, body: Body, patience: float | None) -> None:
    """Wait for what the guest waits for; at once if that is only its turn.

    Parameters: ``patience`` the seconds after which there may be something else to do.
    """
    if guest.wait.future is not None:
        await asyncio.wait((guest.wait.future,), timeout=None if body.received else patience)
        return
    wake_at = guest.wait.wake_at
    if wake_at is None and not guest.wait.input:
        return
    delay = None if wake_at is None else max(0.0, wake_at - time.monotonic())
    if patience is not None and not body.received:
        delay = patience if delay is None else min(delay, patience)
    if not guest.wait.input:
        assert delay is not None
        await asyncio.sleep(delay)
        return
    data = await body.read(delay)
    if data:
        guest.stdin.feed(data)
    if body.ended:
        guest.stdin.end()


async def _end(guest: Guest, delivery: Delivery) -> web.StreamResponse:
    """The response of a guest that has ended (contract §2)."""
    match guest.outcome:
        case Trap(message):
            if delivery.started:
                delivery.warnings.append(f"trap after the headers were sent: {message}")
                return delivery.abort()
            hint = hints.about_trap(guest.memory_size, guest.memory_limit)
            reason = f"trap: {message}{hint}"
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "The handler failed.", reason)
        case Exit(status) if status:
            delivery.warnings.append(f"the handler exited with status {status}")
    return await delivery.finish()


def _length(response: web.Response) -> int:
    return len(response.body) if isinstance(response.body, bytes) else 0


def _log_refusal(exchange: Exchange, refusal: Refusal) -> None:
    ours = refusal.status >= 500 and refusal.status != HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    level = logging.ERROR if ours else logging.DEBUG
    _log_run(level, exchange, f"answered {refusal.status.value}: {refusal.reason}")


def _log_run(level: int, exchange: Exchange, message: str) -> None:
    _log.log(
        level,
        "[%s] %s %s, route %s, module %s: %s",
        exchange.request_id,
        exchange.method,
        one_line(exchange.target),
        exchange.route or "none",
        exchange.module or "none",
        paragraph(message),
    )
