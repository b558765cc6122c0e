"""Host calls allocate memory in the guest, whose allocator is untrusted."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.support.preview2 import ALLOCATOR, TIME_MAX_S, Run, handler, module, run
from tests.support.toolchains import require_core
from wagi.guest.guest import Guest
from wagi.guest.outcome import Exit, Returned, Trap

SIGNATURE = '(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)'
PRINT_ENVIRONMENT = """
  (call $environment (i32.const 0))
  (local.set $i (i32.load (i32.const 0)))
  (local.set $j (i32.add (local.get $i) (i32.mul (i32.load (i32.const 4)) (i32.const 16))))
  (block $end (loop $next
    (br_if $end (i32.ge_u (local.get $i) (local.get $j)))
    (call $blocking_write (call $stdout) (i32.load (local.get $i))
      (i32.load offset=4 (local.get $i)) (i32.const 16))
    (local.set $i (i32.add (local.get $i) (i32.const 8)))
    (br $next)))
  (i32.const 0)"""
VARIABLES = b"NAME=value\0EMPTY=\0OTHER=a=b\0"


@pytest.fixture(params=[False, True], ids=["python", "compiled"], name="compiled")
def _compiled(request: pytest.FixtureRequest) -> bool:
    if request.param:
        require_core()
    return bool(request.param)


def outcome(compiled: bool, allocator: str, code: str = PRINT_ENVIRONMENT, fields: str = "") -> Run:
    return run(handler(module(code, allocator, fields), compiled), environment=VARIABLES)


@pytest.mark.parametrize("has_place", [True, False])
def test_a_list_of_strings(compiled: bool, has_place: bool) -> None:
    """With the helper for many strings at a time, and without it."""
    made = handler(module(PRINT_ENVIRONMENT), compiled, has_place=has_place)
    assert run(made, environment=VARIABLES).output == b"NAMEvalueEMPTYOTHERa=b"


def test_memory_that_grows_and_moves(compiled: bool) -> None:
    """The allocator grows the memory in every call."""
    grows = f"""(global $start (mut i32) (i32.const 0)) {SIGNATURE}
      (i32.mul (memory.grow (i32.const 1)) (i32.const 65536)))"""
    found = outcome(compiled, grows)
    assert (found.outcome, found.output) == (Returned(), b"NAMEvalueEMPTYOTHERa=b")


LIES = {
    "misaligned": "(i32.const 8193)",
    "outside": "(i32.const 131072)",
    "at the end": "(i32.const 131068)",
    "negative": "(i32.const -8)",
    "the last address": "(i32.const -4)",
}


@pytest.mark.parametrize("name", LIES)
def test_addresses_are_checked(compiled: bool, name: str) -> None:
    found = outcome(compiled, f"{SIGNATURE} {LIES[name]})")
    assert isinstance(found.outcome, Trap)
    assert found.outcome.cause == "its allocator returned an invalid address"


def test_a_trap_of_the_allocator(compiled: bool) -> None:
    found = outcome(compiled, f"{SIGNATURE} unreachable)")
    assert isinstance(found.outcome, Trap)
    assert "its allocator failed: wasm `unreachable`" in found.outcome.cause


CALLS = {
    "sync": "(drop (call $stdout)) (i32.const 8)",
    "that can wait": "(call $block (i32.const 1)) (i32.const 8)",
    "itself": "(call $environment (i32.const 64)) (i32.const 8)",
    "preview 1": "(drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))"
    " (i32.const 8)",
    "exit": "(call $proc_exit (i32.const 0)) (i32.const 8)",
}
PREVIEW_1 = """
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))"""


@pytest.mark.parametrize("name", CALLS)
def test_the_allocator_may_not_call_the_host(compiled: bool, name: str) -> None:
    text = module(PRINT_ENVIRONMENT, f"{SIGNATURE} {CALLS[name]})")
    text = text.replace("(module ", f"(module {PREVIEW_1} ", 1)
    found = run(handler(text, compiled), environment=VARIABLES)
    assert isinstance(found.outcome, Trap)
    assert found.outcome.cause == "its allocator failed: its allocator calls the host"
    assert found.output == b""


def test_an_allocator_that_never_returns_is_trapped(compiled: bool) -> None:
    started = time.monotonic()
    found = outcome(compiled, f"{SIGNATURE} (loop $l (br $l)) (i32.const 0))")
    assert isinstance(found.outcome, Trap)
    assert "the allocator of the guest takes too long" in found.outcome.cause
    assert time.monotonic() - started < TIME_MAX_S / 10


def test_a_guest_that_always_allocates_yields(compiled: bool) -> None:
    """What remains of a slice is used; no new slice begins with an allocation."""
    code = """(loop $next
        (call $environment (i32.const 0))
        (global.set $heap (i32.const 8192))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 5000))))
      (i32.const 0)"""
    seen = []

    def look(guest: Guest) -> None:
        seen.append(guest.cpu_seconds)

    found = run(handler(module(code), compiled), environment=VARIABLES, on_wait=look)
    assert found.outcome == Returned()
    assert len(seen) > 10
    assert max(after - before for before, after in itertools.pairwise(seen)) < 0.05


def test_slow_allocations_do_not_add_up(compiled: bool) -> None:
    """Each takes a tick or two, which is permitted; together they yield in between."""
    slow = f"""{SIGNATURE} (local $n i32)
      (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1)))
        (i32.const 1000000))))
      (i32.const 8192))"""
    code = """(loop $next
        (call $random (i64.const 8) (i32.const 0))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 100))))
      (i32.const 0)"""
    suspended = []
    found = run(handler(module(code, slow), compiled), on_wait=lambda guest: suspended.append(1))
    assert found.outcome == Returned()
    assert len(suspended) > 5


def test_a_failed_run_is_exit_status_1(compiled: bool) -> None:
    assert outcome(compiled, ALLOCATOR, "(i32.const 1)").outcome == Exit(1)
    assert outcome(compiled, ALLOCATOR, "(i32.const 0)").outcome == Returned()
