"""Streams and pollables, by which guests read, write and wait."""

from __future__ import annotations

import time

import pytest

from tests.support.preview2 import Run, guest, handler, module, run
from tests.support.toolchains import require_core
from wagi.guest.guest import Guest
from wagi.guest.outcome import Exit, Outcome, Returned, Trap
from wagi.guest.preview2.poll_calls import MAX_POLLABLES
from wagi.limits import Limits

ECHO = """(local.set $i (call $stdin)) (local.set $j (call $stdout))
  (block $end (loop $next
    (call $blocking_read (local.get $i) (i64.const 4096) (i32.const 0))
    (br_if $end (i32.load8_u (i32.const 0)))
    (call $blocking_write (local.get $j) (i32.load (i32.const 4)) (i32.load (i32.const 8))
      (i32.const 16))
    (br $next)))
  (i32.load (i32.const 4))"""
CLOSED = 1


@pytest.fixture(params=[False, True], ids=["python", "compiled"], name="compiled")
def _compiled(request: pytest.FixtureRequest) -> bool:
    if request.param:
        require_core()
    return bool(request.param)


def outcome_of(code: str, compiled: bool, *pieces: bytes) -> Outcome:
    return run(handler(module(code), compiled), pieces).outcome


def test_an_echo_waits_for_each_piece(compiled: bool) -> None:
    """A read returns what is there, and the end is stream-error.closed, which is case 1."""
    found = run(handler(module(ECHO), compiled), (b"one ", b"two", b" three"))
    assert found == Run(Exit(CLOSED), b"one two three", b"")


def test_splice(compiled: bool) -> None:
    code = """(local.set $i (call $stdin)) (local.set $j (call $stdout))
      (loop $next
        (call $splice (local.get $j) (local.get $i) (i64.const 1000) (i32.const 0))
        (br_if $next (i32.eqz (i32.load8_u (i32.const 0)))))
      (i32.const 0)"""
    assert run(handler(module(code), compiled), (b"a" * 5000, b"b")).output == b"a" * 5000 + b"b"


def test_a_full_output_suspends_the_guest(compiled: bool) -> None:
    """It writes 1 MiB through a buffer of 8 KiB."""
    code = """(local.set $j (call $stdout))
      (loop $next
        (call $blocking_write (local.get $j) (i32.const 1024) (i32.const 4096) (i32.const 0))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 256))))
      (i32.const 0)"""
    limits = Limits(memory_limit=1 << 24, output_buffer=8192)
    buffered = []

    def look(suspended: Guest) -> None:
        _, stdout = suspended._store.streams()
        buffered.append(8192 - stdout.room)

    found = run(handler(module(code), compiled, limits=limits), on_wait=look)
    assert (found.outcome, len(found.output)) == (Returned(), 1 << 20)
    assert max(buffered) <= 8192
    assert len(buffered) >= 127


@pytest.mark.parametrize("size", [0, 1, 65536])
def test_a_write_of_what_was_granted(compiled: bool, size: int) -> None:
    code = f"""(local.set $j (call $stdout)) (call $check_write (local.get $j) (i32.const 0))
      (call $write (local.get $j) (i32.const 1024) (i32.const {size}) (i32.const 32))
      (i32.load8_u (i32.const 32))"""
    found = run(handler(module(code), compiled))
    assert (found.outcome, len(found.output)) == (Returned(), size)


TRAPS = {
    "a write without check-write": (
        "(call $write (call $stdout) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 0)",
        "more to a stream than check-write had permitted",
    ),
    "a write of more than was granted": (
        """(local.set $j (call $stdout)) (call $check_write (local.get $j) (i32.const 0))
        (call $write (local.get $j) (i32.const 0) (i32.const 65537) (i32.const 32))
        (i32.const 0)""",
        "more to a stream than check-write had permitted",
    ),
    "two writes of one grant": (
        """(local.set $j (call $stdout)) (call $check_write (local.get $j) (i32.const 0))
        (call $write (local.get $j) (i32.const 0) (i32.const 65536) (i32.const 32))
        (call $write (local.get $j) (i32.const 0) (i32.const 1) (i32.const 32)) (i32.const 0)""",
        "more to a stream than check-write had permitted",
    ),
    "a long blocking write": (
        "(call $blocking_write (call $stdout) (i32.const 0) (i32.const 4097) (i32.const 32))"
        " (i32.const 0)",
        "more than 4096 bytes in one blocking write",
    ),
    "a pointer outside of the memory": (
        "(call $blocking_write (call $stdout) (i32.const 131072) (i32.const 1) (i32.const 0))"
        " (i32.const 0)",
        "an address outside of its memory",
    ),
    "a length that wraps": (
        "(call $blocking_write (call $stdout) (i32.const -16) (i32.const 32) (i32.const 0))"
        " (i32.const 0)",
        "an address outside of its memory",
    ),
    "a result outside of the memory": (
        "(call $arguments (i32.const -4)) (i32.const 0)",
        "an address outside of its memory",
    ),
    "a result of a read outside of the memory": (
        "(call $blocking_read (call $stdin) (i64.const 1) (i32.const 131068)) (i32.const 0)",
        "an address outside of its memory",
    ),
    "a handle of another kind": (
        "(call $blocking_write (call $stdin) (i32.const 0) (i32.const 1) (i32.const 0))"
        " (i32.const 0)",
        "handle 1, which is not an OutputStream",
    ),
    "a handle that was dropped": (
        """(local.set $j (call $stdout)) (call $drop_output (local.get $j))
        (call $drop_output (local.get $j)) (i32.const 0)""",
        "handle 1, which is not an OutputStream",
    ),
    "handles without end": (
        "(loop $l (drop (call $stdout)) (br $l)) (i32.const 0)",
        "more than 4096 handles",
    ),
    "a poll of nothing": (
        "(call $poll (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 0)",
        "it polled 0 pollables: from 1 to 1024 are possible",
    ),
    "a poll of too many": (
        f"(call $poll (i32.const 0) (i32.const {MAX_POLLABLES + 1}) (i32.const 0)) (i32.const 0)",
        "it polled 1025 pollables",
    ),
    "a poll of 4 billion": (
        "(call $poll (i32.const 0) (i32.const -1) (i32.const 0)) (i32.const 0)",
        "it polled 4294967295 pollables",
    ),
    "too many random bytes": (
        "(call $random (i64.const -1) (i32.const 0)) (i32.const 0)",
        "more than its memory can hold",
    ),
    "a pointer that is used after a wait": (
        "(call $blocking_read (call $stdin) (i64.const 1) (i32.const 131064)) (i32.const 0)",
        "an address outside of its memory",
    ),
}


