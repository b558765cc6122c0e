"""``--dev``: a page on loopback that shows live what handlers receive and do.

A separate process serves the page, so that it survives reloads and collects the exchanges of all
workers. ``publisher`` is the side of the workers, ``history`` what is collected, ``web`` what the
browser receives, ``static`` the page itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from wagi.config.values import HostPort
from wagi.dev.history import History
from wagi.dev.publisher import Publisher
from wagi.errors import ConfigurationError, Problem
from wagi.server import listeners
from wagi.server.signals import reset_signals, signals_blocked

_POLL_INTERVAL_S = 0.5  # how often the parent and the problems are checked
_LINE_MAX = 64 * 1024 * 1024  # bytes of an event; records are bounded by what a request may have
_fork = multiprocessing.get_context("fork")


@contextlib.contextmanager
def dev_page(
    address: HostPort,
    file: Path | None,
    problem: Callable[[], str],
    snapshots: Callable[[], dict[str, str]],
) -> Iterator[tuple[Publisher, str]]:
    """Serve the page while the block runs.

    Args:
        address: On loopback; see ``check_loopback``.
        file: The route map; None for a bindle.
        problem: Returns why the last load or build failed; an empty string if it did not.
        snapshots: Returns the states of snapshots that are not in use, by the routes of entries.

    Yields:
        The publisher for the workers, and the URL of the page.

    Raises:
        WagiError: The address cannot be used.
    """
    receiver, connector = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    with (
        contextlib.closing(receiver),
        contextlib.closing(connector),
        listeners.listen(address, 1, "--dev-listen") as (listener,),
    ):
        page = _PageProcess(receiver, listener, file, problem, snapshots, os.getpid())
        process = _fork.Process(target=page.run, name="wagi dev", daemon=True)
        with signals_blocked():
            process.start()
        try:
            yield Publisher(connector), listeners.url(listener, tls=False)
        finally:
            process.terminate()
            process.join()


class _PageProcess:
    """The process that serves the page.

    Args:
        receiver: The workers pass their streams through it.
        listener: The listening socket of the page.
        file: The route map; None for a bindle.
        problem: Returns why the last load or build failed; empty if it did not.
        snapshots: Returns the states of snapshots that are not in use.
        parent: The process ID of the supervisor; the page ends with it.
    """

    def __init__(
        self,
        receiver: socket.socket,
        listener: socket.socket,
        file: Path | None,
        problem: Callable[[], str],
        snapshots: Callable[[], dict[str, str]],
        parent: int,
    ) -> None:
        self._receiver = receiver
        self._listener = listener
        self._folder = file.parent if file else Path()
        self._problem = problem
        self._snapshots = snapshots
        self._parent = parent
        is_default = file is None or file == Path("modules.toml")
        self._history = History(() if is_default else ("-c", str(file)))
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Serve until the parent terminates this process or dies."""
        reset_signals()
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from aiohttp import web

        from wagi.dev.web import make_app

        app = make_app(self._history, self._folder, self._listener.getsockname()[1])
        # A handler ends when its browser goes away, and with it a request that the page has sent.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        asyncio.get_running_loop().add_reader(self._receiver, self._accept_workers)
        while os.getppid() == self._parent:
            self._history.set_problem(self._problem())
            self._history.set_snapshots(self._snapshots())
            await asyncio.sleep(_POLL_INTERVAL_S)

    def _accept_workers(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, descriptors, _, _ = socket.recv_fds(self._receiver, 1, 1)
                for descriptor in descriptors:
                    task = asyncio.create_task(self._follow(socket.socket(fileno=descriptor)))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def _follow(self, stream: socket.socket) -> None:
        """Collect the events of a worker until it ends."""
        reader, writer = await asyncio.open_unix_connection(sock=stream, limit=_LINE_MAX)
        try:
            with contextlib.suppress(ConnectionError, ValueError):
                async for line in reader:
                    self._history.add(writer, line)
        finally:
            self._history.remove_worker(writer)
            writer.close()


def check_loopback(address: HostPort) -> None:
    """Check an address for the dev page.

    Raises:
        ConfigurationError: It is not on loopback, or has no port.
    """
    if address.host not in ("127.0.0.1", "localhost", "[::1]") or address.port is None:
        found = f"{address.host or 'all addresses'}:{address.port}"
        raise ConfigurationError(
            Problem(
                "--dev-listen: expected a port of 127.0.0.1, localhost or [::1], because the page"
                f" shows everything; found {found}"
            )
        )
