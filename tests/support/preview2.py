"""Guests that call WASI preview 2: the core modules of small components, in the text format."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.linkers import linker
from wagi.guest.capi.engine import wat_to_wasm
from wagi.guest.capi.store_config import Canonical, StoreLimits
from wagi.guest.component.host_exports import add_host_exports
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler, HandlerSpec, Preopen
from wagi.guest.outcome import Outcome
from wagi.limits import Limits

ALLOCATOR = """
  (global $heap (mut i32) (i32.const 8192))
  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $heap (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get 2) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get 2))))
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get 3))))"""
"""An allocator that never frees."""
IO = {
    "stdout": ("wasi:cli/stdout", "get-stdout"),
    "stderr": ("wasi:cli/stderr", "get-stderr"),
    "stdin": ("wasi:cli/stdin", "get-stdin"),
    "environment": ("wasi:cli/environment", "get-environment"),
    "arguments": ("wasi:cli/environment", "get-arguments"),
    "read": ("wasi:io/streams", "[method]input-stream.read"),
    "blocking_read": ("wasi:io/streams", "[method]input-stream.blocking-read"),
    "subscribe_input": ("wasi:io/streams", "[method]input-stream.subscribe"),
    "drop_input": ("wasi:io/streams", "[resource-drop]input-stream"),
    "check_write": ("wasi:io/streams", "[method]output-stream.check-write"),
    "write": ("wasi:io/streams", "[method]output-stream.write"),
    "blocking_write": ("wasi:io/streams", "[method]output-stream.blocking-write-and-flush"),
    "subscribe_output": ("wasi:io/streams", "[method]output-stream.subscribe"),
    "splice": ("wasi:io/streams", "[method]output-stream.blocking-splice"),
    "drop_output": ("wasi:io/streams", "[resource-drop]output-stream"),
    "ready": ("wasi:io/poll", "[method]pollable.ready"),
    "block": ("wasi:io/poll", "[method]pollable.block"),
    "poll": ("wasi:io/poll", "poll"),
    "drop_pollable": ("wasi:io/poll", "[resource-drop]pollable"),
    "now": ("wasi:clocks/monotonic-clock", "now"),
    "after": ("wasi:clocks/monotonic-clock", "subscribe-duration"),
    "zone": ("wasi:clocks/timezone", "display"),
    "offset": ("wasi:clocks/timezone", "utc-offset"),
    "random": ("wasi:random/random", "get-random-bytes"),
    "exit": ("wasi:cli/exit", "exit"),
    "exit_with_code": ("wasi:cli/exit", "exit-with-code"),
}
"""Short names of functions, by which code calls them (``$stdout``)."""
_MEMORY = 64 * 1024 * 1024
_LIMITS = StoreLimits(memory=_MEMORY, elements=1000, memories=2, tables=1)
_TYPES = {"I": "i32", "Q": "i64"}
TIME_MAX_S = 30.0
"""Maximum duration of a guest, in seconds."""


@dataclass(frozen=True, slots=True)
class Run:
    """The observable results of a guest."""

    outcome: Outcome
    output: bytes
    errors: bytes


def module(code: str, allocator: str = ALLOCATOR, fields: str = "", pages: int = 2) -> str:
    """Return a core module.

    Args:
        code: The body of ``run``, which returns an i32 and has locals ``$i`` and ``$j``.
        allocator: A field that exports ``cabi_realloc``.
        fields: More fields.
        pages: Initial size of the memory.
    """
    definitions = linker(False).component_calls
    imports = []
    everything = code + allocator + fields
    for short, (interface, name) in IO.items():
        if f"(call ${short})" in everything or f"(call ${short} " in everything:
            found = definitions[interface, name]
            types = "".join(f"(param {_TYPES[each]})" for each in found.parameters)
            types += "".join(f"(result {_TYPES[each]})" for each in found.results)
            imports.append(f'(import "{interface}" "{name}" (func ${short} {types}))')
    return f"""(module {" ".join(imports)}
      (memory (export "memory") {pages}) {allocator} {fields}
      (func (export "run") (result i32) (local $i i32) (local $j i32) {code}))"""


def handler(
    text: str,
    compiled: bool,
    preopens: tuple[Preopen, ...] = (),
    limits: Limits | None = None,
    has_place: bool = True,
) -> Handler:
    """Make a handler of a core module whose export ``run`` is called.

    Args:
        text: The module.
        compiled: Whether the compiled core runs the guest.
        preopens: The directories that guests can access.
        limits: Limits other than the default ones.
        has_place: Whether to add the helper for lists of strings.
    """
    wasm = wat_to_wasm(text)
    if has_place:
        wasm = add_host_exports(wasm, "memory", ("cabi_realloc",), ())
    engine = linker(compiled).engine
    pre = linker(compiled).instantiate_pre(engine.compile(wasm))
    canonical = Canonical((b"cabi_realloc",), (), has_result=True)
    spec = HandlerSpec(
        "test",
        "",
        engine.memory,
        (b"run",),
        limits or Limits(memory_limit=_MEMORY),
        _LIMITS,
        preopens,
        None,
        False,
        canonical,
        "wasi:cli/command",
    )
    return Handler(spec, pre, None)


@contextmanager
def guest(
    made: Handler, arguments: bytes = b"", environment: bytes = b""
) -> Iterator[tuple[Guest, bytearray]]:
    """Start a guest. Yields: The guest, and what it writes to standard error."""
    errors = bytearray()
    started = Guest(made, arguments, environment, errors.extend)
    try:
        yield started, errors
    finally:
        started.close()


def run(
    made: Handler,
    pieces: tuple[bytes, ...] = (),
    arguments: bytes = b"",
    environment: bytes = b"",
    on_wait: Callable[[Guest], None] = lambda guest: None,
) -> Run:
    """Run a guest to its end.

    Args:
        made: Its handler.
        pieces: Its input, one piece whenever it waits for input.
        arguments: Its arguments, each terminated by a NUL.
        environment: Its variables, each terminated by a NUL.
        on_wait: Called whenever it is suspended.
    """
    left, output = list(pieces), bytearray()
    deadline = time.monotonic() + TIME_MAX_S
    with guest(made, arguments, environment) as (started, errors):
        while not started.step():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the guest did not finish within {TIME_MAX_S:g} s")
            on_wait(started)
            output += started.take_output()
            wait = started.wait
            if wait.is_turn:
                continue
            if wait.input and left:
                started.feed(left.pop(0))
            elif wait.input:
                started.end_input()
            elif wait.wake_at is not None:
                time.sleep(max(0.0, min(deadline, wait.wake_at) - time.monotonic()))
        output += started.take_output()
        assert started.outcome is not None
        return Run(started.outcome, bytes(output), bytes(errors))
