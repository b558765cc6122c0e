"""What a guest costs without a server: in C alone, through a compiled shim, and as wagi runs it."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from benchmarks import programs
from wagi.guest import capi
from wagi.guest.engine import Runtime, parse
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler, Limits

_SHIM = Path(__file__).parent / "shim.c"
_VARIABLES = [b"VARIABLE_%d=the value of variable %d" % (i, i) for i in range(33)]


def measure(module: Path, rounds: int, count: int = 4000) -> dict[str, float]:
    """Microseconds of CPU time of one guest in each way, in one process: medians of rounds."""
    runtime = Runtime()
    limits = Limits(memory=256 * 1024**2)
    source = parse(module.name, module.read_bytes(), limits.memory)
    handler = runtime.load(source).handler("_start", limits, ())
    engine = handler.pre.engine
    with tempfile.TemporaryDirectory() as folder:
        shim = load_shim(Path(folder) / "shim.so")
        prepared = prepare(engine, source.wasm, shim)
        arguments = (ctypes.c_void_p(engine.address), ctypes.c_void_p(prepared.address))

        def floor() -> None:
            shim.floor_loop(*arguments, ctypes.c_size_t(count))

        def compiled() -> None:
            for _ in range(count):
                length = shim.shim_run(*arguments)
                ctypes.string_at(shim.shim_output(), length)

        def python() -> None:
            for _ in range(count):
                _run(handler)

        expected = _run(handler)
        length = shim.shim_run(*arguments)
        assert ctypes.string_at(shim.shim_output(), length) == expected
        gc.collect()
        gc.freeze()
        ways: dict[str, Callable[[], None]] = {
            "the C API alone": floor,
            "a compiled shim, called from Python": compiled,
            "wagi, pure Python": python,
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.process_time()
                way()
                found[name].append((time.process_time() - began) / count * 1e6)
    return {name: median(times) for name, times in found.items()}


def _run(handler: Handler) -> bytes:
    guest = Guest(handler, [b"/hello"], _VARIABLES, lambda data: None)
    guest.stdin.end()
    while not guest.step():
        pass
    output = guest.stdout.take()
    guest.close()
    return output


def load_shim(output: Path) -> ctypes.PyDLL:
    """Compile the shim and load it."""
    ctypes.CDLL(str(ffi.filename), mode=ctypes.RTLD_GLOBAL)  # its symbols are the shim's too
    command = [*programs.zig(), "-shared", "-fPIC", str(_SHIM), "-o", str(output)]
    subprocess.run(command, check=True)
    shim = ctypes.PyDLL(str(output))
    shim.shim_run.restype = ctypes.c_size_t
    shim.shim_output.restype = ctypes.c_void_p
    return shim


def prepare(engine: capi.Engine, wasm: bytes, shim: ctypes.PyDLL) -> capi.InstancePre:
    """Compile a module and link it to the shim's ``fd_write``."""
    linker = capi.Linker(engine)
    parameters = [wasmtime.ValType.i32() for _ in range(4)]
    kind = wasmtime.FuncType(parameters, [wasmtime.ValType.i32()])
    module, name = b"wasi_snapshot_preview1", b"fd_write"
    error = c.wasmtime_linker_define_func_unchecked(
        linker.inner.ptr(),
        ctypes.create_string_buffer(module),
        len(module),
        ctypes.create_string_buffer(name),
        len(name),
        kind.ptr(),
        ctypes.cast(shim.shim_fd_write, ffi.wasmtime_func_unchecked_callback_t),
        None,
        ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )
    assert not error
    return linker.instantiate_pre(engine.compile(wasm))
