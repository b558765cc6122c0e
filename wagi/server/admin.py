"""The admin listener: probes, metrics and the routes in force, on an address of its own.

A separate process serves it, so that it answers whatever the workers and the supervisor do. It
reads what they publish in shared memory, and sends them nothing.

======== ==================================================================================
/livez   200 if the event loop of every worker has run within the last 10 s, otherwise 503
/readyz  200 if all workers accept connections, 503 before that and from SIGTERM on
/metrics the metrics, in the format that the client accepts
/config  the routes in force, as JSON; without the values of variables
======== ==================================================================================

With ``?verbose``, the probes list what they have checked.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkProcess
from typing import Any

from wagi.server.signals import signals_blocked
from wagi.server.status import AdminState

_PARENT_POLL_INTERVAL_S = 0.5
_STALE_AFTER_S = 10.0  # age of a heartbeat after which a worker is not alive
_fork = multiprocessing.get_context("fork")


class AdminProcess:
    """The process of the admin listener. The supervisor starts it, and again if it dies.

    Args:
        server: What runs in the process.

    Attributes:
        state: What the supervisor publishes.
    """

    def __init__(self, server: AdminServer) -> None:
        self.state = server.state
        self._server = server
        self._process: ForkProcess | None = None

    def start(self, enter_child: Callable[[], None]) -> None:
        """Start the process.

        Args:
            enter_child: Detaches the process from the supervisor.
        """

        def run() -> None:
            enter_child()
            asyncio.run(self._server.run())

        self._process = _fork.Process(target=run, name="wagi admin", daemon=True)
        with signals_blocked():
            self._process.start()

    @property
    def sentinel(self) -> int | None:
        """Becomes readable when the process has ended; None if it is not running."""
        return self._process.sentinel if self._process is not None else None

    def join(self) -> int:
        """Wait for the end of the process, and return its exit status."""
        assert self._process is not None
        self._process.join()
        status = self._process.exitcode or 0
        self._process = None
        return status

    def close(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.terminate()
            self.join()


class AdminServer:
    """The server of the admin listener, in a process that ends with its parent, the supervisor.

    Args:
        listener: The listening socket.
        state: What the supervisor publishes.
        memory_budget: Size of the memory budget in bytes; 0 if it is unlimited.
        build: Names and versions of the software.

    Attributes:
        state: What the supervisor publishes.
    """

    def __init__(
        self,
        listener: socket.socket,
        state: AdminState,
        memory_budget: int,
        build: Mapping[str, str],
    ) -> None:
        self.state = state
        self._listener = listener
        self._memory_budget = memory_budget
        self._build = build
        self._parent = os.getpid()

    async def run(self) -> None:
        """Serve until the parent terminates this process or dies."""
        from aiohttp import web

        from wagi.observe.metrics.exposition import Exposition, ServiceFacts

        facts = ServiceFacts(self._memory_budget or None, self._build, self._parent)
        exposition = Exposition(self.state.metrics, facts)

        async def write_metrics(request: web.Request) -> web.Response:
            text, media_type = exposition.write(request.headers.get("Accept", ""))
            return web.Response(body=text, headers={"Content-Type": media_type})

        async def hide_versions(_: web.Request, response: web.StreamResponse) -> None:
            response.headers["Server"] = "wagi"

        app = web.Application()
        app.on_response_prepare.append(hide_versions)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", write_metrics)
        app.router.add_get("/config", self._config)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        while os.getppid() == self._parent:  # noqa: ASYNC110 - the supervisor sends no event
            await asyncio.sleep(_PARENT_POLL_INTERVAL_S)

    async def _livez(self, request: Any) -> Any:
        now = time.monotonic()
        ages = [now - beat for beat in self.state.metrics.heartbeats()]
        checks = {
            f"worker {number}": age <= _STALE_AFTER_S
            or f"its event loop has not run for {age:.0f} s"
            for number, age in enumerate(ages, 1)
        }
        return _probe(request, checks)

    async def _readyz(self, request: Any) -> Any:
        status = self.state.board.status
        serves = status.condition in ("ready", "reloading")
        checks: dict[str, bool | str] = {
            "service": serves or f"it is {status.condition}",
            "workers": status.ready_workers == status.workers
            or f"{status.ready_workers} of {status.workers} are ready",
        }
        return _probe(request, checks)

    async def _config(self, _: Any) -> Any:
        from aiohttp import web

        return web.Response(text=self.state.board.config + "\n", content_type="application/json")


def _probe(request: Any, checks: Mapping[str, bool | str]) -> Any:
    """Answer a probe.

    Args:
        request: The request; its query may have ``verbose``.
        checks: For each check True, or why it failed.
    """
    from aiohttp import web

    failed = {name: why for name, why in checks.items() if why is not True}
    if "verbose" in request.query:
        lines = [f"{name}: {'ok' if why is True else why}" for name, why in checks.items()]
    else:
        lines = [f"{name}: {why}" for name, why in failed.items()] or ["ok"]
    status = 503 if failed else 200
    return web.Response(status=status, text="".join(f"{line}\n" for line in lines))
