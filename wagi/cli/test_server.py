"""``wagi test-server``: a server for test suites in any language."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click

from wagi.cli.console import show_progress
from wagi.cli.options import (
    SettingsCommand,
    manifest_argument,
    manifest_path,
    server_options,
    settings_from,
)
from wagi.config.values import HostPort
from wagi.dev.mode import dev_mode
from wagi.gateway.route import Plan
from wagi.observe.server_log import ServerLog
from wagi.server import service

_log = logging.getLogger("wagi")
_POLL_INTERVAL_S = 0.2  # of the parent process


@click.command(
    "test-server",
    cls=SettingsCommand,
    short_help="Serve on a free port, for test suites.",
    help="""Serve MODULES_TOML on a free loopback port, for test suites in any language.

    When ready, it prints one line of JSON to stdout: {"url": …, "port": …, "pid": …}. The log goes
    to stderr. The server stops on SIGTERM, and when its parent process exits.

    \b
    Examples:
      wagi test-server
      wagi test-server -e MODE=test deploy/modules.toml
    """,
)
@manifest_argument
@server_options
def test_server(file: Path | None, config: Path | None, **options: Any) -> None:
    """Serve for tests."""
    parent = os.getppid()
    given = {"listen": HostPort("127.0.0.1", 0), "workers": 1, "access_log": "off"}
    settings = settings_from({**options, **{k: v for k, v in given.items() if not options.get(k)}})
    path = manifest_path(file, config, settings)
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()

    def announce(log: ServerLog, url: str, plan: Plan, log_dir: Path | None) -> None:
        for warning in plan.warnings:
            if settings.log_format == "json":
                _log.warning("%s", warning)
            else:
                log.print(f"warning: {warning}")
        port = url.rpartition(":")[2]
        print(json.dumps({"url": url, "port": int(port), "pid": os.getpid()}), flush=True)

    sys.exit(service.serve(settings, path, announce, show_progress, dev_mode(settings, path)))


def _exit_with_parent(parent: int) -> None:
    # The supervisor waits for signals in the main thread: they must not be delivered to this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while os.getppid() == parent:
        time.sleep(_POLL_INTERVAL_S)
    os.kill(os.getpid(), signal.SIGTERM)
