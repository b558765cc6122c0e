"""The commands, from what the command line itself knows: as a page, and as a manual page.

The manual page is ``docs/wagi.1``; the package installs it, so that ``man wagi`` shows it.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc

import click

from wagi.cli import cli

_EXIT = (
    ("0", "success; a shutdown that a signal asked for"),
    ("1", "failure: a taken port, a registry that does not answer, an answer of 400 and above"),
    ("2", "bad usage or configuration"),
    ("130", "Ctrl-C; `wagi serve` then stops in order, with 0"),
)
_FILES = (
    ("modules.toml", "The route map: which module answers which path."),
    ("~/.cache/wagi/artefacts", "Compiled modules; can be deleted at any time."),
    ("~/.cache/wagi/modules", "Modules from elsewhere; can be deleted at any time."),
    ("~/.docker/config.json", "The credentials of registries."),
)


@dataclass(frozen=True)
class Command:
    """What is known of a command.

    Attributes: ``name`` with wagi before it; ``usage`` the words after the name; ``blocks`` of its
    help, those with line breaks that mean something being the examples; ``options`` and what each
    means.
    """

    name: str
    usage: str
    blocks: tuple[tuple[bool, str], ...]
    options: tuple[tuple[str, str], ...]


def commands() -> list[Command]:
    """All of them, the root first."""
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
    records = (item.get_help_record(context) for item in command.get_params(context))
    blocks = []
    for block in cleandoc(command.help or "").split("\n\n"):
        as_it_is = block.startswith("\b\n")
        text = block.removeprefix("\b\n")
        blocks.append((as_it_is, text if as_it_is else " ".join(text.split())))
    return Command(
        context.command_path,
        " ".join(command.collect_usage_pieces(context)),
        tuple(blocks),
        tuple(record for record in records if record and record[1] and record[0] != "--help"),
    )


def page() -> str:
    """``commands.md``."""
    parts = [
        "# Commands",
        "",
        "`wagi COMMAND --help` says the same in a terminal, and so does `man wagi`.",
        "",
        "| exit status | meaning |",
        "| --- | --- |",
        *(f"| {status} | {meaning} |" for status, meaning in _EXIT),
    ]
    for command in commands():
        parts += ["", f"## {command.name}", "", f"`{command.name} {command.usage}`"]
        for as_it_is, text in command.blocks:
            parts += ["", *(["```text", text, "```"] if as_it_is else [text])]
        if command.options:
            parts += ["", "| option | what it is |", "| --- | --- |"]
        parts += [
            f"| <code>{_cell(name)}</code> | {_cell(text)} |" for name, text in command.options
        ]
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "&#124;")


def manual() -> str:
    """``wagi.1``, in the man(7) macros."""
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
    for number, (as_it_is, text) in enumerate(command.blocks):
        if number:
            yield ".PP"
        if as_it_is:
            yield from (".nf", *map(_roff, text.split("\n")), ".fi")
        else:
            yield _roff(text)
    for name, text in command.options:
        yield from (".TP", ".B " + _roff(name), _roff(text))


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    escaped = escaped.replace("…", "\\&...")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped
