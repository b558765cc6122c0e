"""``wagi call`` and ``wagi run``: send one request through the gateway, without a port."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from wagi.cli.completion import complete_module, complete_path
from wagi.cli.console import print_error, show_progress
from wagi.cli.options import (
    LOCAL,
    SettingsCommand,
    manifest_path,
    map_option,
    setting_options,
    settings_from,
)
from wagi.config.settings import Settings
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.guest.backtrace import enable_lines
from wagi.observe.exchange import Exchange, describe
from wagi.observe.text import one_line
from wagi.routemap.reader import MODULE_SUFFIXES
from wagi.testing.local_gateway import Answer, local_gateway

F = TypeVar("F", bound=Callable[..., Any])
_NO_METHOD = re.compile(r"[\x00-\x20\"(),/:;<=>?@\[\\\]{}\x7f]")
"""ASCII characters that a method cannot have (RFC 9110 §5.6.2)."""
_FORM = ("Content-Type", "application/x-www-form-urlencoded")


def _request_options(command: F) -> F:
    for option in (
        click.option(
            "-H",
            "--header",
            "headers",
            multiple=True,
            metavar="NAME:VALUE",
            help="Request header.",
        ),
        click.option("-X", "--request", "method", metavar="METHOD", help="Same as METHOD."),
        click.option(
            "-d",
            "--data",
            multiple=True,
            metavar="DATA|@FILE",
            help="Request body; @- reads stdin. Several values are joined with &, as in curl.",
        ),
        click.option("-i", "--include", is_flag=True, help="Print the status and headers as well."),
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            help="Print the guest's variables, argv, exit code, CPU time and memory to stderr.",
        ),
        click.option(
            "--record",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Record the request and response in a file that `wagi test` can replay.",
        ),
        setting_options(*LOCAL),
    ):
        command = option(command)
    return command


@click.command(
    cls=SettingsCommand,
    short_help="Send one request without starting a server.",
    help="""Send one request through the gateway without starting a server, and print the response.

    METHOD defaults to GET, or to POST if there is a body. The exit status is 0 if the response
    status is below 400, otherwise 1. The handler's stderr is copied to stderr.

    \b
    Examples:
      wagi call /hello
      wagi call -i -d name=Ann /form
      wagi call PUT /file -d @picture.png -H content-type:image/png
      wagi call -v -c deploy/modules.toml /hello?name=Ann
      wagi call --record cases/hello.toml /hello
    """,
)
@click.argument(
    "words", nargs=-1, required=True, metavar="[METHOD] PATH", shell_complete=complete_path
)
@map_option
@_request_options
def call(words: tuple[str, ...], config: Path | None, method: str | None, **options: Any) -> None:
    """Call a route."""
    if len(words) > 2:
        raise click.UsageError(f"expected [METHOD] PATH, found {' '.join(words)}")
    *given, path = words
    settings, request = _split(options)
    _call(settings, manifest_path(None, config, settings), _method(given, method), path, **request)


@click.command(
    cls=SettingsCommand,
    short_help="Send one request to a module, without a modules.toml.",
    help="""Send one request to the module in FILE, which is mapped to every path. Otherwise like
    `wagi call`. With -b, send it to the routes of a bindle, without a FILE.

    \b
    Examples:
      wagi run hello.wasm
      wagi run hello.wasm /some/path?name=Ann
      wagi run -i -d @body.json hello.wasm POST /
    """,
)
@click.argument("words", nargs=-1, metavar="FILE [[METHOD] PATH]", shell_complete=complete_module)
@_request_options
def run(words: tuple[str, ...], method: str | None, **options: Any) -> None:
    """Call a module."""
    settings, request = _split(options)
    file = None
    if words and Path(words[0]).suffix in MODULE_SUFFIXES:
        file, words = Path(words[0]), words[1:]
    elif settings.bindle is None:
        found = words[0] if words else "nothing"
        raise click.UsageError(f"expected a module (.wasm, .wat), found {found}")
    if file and settings.bindle:
        raise click.UsageError(
            f"expected either a module or a bindle, found both {file} and {settings.bindle}"
        )
    if len(words) > 2:
        raise click.UsageError(f"expected [METHOD] PATH, found {' '.join(words)}")
    *given, path = words or ("/",)
    _call(settings, file, _method(given, method), path, **request)


def _split(options: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Separate the settings of the gateway from the options of the request."""
    names = Settings.model_fields.keys()
    request = {name: value for name, value in options.items() if name not in names}
    return settings_from({k: v for k, v in options.items() if k in names}), request


