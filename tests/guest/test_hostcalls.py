"""Host calls with valid arguments and with every kind of invalid pointer."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.strings import block
from wagi.guest.capi.engine import Memory
from wagi.guest.engine import Runtime
from wagi.guest.errno import EBADF, EFAULT, EINVAL
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler, Preopen
from wagi.guest.module import ModuleError, parse
from wagi.guest.outcome import Outcome, Returned, Trap
from wagi.limits import Limits

PAGE = 65536
CALLS = {
    "fd_write": 4,
    "fd_read": 4,
    "poll_oneoff": 4,
    "args_sizes_get": 2,
    "args_get": 2,
    "environ_sizes_get": 2,
    "environ_get": 2,
    "fd_close": 1,
    "fd_renumber": 2,
}
# Makes host calls with numbers from stdin and prints each errno, so that one compiled module
# serves for all arguments.
CALLER = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $in (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $out (param i32 i32 i32 i32) (result i32)))
  (import "{module}" "{name}" (func $call (param {types}) (result i32)))
  (memory (export "memory") 1 2)
  (func (export "_start")
    (i32.store (i32.const 65000) (i32.const 65100)) (i32.store (i32.const 65004) (i32.const 64))
    (drop (call $in (i32.const 0) (i32.const 65000) (i32.const 1) (i32.const 65008)))
    (i32.store (i32.const 65200) (call $call {arguments}))
    (i32.store (i32.const 65000) (i32.const 65200)) (i32.store (i32.const 65004) (i32.const 4))
    (drop (call $out (i32.const 1) (i32.const 65000) (i32.const 1) (i32.const 65008)))))"""

_runtime = Runtime()
_limits = Limits(memory_limit=16 * PAGE)


def load(wat: str, preopens: tuple[Preopen, ...] = ()) -> Handler:
    return _runtime.load(parse("test.wat", wat.encode(), _limits.memory_limit)).handler(
        "_start", _limits, preopens
    )


def caller(name: str, module: str = "wasi_snapshot_preview1") -> Handler:
    count = CALLS[name]
    arguments = " ".join(f"(i32.load (i32.const {65100 + 4 * i}))" for i in range(count))
    return load(CALLER.format(module=module, name=name, types="i32 " * count, arguments=arguments))


HANDLERS = {name: caller(name) for name in CALLS}


def run(
    handler: Handler, stdin: bytes = b"", environment: Sequence[bytes] = (b"A=1",)
) -> tuple[bytes, Outcome | None]:
    guest = Guest(handler, b"argv\0", block(environment), lambda data: None)
    try:
        guest.feed(stdin)
        guest.end_input()
        deadline = time.monotonic() + 20
        output = b""
        while not guest.step():
            output += guest.take_output()
            assert time.monotonic() < deadline
            if guest.wait.wake_at is not None:
                return b"sleeping", None
        return output + guest.take_output(), guest.outcome
    finally:
        guest.close()


def errno_of(name: str, *arguments: int) -> int:
    packed = b"".join((argument & 0xFFFFFFFF).to_bytes(4, "little") for argument in arguments)
    output, end = run(HANDLERS[name], packed.ljust(64, b"\0"))
    if output == b"sleeping":
        return 0
    if isinstance(end, Trap):
        # wasmtime's WASI ends the guest for unknown descriptors.
        assert re.search("Pointer (not aligned|out of bounds)", end.cause)
        return EFAULT
    return int.from_bytes(output[-4:], "little")


interesting = st.one_of(
    st.sampled_from(
        [0, 1, 2, 3, 4, 8, 1024, 1025, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2**31 - 1, 2**31]
    ),
    st.sampled_from([2**32 - 1, 2**32 - 4, 2**32 - 8, 2**32 - PAGE]),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=3000, deadline=None)
@given(st.sampled_from(sorted(CALLS)), st.tuples(*[interesting] * 4))
def test_arbitrary_arguments_return_an_errno(name: str, arguments: tuple[int, ...]) -> None:
    """Invalid pointers, lengths and counts return an errno, and never crash or leak bytes."""
    errno = errno_of(name, *arguments[: CALLS[name]])
    assert 0 <= errno < 77


