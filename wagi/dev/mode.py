"""What ``--watch`` and ``--dev`` add to a service.

``server.service`` declares the interface (``Development``) and does not import this package, so
that a production server never loads it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from wagi.config.settings import Settings
from wagi.dev.problems import Problems
from wagi.dev.snapshots import SnapshotStates, SnapshotTrigger, making_snapshots
from wagi.gateway.gateway import RunningRequest
from wagi.gateway.route import Plan
from wagi.guest.backtrace import enable_lines
from wagi.http.error_page import ErrorDetails
from wagi.http.errors import HTTPError
from wagi.observe.exchange import Exchange, GuestRecord, describe
from wagi.server.service import Develop, Watch
from wagi.storage import temporary_folder

if TYPE_CHECKING:
    from wagi.dev.publisher import Publisher

_LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True)
class DevMode:
    """The state of ``--watch`` and ``--dev``, shared by the supervisor and its workers.

    Attributes:
        problems: Why the last load and the last builds failed.
        snapshots: Makes snapshots in the background; None for a bindle.
        publisher: Sends routes and exchanges to the dev page; None without ``--dev``.
        page_url: The URL of the dev page; empty without ``--dev``.
    """

    problems: Problems
    snapshots: SnapshotTrigger | None = None
    publisher: Publisher | None = None
    page_url: str = ""

    @property
    def records_guests(self) -> bool:
        """Whether exchanges have to include what guests read and wrote."""
        return self.publisher is not None

    def report_load(self, problem: str) -> None:
        """Store the result of a load for the workers and the dev page.

        Args:
            problem: Its error; empty if it succeeded.
        """
        self.problems.report_load(problem)
        if self.snapshots is not None and not problem:
            self.snapshots.start()

    def begin(self, request: RunningRequest) -> None:
        """Show a request on the dev page while it is being answered."""
        if self.publisher is not None:
            self.publisher.begin(request)

    def explain(self, exchange: Exchange, error: HTTPError) -> ErrorDetails:
        """Return what an error page shows in addition, to clients on this machine.

        With ``--watch``, that is why the last load or build failed; with ``--dev`` also why the
        request failed, and what the handler received and printed.
        """
        if not _is_local(exchange):
            return ErrorDetails()
        problem = self.problems.read()
        sections = [("Failed to load", problem)] if problem else []
        if self.publisher is None:
            return ErrorDetails(tuple(sections))
        if exchange.guest is not None:
            sections.append(("Why", str(exchange.failure or error.reason)))
            sections += _printed(exchange.guest)
            lines = map("".join, describe(exchange, exchange.guest))
            sections.append(("Request", "\n".join(lines)))
        return ErrorDetails(
            tuple(sections), f"{self.page_url}/#{quote(exchange.request_id, safe='')}"
        )

    def publish_routes(self, plan: Plan, url: str) -> None:
        """Connect this worker to the dev page, and show the routes there.

        Args:
            plan: The routes.
            url: Where the server listens.
        """
        if self.publisher is not None:
            self.publisher.open(plan, url)

    def recorder(self, access_log: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        """A function that records an exchange in the access log and on the dev page."""
        publisher = self.publisher
        if publisher is None:
            return access_log

        def record(exchange: Exchange) -> None:
            access_log(exchange)
            publisher.publish(exchange)

        return record


def dev_mode(settings: Settings, file: Path | None) -> Develop | None:
    """Select what ``--watch`` and ``--dev`` add.

    Args:
        settings: The settings of the server.
        file: The route map to watch; None for a bindle, which is not watched.

    Returns:
        A context manager function for ``service.serve``; None in production.
    """
    if not (settings.watch or settings.dev):
        return None
    return partial(_dev_mode, settings, file)


def reload_on_change(settings: Settings, file: Path | None) -> Watch | None:
    """Select whether ``--reload-on-change`` reloads the service; ``--watch`` does so already.

    Args:
        settings: The settings of the server.
        file: The route map to watch; None for a bindle.
    """
    if not settings.reload_on_change or ((settings.watch or settings.dev) and file is not None):
        return None

    from wagi.dev.watcher import watching

    return partial(watching, settings, file)


@contextlib.contextmanager
def _dev_mode(settings: Settings, file: Path | None) -> Iterator[DevMode]:
    """Run the dev page and the watcher while the block runs."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder("dev"))
        problems = Problems(folder)
        states = SnapshotStates(folder)
        mode = DevMode(problems)
        if settings.dev:
            from wagi.dev.page import check_loopback, dev_page

            enable_lines()
            check_loopback(settings.dev_listen)
            page = dev_page(settings.dev_listen, file, problems.read, states.read)
            publisher, url = stack.enter_context(page)
            mode = replace(mode, publisher=publisher, page_url=url)
            if sys.stderr is not None:  # now, as the first build may take long or fail
                print(f"dev page on {url}", file=sys.stderr, flush=True)
        if file is not None:
            from wagi.dev.watcher import watching

            stack.enter_context(watching(settings, file, problems.report_build))
            trigger = stack.enter_context(making_snapshots(settings, file, states))
            mode = replace(mode, snapshots=trigger)
        yield mode


def _printed(guest: GuestRecord) -> list[tuple[str, str]]:
    outputs = {"stderr": bytes(guest.stderr), "stdout": bytes(guest.stdout)}
    return [
        (name, output.decode(errors="backslashreplace"))
        for name, output in outputs.items()
        if output
    ]


def _is_local(exchange: Exchange) -> bool:
    """Whether the client is on this machine and addressed it by a loopback name.

    The name is checked against DNS rebinding: the page of another site can resolve its own host
    name to 127.0.0.1, but cannot send ``Host: localhost``.
    """
    try:
        name = urlsplit("//" + exchange.headers.get("Host", "")).hostname
        return name in _LOCAL_NAMES and ip_address(exchange.client).is_loopback
    except ValueError:
        return False
