"""The compiled core behaves like the host calls in Python, which are the reference.

Every guest here runs twice, and all observable results have to be equal. ``python -m
fuzz core`` and ``WAGI_CORE_SEEDS=100000 pytest -k generated`` are long runs.
"""

from __future__ import annotations

import os
import struct

import pytest

from tests.support import core_runs
from tests.support.core_runs import check_script, check_text, find_difference, run_script
from tests.support.core_scripts import SLICES, CoreScript, from_seed
from tests.support.toolchains import require_core
from tests.support.wasi_calls import NAMES, Call, wasm_types
from wagi.guest import core as compiled_core
from wagi.guest.capi.compiled import CompiledStore
from wagi.guest.guest import Guest
from wagi.guest.outcome import Exit, Returned, Trap

SEEDS = int(os.environ.get("WAGI_CORE_SEEDS", "400"))
BATCHES = 4
EBADF, EFAULT = 8, 21
IMPLEMENTED = [
    name
    for name in NAMES
    if compiled_core.module is not None and compiled_core.module.host_call(name) is not None
]


@pytest.fixture(scope="module", autouse=True)
def core() -> None:
    require_core()


@pytest.mark.parametrize("batch", range(BATCHES))
def test_generated_scripts(batch: int) -> None:
    for seed in range(batch, SEEDS, BATCHES):
        check_script(from_seed(seed))


def test_generated_scripts_of_the_old_snapshot() -> None:
    for seed in range(40):
        check_script(from_seed(seed), "wasi_unstable")


def test_the_scripts_reach_both_sides() -> None:
    """Each function of the core both succeeds and fails in the generated scripts."""
    found: set[tuple[str, bool]] = set()
    for seed in range(120):
        script = from_seed(seed)
        results = run_script(script, compiled=True).results
        pairs = zip(
            script.calls, results, strict=False
        )  # a call that ended the guest has no result
        found |= {(made.name, result.errno == 0) for made, result in pairs}
    names = [name for name in IMPLEMENTED if name != "proc_exit"]
    never_succeeds = {"fd_fdstat_set_flags"}
    expected = {(name, False) for name in names}
    expected |= {(name, True) for name in names if name not in never_succeeds}
    assert expected - found == set()


def test_difference_is_detected() -> None:
    """Of results, memory, output, unread input and outcome."""
    vector = ((0, struct.pack("<II", 8, 3)),)
    read = Call("fd_read", (0, 0, 1, 64), vector)
    write = Call("fd_write", (1, 0, 1, 64), vector)
    script = CoreScript((read, write), pieces=(b"input",))
    python = run_script(script, compiled=False)
    assert (python.unread, python.output) == (b"ut", bytes(3))
    assert not find_difference(script, python, run_script(script, compiled=True))
    for other in (
        CoreScript((read, Call("fd_write", (7, 0, 1, 64), vector)), pieces=script.pieces),
        CoreScript((read, Call("fd_write", (1, 0, 1, 65), vector)), pieces=script.pieces),
        CoreScript((read, Call("fd_write", (2, 0, 1, 64), vector)), pieces=script.pieces),
        CoreScript((read, write), pieces=(b"inputs",)),
        CoreScript((read, write, Call("proc_exit", (0,))), pieces=script.pieces),
    ):
        assert find_difference(script, python, run_script(other, compiled=True))


HOSTILE = (0, 1, 2, 255, 65535, 65536, 65532, 65528, 1 << 31, (1 << 32) - 1, (1 << 32) - 8)


@pytest.mark.parametrize("name", IMPLEMENTED)
@pytest.mark.parametrize("slice_seconds", SLICES)
def test_every_argument_hostile(name: str, slice_seconds: float) -> None:
    count = len(wasm_types(name))
    ordinary = {"fd_read": 0, "fd_write": 1, "fd_fdstat_get": 1, "fd_fdstat_set_flags": 1}
    usual = [ordinary.get(name, 1024), 2048, 1, 4096][:count]
    calls = [
        Call(name, tuple(value if at == index else usual[at] for at in range(count)))
        for index in range(count)
        for value in HOSTILE
    ]
    if name == "proc_exit":  # nothing follows it
        for made in calls:
            check_script(CoreScript((made,), slice_seconds=slice_seconds))
        return
    check_script(
        CoreScript(
            tuple(calls), environment=b"A=1\0B=2\0", pieces=(b"input",), slice_seconds=slice_seconds
        )
    )


# ---- Guests of other shapes ----------------------------------------------------------------------

_IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $flags (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"""
_CALL_ALL = """
    (i32.store (i32.const 64) (i32.const 1000)) (i32.store (i32.const 68) (i32.const 20))
    (i32.store (i32.const 0) (call $read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 32)))
    (i32.store (i32.const 4) (call $write
      (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 36)))
    (i32.store (i32.const 8) (call $sizes (i32.const 40) (i32.const 44)))
    (i32.store (i32.const 12) (call $flags (i32.const 1) (i32.const 4)))
    (i32.store (i32.const 16) (call $prestat (i32.const 3) (i32.const 48)))"""
SCRIPT = CoreScript((), environment=b"A=1\0B=2\0", pieces=(b"hello",))


def module(fields: str) -> str:
    return f"(module {_IMPORTS} {fields})"


@pytest.fixture(params=SLICES, name="script")
def _script(request: pytest.FixtureRequest) -> CoreScript:
    return CoreScript(
        (), environment=SCRIPT.environment, pieces=SCRIPT.pieces, slice_seconds=request.param
    )


def test_host_calls_in_a_start_function(script: CoreScript) -> None:
    text = module(
        f'(memory (export "memory") 1) (func $s {_CALL_ALL}) (start $s) (func (export "_start"))'
    )
    run = check_text(text, script)
    assert (run.outcome, run.output[:5]) == (Returned(), b"hello")


@pytest.mark.parametrize("status", [0, 3, -1])
def test_a_start_function_that_exits(script: CoreScript, status: int) -> None:
    text = module(
        f'(memory (export "memory") 1) (func $s {_CALL_ALL} (call $exit (i32.const {status})))'
        ' (start $s) (func (export "_start") unreachable)'
    )
    run = check_text(text, script)
    assert (run.outcome, run.output[:5]) == (Exit(status), b"hello")


def test_a_start_function_that_waits_for_input() -> None:
    text = module(
        f'(memory (export "memory") 1) (func $s {_CALL_ALL}) (start $s) (func (export "_start"))'
    )
    assert check_text(text, CoreScript((), ends=False)).outcome == "waits for input"


_RECORD = """
  (global $seen (export "seen") (mut i32) (i32.const 0))
  (func $record (param i32)
    (global.set $seen (i32.or (i32.shl (global.get $seen) (i32.const 5)) (local.get 0))))
  (func (export "_start")
    (call $record (call $read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))
    (call $record (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))
    (call $record (call $sizes (i32.const 0) (i32.const 4)))
    (call $record (call $flags (i32.const 0) (i32.const 4)))
    (call $record (call $prestat (i32.const 3) (i32.const 4)))
    (call $exit (global.get $seen)))"""
NO_MEMORY_ERRNOS = (EFAULT << 20) | (EFAULT << 15) | (EFAULT << 10) | (EBADF << 5) | EBADF


@pytest.mark.parametrize(
    "memory",
    [
        "",
        "(memory 1)",
        '(memory (export "other") 1)',
        '(global (export "memory") i32 (i32.const 1))',
        '(table (export "memory") 1 funcref)',
        '(func (export "memory"))',
    ],
)
def test_guests_without_an_exported_memory(script: CoreScript, memory: str) -> None:
    run = check_text(module(memory + _RECORD), script)
    assert run.outcome == Exit(NO_MEMORY_ERRNOS)


def test_the_exported_memory_of_several(script: CoreScript) -> None:
    """The exported memory is not the first one."""
    fields = f"""
      (memory $first 1) (memory $second (export "memory") 1) (memory $third 1)
      (func (export "_start") {_CALL_ALL})"""
    fields = fields.replace("(i32.store", "(i32.store $second")
    run = check_text(module(fields), script)
    assert run.output[:5] == b"hello"


def test_a_memory_that_grows_between_host_calls(script: CoreScript) -> None:
    """Each call uses the current size of the memory."""
    fields = """
      (memory (export "memory") 1)
      (func (export "_start") (local $round i32)
        (loop $again
          (i32.store (i32.const 0) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 6)))
          (i32.store (i32.const 4) (i32.const 6))
          (i32.store (i32.load (i32.const 0)) (i32.const 0x2e646e65))
          (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
            (then unreachable))
          (i32.store (i32.const 4) (i32.const 7))
          (if (i32.ne (i32.const 21)
                (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (then unreachable))
          (drop (memory.grow (i32.const 17)))
          (local.set $round (i32.add (local.get $round) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $round) (i32.const 5)))))"""
    run = check_text(module(fields), script)
    assert (run.outcome, run.output) == (Returned(), b"end.\0\0" * 5)


def test_traps(script: CoreScript) -> None:
    """Output before the trap is kept."""
    text = module(f'(memory (export "memory") 1) (func (export "_start") {_CALL_ALL} unreachable)')
    run = check_text(text, script)
    assert isinstance(run.outcome, Trap)
    assert run.output[:5] == b"hello"


# ---- Purpose of the core ------------------------------------------------------------------------


def test_simple_calls_never_enter_python() -> None:
    text = module(f'(memory (export "memory") 1) (func (export "_start") {_CALL_ALL})')
    for compiled in (True, False):
        guest = Guest(core_runs.handler(text, compiled), b"", b"A=1\0", lambda data: None)
        assert isinstance(guest._store, CompiledStore) is compiled
        guest.feed(b"hello")
        guest.end_input()
        while not guest.step():  # on a busy machine, the slice ends first
            pass
        assert (guest._wasi is None) is compiled
        assert guest.take_output()[:5] == b"hello"
        guest.close()


def test_random_bytes_are_random() -> None:
    """With the core, and in Python."""
    for length in (16, 256, 257):
        script = CoreScript((Call("random_get", (1000, length)),) * 20)
        for compiled in (True, False):
            results = run_script(script, compiled, keeps_random_bytes=True).results
            drawn = {result.memory[1000 : 1000 + length] for result in results}
            assert len(drawn) == 20
            assert not any(any(result.memory[1000 + length :]) for result in results)


@pytest.mark.parametrize("slice_seconds", SLICES)
def test_closing_a_guest_in_every_state(slice_seconds: float) -> None:
    text = module(f'(memory (export "memory") 1) (func (export "_start") {_CALL_ALL})')
    for steps in range(8):
        handler = core_runs.handler(text, True, slice_seconds)
        guest = Guest(handler, b"", b"A=1\0", lambda data: None)
        ended = False
        for _ in range(steps):
            ended = ended or guest.step()
        guest.close()
        assert guest.memory_size == 0
        assert len(guest._store._engine.stores) == 0