@pytest.mark.parametrize(
    ("name", "arguments", "errno"),
    [
        ("fd_write", (1, PAGE - 8, 1, 0), 0),
        ("fd_write", (1, PAGE - 7, 1, 0), EFAULT),
        ("fd_write", (1, 0, 0xFFFFFFFF, 0), EFAULT),
        ("fd_write", (1, 0, 1025, 0), 0),
        ("fd_write", (1, 0, 0, PAGE - 3), EFAULT),
        ("fd_write", (1, 0, 0, 0xFFFFFFFE), EFAULT),
        ("fd_write", (99, 0, 0, 0), EBADF),
        ("fd_read", (0, PAGE, 1, 0), EFAULT),
        ("fd_read", (5, 0, 0, 0), EBADF),
        ("poll_oneoff", (0, 0, 0, 0), EINVAL),
        ("poll_oneoff", (0, 0, 100_000, 0), EFAULT),
        ("poll_oneoff", (PAGE - 47, 0, 1, 0), EFAULT),
        ("args_sizes_get", (PAGE - 3, 0), EFAULT),
        ("args_get", (0, PAGE - 4), EFAULT),
        ("args_get", (PAGE - 3, 0), EFAULT),
        ("environ_get", (0xFFFFFFFF, 0), EFAULT),
        ("fd_close", (1,), 0),
        ("fd_close", (77,), EBADF),
        ("fd_renumber", (5, 1), EBADF),
    ],
)
def test_edge_cases(name: str, arguments: tuple[int, ...], errno: int) -> None:
    assert errno_of(name, *arguments) == errno


def test_iovec_beyond_the_memory() -> None:
    """Buffers are checked before anything is written."""
    wat = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\00\\01\\00\\00\\04\\00\\00\\00\\fe\\ff\\00\\00\\04\\00\\00\\00")
      (func (export "_start")
        (if (i32.ne (call $w (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 64))
                    (i32.const 21))
          (then unreachable))))"""
    assert run(load(wat)) == (b"", Returned())


def test_current_memory_size_applies() -> None:
    """A guest can use memory that it has just allocated, and nothing beyond."""
    wat = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func $try (param $at i32) (result i32)
        (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (i32.const 1))
        (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (func (export "_start")
        (if (i32.eqz (call $try (i32.const 65536))) (then unreachable))
        (drop (memory.grow (i32.const 1)))
        (if (call $try (i32.const 65536)) (then unreachable))
        (if (i32.eqz (call $try (i32.const 131072))) (then unreachable))))"""
    assert run(load(wat)) == (b"\0", Returned())


def test_no_exported_memory() -> None:
    wat = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
      (func (export "_start")
        (if (i32.ne (call $w (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))
                    (i32.const 21))
          (then unreachable))))"""
    assert run(load(wat)) == (b"", Returned())


def test_closed_stdout_stays_closed() -> None:
    """Writes to it fail, and files do not get its number."""
    wat = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_close" (func $c (param i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "_start")
        (drop (call $c (i32.const 1)))
        (if (i32.ne (call $w (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8))
                    (i32.const 8))
          (then unreachable))))"""
    assert run(load(wat)) == (b"", Returned())


def test_write_takes_all_buffers() -> None:
    """Old Grain handlers, which do not retry, write text and newline as two buffers."""
    wat = """(module
      (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\20\\00\\00\\00\\03\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00")
      (data (i32.const 16) "\\23\\00\\00\\00\\01\\00\\00\\00") (data (i32.const 32) "abc\\n")
      (func (export "_start")
        (drop (call $w (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 64)))))"""
    assert run(load(wat)) == (b"abc\n", Returned())


