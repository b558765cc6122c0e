"""Host calls with every kind of invalid range, next to neighbors whose memory is marked.

Memory slots of the pool are adjacent. Between attackers, other guests sleep whose whole memory is a
marker: an attacker must never print it, and it must be intact at the end.
"""

from __future__ import annotations

import random
import time
from itertools import product
from struct import pack

import pytest

from tests.support.strings import block
from wagi.guest.capi.engine import Memory
from wagi.guest.engine import Runtime
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler
from wagi.guest.module import parse
from wagi.guest.outcome import Outcome, Returned
from wagi.limits import Limits

PAGE = 65536
MARKER = b"NEIGHBOR-"
MARK = int.from_bytes(b"NEIGHBOU", "little")
_runtime = Runtime()
_limits = Limits(memory_limit=16 * PAGE)

# Fills its memory with the marker, sleeps, and checks that the marker is unchanged.
NEIGHBOR = f"""(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $p (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "_start") (local $at i32)
    (i64.store (i32.const 24) (i64.const 30000000))
    (local.set $at (i32.const 256))
    (loop $l (i64.store (local.get $at) (i64.const {MARK}))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $l (i32.lt_u (local.get $at) (i32.const {4 * PAGE}))))
    (drop (call $p (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
    (local.set $at (i32.const 256))
    (loop $l
      (if (i64.ne (i64.load (local.get $at)) (i64.const {MARK})) (then unreachable))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $l (i32.lt_u (local.get $at) (i32.const {4 * PAGE}))))))"""

