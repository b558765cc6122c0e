"""The exchange of data with the client while a guest runs, and waiting for what it waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from wagi.guest.guest import Guest
from wagi.http.body import BodyReader
from wagi.http.response import ResponseWriter

_QUICK_CPU_S = 0.01  # CPU time during which output waits for the guest to end
_BODY_IDLE_S = 0.1  # after which a client is assumed to wait for the response


class Streaming:
    """Sends the output of a suspended guest, and feeds it the body of the request."""

    def __init__(
        self,
        guest: Guest,
        response: ResponseWriter,
        body: BodyReader | None,
        spool_limit: int,
        feed: Callable[[BodyReader, bytes | None], None],
    ) -> None:
        """Prepare the exchange of data.

        Args:
            guest: The guest, which has been suspended.
            response: Its response.
            body: The body of the request, if there is one.
            spool_limit: Maximum size of a spooled body, in bytes.
            feed: Feeds the guest a piece of the body, if any, and the end.
        """
        self._guest = guest
        self._response = response
        self._body = body
        self._spool_limit = spool_limit
        self._feed = feed

    async def exchange_data(self) -> None:
        """Send the output of the guest, then wait for the event that it waits for.

        Raises:
            BadResponse: The output is not a valid response.
            ConnectionError: The client has disconnected.
        """
        if self._body and self._guest.wait.input and not self._response.is_started:
            self._body.send_continue()
        if await self._may_send():
            await self._response.flush()
        await self._wait_for_guest()

    async def _may_send(self) -> bool:
        """Return whether to send output now, after spooling the body if that is necessary.

        nginx stops sending a request when the response begins, and simple clients do not read
        before they have sent the whole request. The response therefore begins when the body is
        complete, when the client pauses, or when the guest has filled its output buffer. In the
        last case the rest of the body is spooled first.
        """
        guest, body = self._guest, self._body
        if self._response.is_started:
            return True
        client_waits = body is None or body.is_complete or body.idle_seconds >= _BODY_IDLE_S
        if self._response.buffered < guest.output_buffer:
            is_quick = guest.wait.is_turn and guest.cpu_seconds < _QUICK_CPU_S
            return client_waits and not is_quick
        if body is not None and not client_waits and not body.is_spooled:
            await body.spool(self._spool_limit, _BODY_IDLE_S)
        return True

    async def _wait_for_guest(self) -> None:
        """Wait for the event that the guest waits for; return at once if it is runnable."""
        wait, body = self._guest.wait, self._body
        if wait.is_turn:
            return
        # Before the response begins, a pause of the client ends the wait: see _may_send.
        is_sending = body is not None and not body.is_complete
        timeout = _BODY_IDLE_S if is_sending and not self._response.is_started else None
        delay = timeout
        if wait.wake_at is not None:
            delay = max(0.0, wait.wake_at - time.monotonic())
            delay = delay if timeout is None else min(delay, timeout)
        if wait.futures:
            await self._wait_for_futures(delay)
        elif not wait.input:
            assert delay is not None
            await asyncio.sleep(delay)
        else:
            assert body is not None  # without a body, stdin is at its end
            self._feed(body, await body.read(delay))

    async def _wait_for_futures(self, delay: float | None) -> None:
        """Wait for the first of several futures, and for input if the guest also waits for it."""
        wait, body = self._guest.wait, self._body
        if not wait.input or body is None:
            await asyncio.wait(wait.futures, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            return
        reader = asyncio.ensure_future(body.read(delay))
        try:
            await asyncio.wait((reader, *wait.futures), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reader.cancel()
        await asyncio.wait((reader,))
        if not reader.cancelled():
            self._feed(body, reader.result())
