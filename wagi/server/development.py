"""What --watch and --dev add to the service, for those who develop handlers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wagi.config.settings import Settings
from wagi.http.errors import HTTPError
from wagi.observe.exchange import Exchange, GuestRecord, describe
from wagi.observe.text import paragraph

if TYPE_CHECKING:
    from wagi.server.dev import Teller

_TROUBLE = "reload-problem.txt"
_LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))


@dataclass(frozen=True, slots=True)
class Development:
    """What --watch and --dev add.

    Attributes: ``trouble`` a file with what is wrong with the last reload; ``teller`` and URL of
    the ``page``, with --dev.
    """

    trouble: Path
    teller: Teller | None = None
    page: str = ""

    def leave(self, problem: str) -> None:
        """Leave what is wrong for workers and page; an empty text if nothing is."""
        with contextlib.suppress(OSError):
            if problem:
                self.trouble.write_text(problem, encoding="utf-8")
            else:
                self.trouble.unlink(missing_ok=True)

    def problem(self) -> str:
        """What is wrong; empty if nothing is."""
        try:
            return self.trouble.read_text(encoding="utf-8")
        except OSError:
            return ""

    def notice(self, exchange: Exchange, error: HTTPError) -> str:
        """What error pages say besides: to anybody what was not reloaded, and to a client on this
        machine, with --dev, why the handler failed.
        """
        problem = self.problem()
        notices = [f"Not reloaded:\n{problem}"] if problem else []
        if self.teller and exchange.guest and _is_local(exchange):
            notices.append(f"Why: {paragraph(error.reason)}")
            notices += _printed(exchange.guest)
            notices.append("\n".join(map("".join, describe(exchange, exchange.guest))))
        return "\n\n".join(notices)

    def record_with(self, access_log: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        """An access log that tells the page, too."""
        teller = self.teller
        assert teller is not None

        def record(exchange: Exchange) -> None:
            access_log(exchange)
            teller.tell(exchange)

        return record


def develop(
    settings: Settings, file: Path | None, log_dir: Path, stack: contextlib.ExitStack
) -> Development | None:
    """Start what watches, and what serves the page; None in production."""
    if not (settings.watch or settings.dev):
        return None
    development = Development(log_dir / _TROUBLE)
    development.leave("")
    if settings.dev:
        from wagi.server.dev import check_loopback, dev_page

        # wasmtime's own switch for file and line in backtraces, where the module has them.
        os.environ["WASMTIME_BACKTRACE_DETAILS"] = "1"
        check_loopback(settings.dev_listen)
        page = dev_page(settings.dev_listen, development.problem)
        teller, url = stack.enter_context(page)
        development = replace(development, teller=teller, page=url)
    if file is not None:
        from wagi.server.watching import watching  # and a watcher

        stack.enter_context(watching(settings, file, development.leave))
    return development


def _printed(guest: GuestRecord) -> list[str]:
    outputs = {"stderr": bytes(guest.stderr), "stdout": bytes(guest.stdout)}
    return [
        f"{name}:\n    {paragraph(output.decode(errors='backslashreplace'))}"
        for name, output in outputs.items()
        if output
    ]


def _is_local(exchange: Exchange) -> bool:
    """Whether a client is on this machine, and asked for it by a name that no page of somebody
    else can have (DNS rebinding).
    """
    try:
        name = urlsplit("//" + exchange.headers.get("Host", "")).hostname
        return name in _LOCAL_NAMES and ip_address(exchange.client).is_loopback
    except ValueError:
        return False