# The WASI functions implemented in Python, with the number of their parameters.
CALLS = {
    "fd_write": 4,
    "fd_read": 4,
    "poll_oneoff": 4,
    "random_get": 2,
    "args_sizes_get": 2,
    "args_get": 2,
    "environ_sizes_get": 2,
    "environ_get": 2,
}
# One page, which starts with vectors of buffers.
EDGES = [
    0,
    1,
    8,
    PAGE - 9,
    PAGE - 8,
    PAGE - 4,
    PAGE - 1,
    PAGE,
    PAGE + 1,
    4 * PAGE,
    2**28,
    2**31 - 1,
]
EDGES += [2**31, 2**31 + 8, 2**32 - PAGE, 2**32 - 8, 2**32 - 4, 2**32 - 1]
LENGTHS = [0, 1, 4, 8, 9, PAGE - 1, PAGE, PAGE + 1, 2**28, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1]
COUNTS = [0, 1, 2, 3, 15, 16, 1023, 1024, 1025, PAGE // 8, 2**29, 2**29 + 1, 2**31, 2**32 - 1]


def attack(seed: int, calls: int) -> tuple[str, bytes]:
    """Generate a module that makes random calls with invalid ranges and prints its memory."""
    chance = random.Random(seed)
    vectors = [(chance.choice(EDGES), chance.choice(LENGTHS)) for _ in range(64)]
    # These overlap the vector itself, adjacent data, and the results.
    vectors += [(at, length) for at in (0, 4, 512, 1024) for length in (8, 600, PAGE)]
    data = b"".join(pack("<II", *vector) for vector in vectors)
    lines = []
    for _ in range(calls):
        name = chance.choice(sorted(CALLS))
        pointer = chance.choice([*EDGES, *range(0, len(data), 8)])
        numbers = [pointer, chance.choice(COUNTS), chance.choice(EDGES), chance.choice(EDGES)]
        if name in ("fd_write", "fd_read"):
            stream = {"fd_write": chance.choice([1, 1, 2]), "fd_read": 0}[name]
            numbers = [stream, *numbers[:3]]
        elif name == "poll_oneoff":
            numbers = [pointer, chance.choice(EDGES), numbers[1], chance.choice(EDGES)]
        else:
            numbers = [chance.choice(EDGES), chance.choice([*EDGES, *LENGTHS])]
        constants = " ".join(f"(i32.const {number})" for number in numbers[: CALLS[name]])
        lines.append(f"(call $check (call ${name} {constants}))")
    imports = "\n".join(
        f'(import "wasi_snapshot_preview1" "{name}"'
        f" (func ${name} (param {'i32 ' * count}) (result i32)))"
        for name, count in CALLS.items()
    )
    text = "".join(f"\\{byte:02x}" for byte in data)
    # WASI's error numbers are less than 77.
    return (
        f"""(module {imports}
      (memory (export "memory") 1 2) (data (i32.const 0) "{text}")
      (func $check (param i32) (if (i32.ge_u (local.get 0) (i32.const 77)) (then unreachable)))
      (func (export "_start") {" ".join(lines)}
        (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const {PAGE - 8}))
        (call $check (call $fd_write
          (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0)))))""",
        data,
    )


def load(wat: str) -> Handler:
    handler = _runtime.load(parse("test.wat", wat.encode(), _limits.memory_limit)).handler(
        "_start", _limits, ()
    )
    assert handler.spec.memory is not Memory.ON_DEMAND
    return handler


def neighbor(handler: Handler) -> Guest:
    guest = Guest(handler, b"", b"", lambda data: None)
    assert not guest.step()
    return guest


def run(handler: Handler) -> tuple[bytes, Outcome | None]:
    """Run to the end, and return the output of both streams."""
    printed: list[bytes] = []
    guest = Guest(handler, block((b"argv", b"x" * 100)), b"A=1\0B=2\0", printed.append)
    try:
        guest.feed(b"input" * 1000)
        guest.end_input()
        deadline = time.monotonic() + 60
        while not guest.step():
            printed.append(guest.take_output())
            assert time.monotonic() < deadline
            if guest.wait.wake_at is not None and guest.wait.wake_at > time.monotonic() + 1:
                return b"".join(printed), None  # the guest sleeps for years
        printed.append(guest.take_output())
        return b"".join(printed), guest.outcome
    finally:
        guest.close()


def test_invalid_calls_never_reach_other_guests() -> None:
    """Calls return an errno, never crash, and never read or write a neighbor's memory."""
    sleeper = load(NEIGHBOR)
    neighbors: list[Guest] = []
    finished = 0
    for seed in range(40):
        neighbors += [neighbor(sleeper), neighbor(sleeper)]
        wat, _ = attack(seed, calls=250)
        printed, end = run(load(wat))
        assert MARKER[:8] not in printed
        # The guest may have overwritten its own memory; its last call fails then.
        assert "unreachable" not in str(end)
        finished += len(printed) >= PAGE - 8
        if seed % 4 == 3:
            neighbors.pop(random.Random(seed).randrange(len(neighbors))).close()
    assert finished > 20  # most guests print their whole memory at the end
    for guest in neighbors:
        while not guest.step():
            time.sleep(0.001)
        assert guest.outcome == Returned(), "a neighbor's memory was changed"
        guest.close()


@pytest.mark.parametrize("name", ["fd_write", "fd_read"])
def test_every_edge_of_a_buffer(name: str) -> None:
    """Each pointer with each length: EFAULT exactly where the range leaves the memory."""
    edges = list(product(EDGES, LENGTHS))
    code = []
    for pointer, length in edges:
        expected = 0 if pointer + length <= PAGE else 21
        code.append(f"""(i32.store (i32.const 16) (i32.const {pointer}))
          (i32.store (i32.const 20) (i32.const {length}))
          (if (i32.ne (i32.const {expected}) (call $f (i32.const {int(name == "fd_write")})
            (i32.const 16) (i32.const 1) (i32.const 24))) (then unreachable))""")
    wat = f"""(module (import "wasi_snapshot_preview1" "{name}"
        (func $f (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1 1) (func (export "_start") {" ".join(code)}))"""
    _, end = run(load(wat))
    assert end == Returned()
