"""Generate the documentation of the commands from the command line: a page and a manual page.

The manual page is ``docs/wagi.1``; the package installs it for ``man wagi``.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc

import click

from wagi.cli import cli
from wagi.cli.options import by_topic

_EXIT = (
    ("0", "success, including a shutdown by a signal"),
    (
        "1",
        "failure: a port in use, an unreachable registry, a response status of 400 or above",
    ),
    ("2", "bad usage or configuration"),
    ("130", "interrupted by Ctrl-C; `wagi serve` shuts down gracefully instead, with status 0"),
)
_HELP = ("--help", "-h, --help")
_FILES = (
    ("modules.toml", "The route map, which maps paths to modules."),
    ("~/.cache/wagi/artefacts", "Cache of compiled modules; can be deleted at any time."),
    ("~/.cache/wagi/modules", "Cache of downloaded modules; can be deleted at any time."),
    ("~/.docker/config.json", "Credentials for registries."),
)


@dataclass(frozen=True)
class Command:
    """The documentation of a command.

    Attributes:
        name: The full name, such as ``wagi serve``.
        usage: The arguments.
        blocks: The paragraphs of its help; the flag marks preformatted ones, such as examples.
        sections: The options with their help, by topic.
    """

    name: str
    usage: str
    blocks: tuple[tuple[bool, str], ...]
    sections: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def commands() -> list[Command]:
    """Collect all commands, the root first."""
    root = click.Context(cli, info_name="wagi")
    return [
        _command(cli, root),
        *(_command(command, click.Context(command, root, name)) for name, command in _all(root)),
    ]


def _all(root: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        yield name, command


def _command(command: click.Command, context: click.Context) -> Command:
    sections = []
    for title, records in by_topic(command.get_params(context), context):
        shown = tuple(record for record in records if record[1] and record[0] not in _HELP)
        if shown:
            sections.append((title, shown))
    blocks = []
    for block in cleandoc(command.help or "").split("\n\n"):
        is_preformatted = block.startswith("\b\n")
        text = block.removeprefix("\b\n")
        blocks.append((is_preformatted, text if is_preformatted else " ".join(text.split())))
    return Command(
        context.command_path,
        " ".join(command.collect_usage_pieces(context)),
        tuple(blocks),
        tuple(sections),
    )


def page() -> str:
    """Generate ``commands.md``."""
    parts = [
        "# Commands",
        "",
        "The same text is shown by `wagi COMMAND --help` and `man wagi`.",
        "",
        "| exit status | meaning |",
        "| --- | --- |",
        *(f"| {status} | {meaning} |" for status, meaning in _EXIT),
    ]
    for command in commands():
        parts += ["", f"## {command.name}", "", f"`{command.name} {command.usage}`"]
        for is_preformatted, text in command.blocks:
            parts += ["", *(["```text", text, "```"] if is_preformatted else [text])]
        for title, options in command.sections:
            if len(command.sections) > 1:
                parts += ["", f"**{title}**"]
            parts += ["", "| option | description |", "| --- | --- |"]
            parts += [f"| <code>{_cell(name)}</code> | {_cell(text)} |" for name, text in options]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "&#124;")


def manual() -> str:
    """Generate ``wagi.1``, in the man(7) macros."""
    root, *rest = commands()
    parts = ['.TH WAGI 1 "" "" "User Commands"', ".SH NAME"]
    parts += ["wagi \\- the WebAssembly gateway: CGI for WASI modules", ".SH SYNOPSIS"]
    for number, command in enumerate(rest):
        parts += [".br"] * bool(number)
        parts += [".B " + _roff(command.name), _roff(command.usage)]
    parts += [".SH DESCRIPTION", *_described(root), ".SH COMMANDS"]
    for command in rest:
        parts += [f'.SS "{_roff(command.name)} {_roff(command.usage)}"', *_described(command)]
    for title, rows in (("EXIT STATUS", _EXIT), ("FILES", _FILES)):
        parts.append(f".SH {title}")
        for name, text in rows:
            parts += [".TP", ".B " + _roff(name), _roff(text)]
    return "\n".join(parts) + "\n"


def _described(command: Command) -> Iterator[str]:
    for number, (is_preformatted, text) in enumerate(command.blocks):
        if number:
            yield ".PP"
        if is_preformatted:
            yield from (".nf", *map(_roff, text.split("\n")), ".fi")
        else:
            yield _roff(text)
    for title, options in command.sections:
        if len(command.sections) > 1:
            yield from (".PP", ".I " + _roff(title))
        for name, text in options:
            yield from (".TP", ".B " + _roff(name), _roff(text))


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    escaped = escaped.replace("…", "\\&...")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped
