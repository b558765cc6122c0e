"""What ``--watch`` and ``--dev`` add to a service.

``server.service`` declares the interface (``Development``) and does not import this package, so
that a production server never loads it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wagi.config.settings import Settings
from wagi.gateway.route import Plan
from wagi.guest.backtrace import enable_lines
from wagi.http.errors import HTTPError
from wagi.observe.exchange import Exchange, GuestRecord, describe
from wagi.observe.text import paragraph
from wagi.server.service import Develop, Watch

if TYPE_CHECKING:
    from wagi.dev.page import Publisher

_PROBLEM_FILE = "reload-problem.txt"
_LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True)
class DevMode:
    """The state of ``--watch`` and ``--dev``, shared by the supervisor and its workers.

    Attributes:
        problem_file: Holds the error of the last reload; absent if it succeeded.
        publisher: Sends routes and exchanges to the dev page; None without ``--dev``.
        page_url: The URL of the dev page; empty without ``--dev``.
    """

    problem_file: Path
    publisher: Publisher | None = None
    page_url: str = ""

    @property
    def records_guests(self) -> bool:
        """Whether exchanges have to include what guests read and wrote."""
        return self.publisher is not None

    def report_problem(self, problem: str) -> None:
        """Store the error of a reload or a build for the workers and the dev page.

        Args:
            problem: The error; empty to clear it.
        """
        with contextlib.suppress(OSError):
            if problem:
                self.problem_file.write_text(problem, encoding="utf-8")
            else:
                self.problem_file.unlink(missing_ok=True)

    def problem(self) -> str:
        """The error of the last reload or build; empty if it succeeded."""
        try:
            return self.problem_file.read_text(encoding="utf-8")
        except OSError:
            return ""

    def notice(self, exchange: Exchange, error: HTTPError) -> str:
        """The text that an error page shows in addition.

        A failed reload is shown to every client; why the handler failed (with ``--dev``) only to
        clients on this machine.
        """
        problem = self.problem()
        notices = [f"Reload failed:\n{problem}"] if problem else []
        if self.publisher and exchange.guest and _is_local(exchange):
            notices.append(f"Why: {paragraph(error.reason)}")
            notices += _printed(exchange.guest)
            notices.append("\n".join(map("".join, describe(exchange, exchange.guest))))
        return "\n\n".join(notices)

    def publish_routes(self, plan: Plan, url: str) -> None:
        """Show the routes on the dev page.

        Args:
            plan: The routes.
            url: Where the server listens.
        """
        if self.publisher is not None:
            self.publisher.publish_routes(plan, url)

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
def _dev_mode(settings: Settings, file: Path | None, log_dir: Path) -> Iterator[DevMode]:
    """Run the dev page and the watcher while the block runs."""
    mode = DevMode(log_dir / _PROBLEM_FILE)
    mode.report_problem("")
    with contextlib.ExitStack() as stack:
        stack.callback(mode.report_problem, "")  # an empty log directory is removed
        if settings.dev:
            from wagi.dev.page import check_loopback, dev_page

            enable_lines()
            check_loopback(settings.dev_listen)
            publisher, url = stack.enter_context(dev_page(settings.dev_listen, mode.problem))
            mode = replace(mode, publisher=publisher, page_url=url)
        if file is not None:
            from wagi.dev.watcher import watching

            stack.enter_context(watching(settings, file, mode.report_problem))
        yield mode


def _printed(guest: GuestRecord) -> list[str]:
    outputs = {"stderr": bytes(guest.stderr), "stdout": bytes(guest.stdout)}
    return [
        f"{name}:\n    {paragraph(output.decode(errors='backslashreplace'))}"
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
