"""Runs scripts of WASI calls with the compiled core, and with the host calls in Python."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

from tests.support.core_scripts import CoreScript
from tests.support.linkers import linker
from tests.support.wasi_calls import ARENA, Call, Result, decode_log, encode, interpreter
from wagi.guest.capi import store as capi_store
from wagi.guest.capi import store_config as capi_store_config
from wagi.guest.capi.linker import InstancePre
from wagi.guest.capi.store_config import StoreLimits
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler, HandlerSpec, Preopen
from wagi.guest.module import parse
from wagi.guest.outcome import Outcome
from wagi.limits import Limits

TIME_MAX_S = 30.0
"""Maximum duration of a script, in seconds."""
FILE = b"0123456789" * 5
"""Initial content of the volume's file."""
_PAGE = 65536
_MEMORY = 1024 * _PAGE  # maximum size in bytes of each memory
_LIMITS = StoreLimits(memory=_MEMORY, elements=1000, memories=3, tables=1)


@dataclass(frozen=True, slots=True)
class Run:
    """The observable results of a guest.

    Attributes:
        outcome: How it ended, or what it waits for indefinitely.
        results: Results of the script's calls, if they were recorded.
        memory: Its whole memory at the end; empty if it has none.
        output: Its stdout.
        errors: Its stderr.
        unread: The input that it did not read.
        file: Content of the volume's file at the end.
    """

    outcome: Outcome | str
    results: list[Result]
    memory: bytes
    output: bytes
    errors: bytes
    unread: bytes
    file: bytes


@cache
def _instance_pre(text: str, compiled: bool) -> InstancePre:
    source = parse("test.wat", text.encode(), _MEMORY)
    return linker(compiled).instantiate_pre(linker(compiled).engine.compile(source.wasm))


@cache
def _interpreter(module: str) -> str:
    return interpreter(module)


@cache
def _volume() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="wagi-core-volume-")


@contextmanager
def _slices_of(seconds: float) -> Iterator[None]:
    with (
        patch.object(capi_store_config, "SLICE", seconds),
        patch.object(capi_store, "SLICE", seconds),
    ):
        yield


def handler(
    text: str,
    compiled: bool,
    slice_seconds: float = 10.0,
    output_limit: int = 256 * 1024,
    has_volume: bool = False,
) -> Handler:
    """Make a handler from a module in the text format; see ``CoreScript``."""
    pre = _instance_pre(text, compiled)
    preopens = (Preopen(_volume().name, "/data"),) if has_volume else ()
    limits = Limits(memory_limit=_MEMORY, output_buffer=output_limit)
    calls = (b"_start",)
    spec = HandlerSpec("test", "", pre.engine.memory, calls, limits, _LIMITS, preopens, None, False)
    with _slices_of(slice_seconds):
        return Handler(spec, pre, None)


def run_text(text: str, script: CoreScript, compiled: bool) -> Run:
    """Run a module in the text format; the script's calls are ignored."""
    made = handler(text, compiled, script.slice_seconds, script.output_limit, script.has_volume)
    file = Path(_volume().name, "file")
    file.write_bytes(FILE)
    with _slices_of(script.slice_seconds):  # the host calls in Python read it in each poll
        return _run(made, script, file)


def _run(handler: Handler, script: CoreScript, file: Path) -> Run:
    output, errors = [], bytearray()
    guest = Guest(handler, script.arguments, script.environment, errors.extend)
    store = guest._store
    stdin, stdout = store.streams()
    pieces = list(script.pieces)
    deadline = time.monotonic() + TIME_MAX_S
    ended = False
    try:
        while not guest.step():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the guest did not finish within {TIME_MAX_S:g} s: {script}")
            if guest.wait.input and pieces:
                guest.feed(pieces.pop(0))
            elif guest.wait.input and script.ends and not ended:
                ended = True
                guest.end_input()
            elif guest.wait.wake_at is not None and guest.wait.wake_at < deadline:
                time.sleep(max(0.0, guest.wait.wake_at - time.monotonic()))
            elif not guest.wait.is_turn:
                break
            elif stdout.room == 0:
                output.append(guest.take_output())
        output.append(guest.take_output())
        waits = "waits for input" if guest.wait.input else "sleeps"
        outcome: Outcome | str = guest.outcome or waits
        memory = store.memory().tobytes() if _has_memory(guest) else b""
        unread = stdin.take(1 << 30)
    finally:
        guest.close()
    content = file.read_bytes()
    return Run(outcome, [], memory, b"".join(output), bytes(errors), unread, content)


