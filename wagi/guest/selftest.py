"""A self-test of the installed wasmtime, which takes a few milliseconds per process.

``guest.compatibility`` checks the declarations of wasmtime; this module checks its behaviour: it
compiles a module whose guests call the host, suspend, resume, exit, trap and are cancelled.
"""

from __future__ import annotations

import logging

from wagi.guest import compatibility
from wagi.guest.capi.compiled import open_store
from wagi.guest.capi.engine import Engine, Memory, wat_to_wasm
from wagi.guest.capi.linker import InstancePre, Linker, Waiting
from wagi.guest.capi.store import Store
from wagi.guest.capi.store_config import StoreConfig, StoreLimits
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
_MAX_POLLS = 10  # more than any of the guests needs


class _Failure(Exception):
    """A check failed."""


class _Guest:
    """One guest, with a record of its host calls.

    Attributes:
        calls: The host calls with their arguments and observations.
        polls: How often ``wait`` was resumed.
    """

    def __init__(self, pre: InstancePre, export: bytes) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.polls = 0
        config = StoreConfig(pre, (export,), _LIMITS)
        self.store: Store = open_store(config, b"", b"", lambda store: self)

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
        return 0  # an async host call that does not wait

    def make_yield(self) -> int:
        self.calls.append(("yield",))
        self.store.slice_end = 0.0
        return 0

    def exit(self, status: int) -> None:
        raise GuestExit(status)

    def run(self) -> Outcome:
        """Run the guest until it ends."""
        for _ in range(_MAX_POLLS):
            outcome = self.store.poll()
            if outcome is not None:
                return outcome
        raise _Failure("a guest did not end")


def check() -> None:
    """Test the installed wasmtime, and warn if wagi has not been tested with its version.

    The test has no side effects: the process may fork and install signal handlers afterwards.

    Raises:
        EngineError: The test failed.
    """
    try:
        _run()
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise compatibility.unsupported(f"its self-test failed: {reason}") from error
    if compatibility.is_newer_than_tested():
        _log.warning(
            "wasmtime %s is newer than the versions that wagi is tested with (%d to %d); it"
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
    _expect("a waiting guest is suspended", guest.store.poll(), None)
    _expect("the guest returns", guest.run(), Returned())
    calls = [
        ("add", 0xFFFFFFFF, 0x123456789, 65536, b"memory"),
        ("wait", 0xFFFFFFFE, 0x987654321),
    ]
    _expect("host calls get the arguments of the guest", guest.calls, calls)
    _expect("a waiting host call is resumed", guest.polls, 2)


def _exits(guest: _Guest) -> None:
    _expect("a host call ends a guest", guest.run(), Exit(3))


def _traps(guest: _Guest) -> None:
    outcome = guest.run()
    cause = outcome.cause if isinstance(outcome, Trap) else f"{outcome}"
    _expect("the message of a trap has its cause", "unreachable" in cause, True)


def _is_cancelled(guest: _Guest) -> None:
    for _ in range(2):
        _expect("a busy guest yields", guest.store.poll(), None)
    _expect("a busy guest runs in each slice", len(guest.calls) >= 2, True)
    guest.store.close()  # a later host call would have no store


_TESTS = {
    b"run": _suspends_and_continues,
    b"exit": _exits,
    b"trap": _traps,
    b"spin": _is_cancelled,
}


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise _Failure(f"{what}: expected {expected!r}, found {found!r}")