def _method(words: list[str], option: str | None) -> str | None:
    if words and option:
        raise click.UsageError(f"expected one method, found both {words[0]} and -X {option}")
    return words[0] if words else option


def _call(
    settings: Settings,
    file: Path | None,
    method: str | None,
    target: str,
    headers: tuple[str, ...],
    data: tuple[str, ...],
    include: bool,
    verbose: bool,
    record: Path | None,
) -> None:
    if not target.startswith("/"):
        raise click.UsageError(f"expected a path such as /hello, found {target!r}")
    fields = [_header(text) for text in headers]
    body = b"&".join(map(_data, data))
    if data and "content-type" not in {name.lower() for name, _ in fields}:
        fields.append(_FORM)
    method = method or ("POST" if data else "GET")
    if _NO_METHOD.search(method):
        raise click.UsageError(
            f"expected a method such as GET, found {method!r}: `wagi run` calls a module, and -c"
            " selects another route map"
        )
    if verbose:
        enable_lines()
    messages = _MessageHandler()
    logging.basicConfig(level=logging.WARNING, handlers=[messages])
    try:
        with local_gateway(settings, file, show_progress) as gateway:
            for warning in gateway.warnings:
                print_error("warning", warning)
            try:
                answer = gateway.ask(method, target, fields, body)
            except ValueError as error:
                raise ConfigurationError(Problem(str(error))) from None
        _print_guest(answer.exchange, verbose)
    finally:
        messages.print()
    if record is not None:
        _record(record, method, target, fields, body, answer)
    _print(answer, include)
    if not answer.is_whole:
        raise WagiError("the connection broke in the middle of the response")
    if answer.status >= 400:
        sys.exit(1)


def _print_guest(exchange: Exchange, verbose: bool) -> None:
    """Print what the guest wrote to stderr, and what ``-v`` shows."""
    guest = exchange.guest
    if guest is None:
        return
    sys.stderr.write("".join(f"{line}\n" for line in _lines(bytes(guest.stderr))))
    if verbose:
        for label, text in describe(exchange, guest):
            click.echo(click.style(label, fg="cyan") + text, err=True)


def _print(answer: Answer, include: bool) -> None:
    if include:
        status = one_line(f"HTTP/1.1 {answer.status} {answer.reason}")
        click.secho(status, fg=_color(answer.status), bold=True)
        for name, value in answer.headers:
            click.echo(f"{click.style(one_line(name) + ':', fg='cyan')} {one_line(value)}")
        click.echo()
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.body)
    sys.stdout.buffer.flush()


def _color(status: int) -> str:
    if status >= 400:
        return "red"
    return "yellow" if status >= 300 else "green"


def _lines(output: bytes) -> list[str]:
    return [one_line(line) for line in output.decode(errors="backslashreplace").splitlines()]


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H: expected NAME:VALUE, found {text!r}")
    return name.strip(), value.strip()


def _data(text: str) -> bytes:
    if not text.startswith("@"):
        return os.fsencode(text)  # the bytes as typed, independent of the locale
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise ConfigurationError(Problem(f"-d {text}: {error.strerror}")) from None


def _record(
    path: Path,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    body: bytes,
    answer: Answer,
) -> None:
    from wagi.testing.cases import format_case

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        case = format_case(
            method, target, headers, body, answer.status, answer.headers, answer.body
        )
        path.write_text(case, "utf-8")
    except OSError as error:
        raise WagiError(f"--record {path}: {error.strerror}") from None


class _MessageHandler(logging.Handler):
    """Keeps log records of the gateway, to print them after the stderr of the guest."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def print(self) -> None:
        """Print the records as warnings and errors of the command."""
        for record in self._records:
            kind = "error" if record.levelno >= logging.ERROR else "warning"
            print_error(kind, getattr(record, "summary", None) or record.getMessage())