@pytest.mark.parametrize("name", TRAPS)
def test_misuse_is_a_trap(compiled: bool, name: str) -> None:
    code, message = TRAPS[name]
    found = outcome_of(code, compiled, b"input")
    assert isinstance(found, Trap)
    assert message in found.cause


def step(guest: Guest) -> bool:
    """Run a guest until it waits, whenever its slices end. Returns: Whether it has ended."""
    while not (ended := guest.step()) and guest.wait.is_turn:
        pass
    return ended


def test_standard_error(compiled: bool) -> None:
    code = """(call $blocking_write (call $stderr) (i32.const 0) (i32.const 5) (i32.const 32))
      (i32.const 0)"""
    text = module(code, fields='(data (i32.const 0) "error")')
    assert run(handler(text, compiled)).errors == b"error"


def test_a_sleep(compiled: bool) -> None:
    code = "(call $block (call $after (i64.const 50000000))) (i32.const 0)"
    started = time.monotonic()
    assert outcome_of(code, compiled) == Returned()
    assert time.monotonic() - started >= 0.05


def test_a_poll_returns_what_is_ready(compiled: bool) -> None:
    """Of input, an hour and output, it is the output; and then the input."""
    code = """
      (i32.store (i32.const 64) (call $subscribe_input (call $stdin)))
      (i32.store (i32.const 68) (call $after (i64.const 3600000000000)))
      (i32.store (i32.const 72) (call $subscribe_output (call $stdout)))
      (call $poll (i32.const 64) (i32.const 3) (i32.const 0))
      (if (i32.ne (i32.load (i32.const 4)) (i32.const 1)) (then unreachable))
      (if (i32.ne (i32.load (i32.load (i32.const 0))) (i32.const 2)) (then unreachable))
      (call $poll (i32.const 64) (i32.const 2) (i32.const 0))
      (if (i32.ne (i32.load (i32.const 4)) (i32.const 1)) (then unreachable))
      (call $exit_with_code (i32.add (i32.const 7) (i32.load (i32.load (i32.const 0)))))
      (i32.const 0)"""
    assert outcome_of(code, compiled, b"input") == Exit(7)


def test_a_poll_waits_for_the_first_of_several(compiled: bool) -> None:
    code = """
      (i32.store (i32.const 64) (call $subscribe_input (call $stdin)))
      (i32.store (i32.const 68) (call $after (i64.const 3600000000000)))
      (i32.store (i32.const 72) (call $after (i64.const 60000000000)))
      (call $poll (i32.const 64) (i32.const 3) (i32.const 0)) (i32.const 0)"""
    with guest(handler(module(code), compiled)) as (waiting, _):
        assert not step(waiting)
        assert waiting.wait.input
        assert not waiting.wait.is_turn
        assert waiting.wait.wake_at is not None
        assert 50 < waiting.wait.wake_at - time.monotonic() < 61


def test_exit(compiled: bool) -> None:
    assert outcome_of("(call $exit (i32.const 0)) unreachable", compiled) == Exit(0)
    assert outcome_of("(call $exit (i32.const 1)) unreachable", compiled) == Exit(1)
    assert outcome_of("(call $exit_with_code (i32.const 200)) unreachable", compiled) == Exit(200)


def test_eight_sleeping_guests_take_as_long_as_one(compiled: bool) -> None:
    code = "(call $block (call $after (i64.const 300000000))) (i32.const 0)"
    made = handler(module(code), compiled)
    guests = [Guest(made, b"", b"", lambda data: None) for _ in range(8)]
    try:
        assert not any(step(each) for each in guests)
        time.sleep(0.32)
        assert all(step(each) for each in guests)
    finally:
        for each in guests:
            each.close()