def _has_memory(guest: Guest) -> bool:
    guest._store.memory_is_current = False  # the memory may have grown since the last host call
    return guest.memory_size > 0


def run_script(
    script: CoreScript,
    compiled: bool,
    module: str = "wasi_snapshot_preview1",
    keeps_random_bytes: bool = False,
) -> Run:
    """Run a script.

    Args:
        script: The calls and their environment.
        compiled: Whether the compiled core runs the guest.
        module: The module that the guest imports its functions from.
        keeps_random_bytes: Whether results contain random bytes instead of zeros.
    """
    first = encode(script.calls)
    with_calls = CoreScript(
        (),
        script.arguments,
        script.environment,
        (first, *script.pieces),
        script.ends,
        script.output_limit,
        script.slice_seconds,
        script.has_volume,
    )
    seen = run_text(_interpreter(module), with_calls, compiled)
    results, memory = [], seen.memory
    if len(memory) > ARENA:  # the record has been appended
        results = decode_log(lambda at, length: memory[ARENA + at : ARENA + at + length])
        memory = b""  # the final memory is that of the last result
    if not keeps_random_bytes:
        pairs = zip(script.calls, results, strict=False)
        results = [_without_random_bytes(made, result) for made, result in pairs]
    return Run(seen.outcome, results, memory, seen.output, seen.errors, seen.unread, seen.file)


def _without_random_bytes(made: Call, result: Result) -> Result:
    if made.name != "random_get" or result.errno != 0:
        return result
    at, length = made.arguments
    memory = bytearray(result.memory)
    memory[at : at + length] = bytes(length)
    return Result(result.errno, bytes(memory))


def find_difference(script: CoreScript, python: Run, compiled: Run) -> str:
    """Compare two runs; return the first difference, or an empty string if they are equal."""
    for index, (theirs, ours) in enumerate(zip(python.results, compiled.results, strict=False)):
        if theirs != ours:
            calls = "\n  ".join(str(made) for made in script.calls[: index + 1])
            at = next(
                (at for at, pair in enumerate(zip(theirs.memory, ours.memory, strict=False))
                 if pair[0] != pair[1]),
                0,
            )  # fmt: skip
            return (
                f"call {index}: in Python {theirs.errno}, compiled {ours.errno}; memory at {at}:"
                f" in Python {theirs.memory[at : at + 32].hex(' ', 4)},"
                f" compiled {ours.memory[at : at + 32].hex(' ', 4)}\n  {calls}\n{script}"
            )
    for what in Run.__slots__:
        theirs, ours = getattr(python, what), getattr(compiled, what)
        if theirs != ours:
            return f"{what}: in Python {str(theirs)[:500]}, compiled {str(ours)[:500]}\n{script}"
    return ""


def check_script(script: CoreScript, module: str = "wasi_snapshot_preview1") -> None:
    """Run a script both ways; raise AssertionError if the runs differ."""
    difference = find_difference(
        script, run_script(script, False, module), run_script(script, True, module)
    )
    assert not difference, difference


def check_text(text: str, script: CoreScript) -> Run:
    """Run a module both ways, and return the run; raise AssertionError if the runs differ."""
    run = run_text(text, script, False)
    difference = find_difference(script, run, run_text(text, script, True))
    assert not difference, difference
    return run
