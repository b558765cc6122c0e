"""Runs of components, here and by wasmtime's command, to compare both."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.strings import block
from wagi.guest.engine import Runtime
from wagi.guest.guest import Guest
from wagi.guest.handler import Preopen
from wagi.guest.module import parse
from wagi.guest.outcome import Exit, Returned
from wagi.limits import Limits

VARIABLES = {
    "REQUEST_METHOD": "POST",
    "PATH_INFO": "/x",
    "SCRIPT_NAME": "/",
    "QUERY_STRING": "a=1&exit=3",
    "CONTENT_TYPE": "text/x",
    "CONTENT_LENGTH": "5",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_NAME": "localhost",
    "HTTP_HOST": "localhost",
    "REQUEST_URI": "/x?a=1&exit=3",
}


@dataclass(frozen=True)
class Ending:
    """What a program did. Preview 2 has no other exit status than success and failure."""

    succeeded: bool
    stdout: bytes
    stderr: bytes


def run_in_wasmtime(
    wasm: Path,
    volume: Path,
    wasmtime: Path,
    arguments: Sequence[str] = ("a=1",),
    variables: Mapping[str, str] = VARIABLES,
    stdin: bytes = b"input",
) -> Ending:
    """Run a component with wasmtime's command.

    Args:
        wasm: The component.
        volume: The directory that it sees as ``/data``.
        wasmtime: The command.
        arguments: Its arguments after the first one, which is ``/x``.
        variables: Its environment variables.
        stdin: Its standard input.
    """
    options = [option for item in variables.items() for option in ("--env", "=".join(item))]
    command = [str(wasmtime), "run", "--argv0", "/x", f"--dir={volume}::/data", *options]
    done = subprocess.run([*command, str(wasm), *arguments], input=stdin, capture_output=True)
    return Ending(done.returncode == 0, done.stdout, done.stderr)


def run_here(
    wasm: Path,
    volume: Path,
    wasmtime: Path,
    arguments: Sequence[str] = ("a=1",),
    variables: Mapping[str, str] = VARIABLES,
    stdin: bytes = b"input",
) -> Ending:
    """Run a component as a guest; the parameters are those of ``run_in_wasmtime``."""
    limits = Limits()
    module = Runtime().load(parse(wasm.name, wasm.read_bytes(), limits.memory_limit))
    preopens = (Preopen(str(volume), "/data"),)
    environment = block(f"{name}={value}".encode() for name, value in variables.items())
    stderr: list[bytes] = []
    handler = module.handler("_start", limits, preopens)
    argv = block(text.encode() for text in ("/x", *arguments))
    guest = Guest(handler, argv, environment, stderr.append)
    output = b""
    try:
        guest.feed(stdin)
        guest.end_input()
        while not guest.step():
            output += guest.take_output()
        output += guest.take_output()
        outcome = guest.outcome
    finally:
        guest.close()
    succeeded = isinstance(outcome, Returned) or (isinstance(outcome, Exit) and not outcome.status)
    return Ending(succeeded, output, b"".join(stderr))
