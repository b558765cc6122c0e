"""A test of the installed wasmtime, in a few milliseconds at the start of each process.

``guest.compatibility`` compares what wasmtime declares; this shows what it does: a module is
compiled, its guests call the host, suspend, continue, exit, trap, and are cancelled in mid-run.
"""

from __future__ import annotations

import logging

from wagi.guest import compatibility
from wagi.guest.capi.compiled import open_store
from wagi.guest.capi.engine import Engine, Memory, wat_to_wasm
from wagi.guest.capi.linker import InstancePre, Linker, Waiting
from wagi.guest.capi.store import Store, StoreLimits, StorePlan
from wagi.guest.errno import GuestExit
from wagi.guest.outcome import Exit, Outcome, Returned, Trap

_log = logging.getLogger("wagi")

_MODULE = """(module
  (import "selftest" "add" (func $add (param i32 i64) (result i32)))
  (import "selftest" "wait" (func $wait (param i32 i64) (result i32)))
  (import "selftest" "now" (func $now (result i32)))
  (import "selftest" "yield" (func $yield (result i32)))
  (import "selftest" "exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 65530) "memory")
  (func $check (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
  (func (export "run")
    (call $check (i32.eq (i32.const 5)
      (call $add (i32.const -1) (i64.const 0x123456789))))
    (call $check (i32.eqz (call $now)))
    (call $check (i32.eq (i32.const 7)
      (call $wait (i32.const -2) (i64.const 0x987654321)))))
  (func (export "trap") unreachable)
  (func (export "exit") (call $exit (i32.const 3)))
  (func (export "spin")
    (loop $again (drop (call $yield)) (br $again))))"""
_LIMITS = StoreLimits(memory=65536, elements=0, memories=1, tables=0)
_MAX_POLLS = 10  # of a guest that ends after a few


class _Failure(Exception):
    """Something is not as it should be."""


class _Guest:
    """One guest, and what its host calls have seen.

    Attributes:
        calls: The host calls with their arguments, and what they found.
        polls: How often ``wait`` has been continued.
    """

    def __init__(self, pre: InstancePre, export: bytes) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.polls = 0
        plan = StorePlan(pre, (export,), _LIMITS)
        self.store: Store = open_store(plan, b"", b"", lambda store: self)

    def add(self, first: int, second: int) -> int:
        memory = self.store.memory()
        self.calls.append(("add", first, second, len(memory), bytes(memory[65530:])))
        return 5

    def wait(self, first: int, second: int) -> Waiting:
        self.calls.append(("wait", first, second))
        self.polls += 1
        yield
        self.polls += 1
        return 7

    def now(self) -> int:
        return 0  # an async call that does not wait: its result is what wasmtime has put there

    def make_yield(self) -> int:
        self.calls.append(("yield",))
        self.store.slice_end = 0.0
        return 0

    def exit(self, status: int) -> None:
        raise GuestExit(status)

    def run(self) -> Outcome:
        """Run it to its end."""
        for _ in range(_MAX_POLLS):
            outcome = self.store.poll()
            if outcome is not None:
                return outcome
        raise _Failure("a guest does not end")


def check() -> None:
    """Test the installed wasmtime, and warn if it is newer than those that wagi is tested with.

    The process is left as it was: it may fork afterwards, and install signal handlers.

    Raises:
        EngineError: It does not do what wagi expects.
    """
    try:
        _run()
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise compatibility.unsupported(f"its self-test has failed: {reason}") from error
    if compatibility.is_newer_than_tested():
        _log.warning(
            "wasmtime %s is newer than the versions that wagi is tested with (%d to %d); it has"
            " passed the self-test",
            compatibility.installed_version(),
            compatibility.LOWEST_MAJOR,
            compatibility.NEWEST_TESTED_MAJOR,
        )


def _run() -> None:
    engine = Engine(Memory.ON_DEMAND, isolated=True)
    linker = Linker(engine)
    linker.define("selftest", "add", "IQ", _Guest.add)
    linker.define("selftest", "yield", "", _Guest.make_yield)
    linker.define("selftest", "exit", "I", _Guest.exit, results="")
    linker.define_async("selftest", "wait", "IQ", _Guest.wait)
    linker.define_async("selftest", "now", "", _Guest.now)
    pre = linker.instantiate_pre(engine.compile(wat_to_wasm(_MODULE)))
    for export, test in _TESTS.items():
        guest = _Guest(pre, export)
        try:
            test(guest)
        finally:
            guest.store.close()


def _suspends_and_continues(guest: _Guest) -> None:
    _expect("a guest that waits is suspended", guest.store.poll(), None)
    _expect("it returns", guest.run(), Returned())
    calls = [
        ("add", 0xFFFFFFFF, 0x123456789, 65536, b"memory"),
        ("wait", 0xFFFFFFFE, 0x987654321),
    ]
    _expect("host calls get what the guest passes", guest.calls, calls)
    _expect("a host call that waits is continued", guest.polls, 2)


def _exits(guest: _Guest) -> None:
    _expect("a host call ends a guest", guest.run(), Exit(3))


def _traps(guest: _Guest) -> None:
    outcome = guest.run()
    message = outcome.message if isinstance(outcome, Trap) else f"{outcome}"
    _expect("a trap has its cause", "unreachable" in message, True)


def _is_cancelled(guest: _Guest) -> None:
    for _ in range(2):
        _expect("a guest that never ends yields", guest.store.poll(), None)
    _expect("it runs in each slice", len(guest.calls) >= 2, True)
    guest.store.close()  # a call after that would have no store


_TESTS = {
    b"run": _suspends_and_continues,
    b"exit": _exits,
    b"trap": _traps,
    b"spin": _is_cancelled,
}


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise _Failure(f"{what}: expected {expected!r}, found {found!r}")