UNSTABLE = """(module
  (import "wasi_unstable" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_unstable" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_unstable" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_unstable" "path_filestat_get"
    (func $path_stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "ten.txt")
  (func $check (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
  (func (export "_start") (local $fd i32)
    (call $check (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 7)
      (i32.const 0) (i64.const 6) (i64.const 0) (i32.const 0) (i32.const 200))))
    (local.set $fd (i32.load (i32.const 200)))
    ;; The old structure has 56 bytes: what follows it stays as it is.
    (i64.store (i32.const 456) (i64.const 0x1122334455667788))
    (call $check (i32.eqz (call $stat (local.get $fd) (i32.const 400))))
    (call $check (i64.eq (i64.load (i32.const 424)) (i64.const 10)))
    (call $check (i32.eq (i32.load8_u (i32.const 416)) (i32.const 4)))
    (call $check (i32.eq (i32.load (i32.const 420)) (i32.const 1)))
    (call $check (i64.eq (i64.load (i32.const 456)) (i64.const 0x1122334455667788)))
    (call $check (i32.eqz (call $path_stat (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 7)
      (i32.const 400))))
    (call $check (i64.eq (i64.load (i32.const 424)) (i64.const 10)))
    ;; 2 was the start of the file, 1 its end, 0 where it is.
    (call $check (i32.eqz
      (call $seek (local.get $fd) (i64.const -3) (i32.const 1) (i32.const 304))))
    (call $check (i64.eq (i64.load (i32.const 304)) (i64.const 7)))
    (call $check (i32.eqz
      (call $seek (local.get $fd) (i64.const 4) (i32.const 2) (i32.const 304))))
    (call $check (i32.eqz
      (call $seek (local.get $fd) (i64.const 1) (i32.const 0) (i32.const 304))))
    (i32.store (i32.const 0) (i32.const 600)) (i32.store (i32.const 4) (i32.const 9))
    (call $check (i32.eqz (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
    (call $check (i32.eq (i32.load (i32.const 8)) (i32.const 5)))
    ;; A clock subscription has an identifier before its clock.
    (i64.store (i32.const 704) (i64.const 77)) (i64.store8 (i32.const 712) (i64.const 0))
    (i64.store (i32.const 720) (i64.const 9)) (i32.store (i32.const 728) (i32.const 1))
    (i64.store (i32.const 736) (i64.const 1000))
    (call $check (i32.eqz (call $poll (i32.const 704) (i32.const 800) (i32.const 1)
      (i32.const 900))))
    (call $check (i64.eq (i64.load (i32.const 800)) (i64.const 77)))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""


def test_wasi_unstable(tmp_path: Path) -> None:
    """All functions are the same, except for four with a different layout."""
    (tmp_path / "ten.txt").write_text("0123456789")
    handler = load(UNSTABLE, (Preopen(str(tmp_path), "/data"),))
    guest = Guest(handler, b"", b"", lambda data: None)
    while not guest.step():
        pass
    assert (guest.take_output(), guest.outcome) == (b"56789", Returned())
    guest.close()


def test_cancelling_a_guest_in_every_state() -> None:
    """A guest can be closed before, between and during waits."""
    sleeper = load(
        """(module
        (import "wasi_snapshot_preview1" "poll_oneoff"
          (func $p (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (i64.store (i32.const 24) (i64.const 3600000000000))
          (drop (call $p (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"""
    )
    spinner = load('(module (func (export "_start") (loop $l (br $l))))')
    for handler in (sleeper, spinner, HANDLERS["fd_read"]):
        for steps in range(3):
            guest = Guest(handler, b"", b"", lambda data: None)
            for _ in range(steps):
                assert not guest.step()
            guest.close()


def test_spinning_start_function_is_suspended() -> None:
    """Instantiation also runs guest code."""
    guest = Guest(
        load('(module (func $s (loop $l (br $l))) (start $s) (func (export "_start")))'),
        b"", b"", lambda data: None,
    )  # fmt: skip
    started = time.monotonic()
    assert not guest.step()
    assert time.monotonic() - started < 5
    guest.close()


def test_deep_recursion_traps() -> None:
    _, end = run(load('(module (func $f (export "_start") (call $f)))'))
    assert isinstance(end, Trap)
    assert "call stack exhausted" in end.cause


def test_a_reactor_is_initialized_first() -> None:
    wat = """(module (global $ready (mut i32) (i32.const 0))
      (func (export "_initialize") (global.set $ready (i32.const 1)))
      (func (export "handle") (if (i32.eqz (global.get $ready)) (then unreachable))))"""
    handler = _runtime.load(parse("r.wat", wat.encode(), PAGE)).handler("handle", _limits, ())
    assert run(handler) == (b"", Returned())


def test_memory_larger_than_a_memory_slot() -> None:
    """Memory that does not fit into a memory slot of the pool is allocated on demand."""
    memory = 5000 * PAGE
    wat = f'(module (memory (export "memory") {memory // PAGE}) (func (export "_start")))'
    for runtime in (_runtime, Runtime(memory=Memory.POOL)):
        handler = runtime.load(parse("big.wat", wat.encode(), memory)).handler(
            "_start", Limits(memory_limit=memory), ()
        )
        assert run(handler) == (b"", Returned())
        assert handler.spec.memory is not Memory.POOL
    with pytest.raises(ModuleError, match="memory_limit is 65536 bytes, but the module starts"):
        _runtime.load(parse("big.wat", wat.encode(), memory)).handler(
            "_start", Limits(memory_limit=PAGE), ()
        )


def test_two_memories() -> None:
    """Another kind of module that does not fit in the pool."""
    wat = '(module (memory (export "memory") 1) (memory 1) (func (export "_start")))'
    assert run(load(wat)) == (b"", Returned())


def test_functions_of_the_adapter() -> None:
    """Components of several modules import them from the adapter, which the gateway replaces."""
    handler = load("""(module
      (import "wasi_snapshot_preview1" "adapter_open_badfd" (func $open (param i32) (result i32)))
      (import "wasi_snapshot_preview1" "adapter_close_badfd" (func $close (param i32) (result i32)))
      (import "wasi_snapshot_preview1" "reset_adapter_state" (func $reset))
      (memory (export "memory") 1)
      (func (export "_start")
        (call $reset)
        (if (i32.ne (call $open (i32.const 0)) (i32.const 58)) (then unreachable))
        (if (i32.ne (call $close (i32.const 0)) (i32.const 58)) (then unreachable))))""")
    assert run(handler) == (b"", Returned())
