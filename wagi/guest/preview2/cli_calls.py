"""``wasi:cli``: arguments, environment, exit, standard streams and terminals."""

from __future__ import annotations

from wagi.guest.capi.component_linker import define_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestExit
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.results import NONE, write_strings
from wagi.guest.preview2.streams import EmptyStream, StderrStream, StdinStream, StdoutStream

_PACKAGE = "wasi:cli/"
_TERMINALS = ("stdin", "stdout", "stderr")


class TerminalInput:
    """The resource ``terminal-input``; no guest has one."""


class TerminalOutput:
    """The resource ``terminal-output``; no guest has one."""


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    for interface, name, parameters, results, call in (
        ("environment", "get-environment", "I", "", get_environment),
        ("environment", "get-arguments", "I", "", get_arguments),
        ("environment", "initial-cwd", "I", "", write_none),
        ("exit", "exit", "I", "", exit_with_result),
        ("exit", "exit-with-code", "I", "", exit_with_code),
        ("stdin", "get-stdin", "", "I", get_stdin),
        ("stdout", "get-stdout", "", "I", get_stdout),
        ("stderr", "get-stderr", "", "I", get_stderr),
    ):
        define_call(linker, _PACKAGE + interface, name, parameters, results, call)
    for name in _TERMINALS:
        interface = f"{_PACKAGE}terminal-{name}"
        define_call(linker, interface, f"get-terminal-{name}", "I", "", write_none)
    define_drop(linker, _PACKAGE + "terminal-input", "terminal-input", TerminalInput)
    define_drop(linker, _PACKAGE + "terminal-output", "terminal-output", TerminalOutput)


def get_environment(guest: ComponentContext, out: int) -> None:
    """Write the variables: a list of pairs of name and value."""
    pairs = [pair.partition(b"=") for pair in _split(guest.environment)]
    strings = [text for name, _, value in pairs for text in (name, value)]
    write_strings(guest, out, strings, fields=2)


def get_arguments(guest: ComponentContext, out: int) -> None:
    """Write the arguments: a list of strings."""
    write_strings(guest, out, _split(guest.argv))


def _split(strings: bytes) -> list[bytes]:
    """Split NUL-terminated strings. Strings of components are UTF-8: other bytes are replaced."""
    try:
        strings.decode()
    except UnicodeDecodeError:
        strings = strings.decode(errors="replace").encode()
    return strings.split(b"\0")[:-1]


def write_none(guest: ComponentContext, out: int) -> None:
    """Write ``none``: there is no working directory, and no terminal."""
    guest.memory.write(out, NONE)


def exit_with_result(guest: ComponentContext, result: int) -> None:
    """End the guest with exit status 0 for ``ok``, or 1 for an error."""
    raise GuestExit(int(result != 0))


def exit_with_code(guest: ComponentContext, status: int) -> None:
    """End the guest with an exit status from 0 to 255."""
    raise GuestExit(status & 0xFF)


def get_stdin(guest: ComponentContext) -> int:
    """Return the standard input; it is empty for a handler of wasi:http."""
    is_command = guest.exchange is None
    return guest.handles.add(StdinStream(guest) if is_command else EmptyStream())


def get_stdout(guest: ComponentContext) -> int:
    """Return the standard output; that of a handler of wasi:http is the log."""
    is_command = guest.exchange is None
    return guest.handles.add(StdoutStream(guest) if is_command else StderrStream(guest))


def get_stderr(guest: ComponentContext) -> int:
    """Return the standard error."""
    return guest.handles.add(StderrStream(guest))
