"""What a guest costs without a server: through the C API alone, and as the gateway runs it.

python -m benchmarks.guest_cost MODULE   prints microseconds of CPU time as JSON
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

from tests.support.toolchains import native_c_library
from wagi.guest.capi.engine import Engine, Memory, Pool
from wagi.guest.capi.linker import InstancePre, Linker
from wagi.guest.engine import Runtime
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler
from wagi.guest.module import parse
from wagi.limits import Limits

_COUNT = 4000
_FLOOR = Path(__file__).parent / "floor.c"
_VARIABLES = b"".join(b"VARIABLE_%d=the value of variable %d\0" % (i, i) for i in range(33))


def measure(module: Path) -> dict[str, float]:
    """Microseconds of CPU time of one guest in each way, in this process."""
    runtime = Runtime()
    limits = Limits(memory_limit=256 * 1024**2)
    source = parse(module.name, module.read_bytes(), limits.memory_limit)
    handler = runtime.load(source).handler("_start", limits, ())
    pool = Pool(guests=20, memory=limits.memory_limit, elements=20_000)
    engine = Engine(Memory.POOL, pool, compiled=False)
    floor = _load_floor()
    prepared = _prepare(engine, source.wasm, floor)

    def c_api(count: int) -> bytes:
        length = floor.floor_run(engine.address, prepared.address, count)
        return ctypes.string_at(floor.floor_output(), length)

    def gateway(count: int) -> bytes:
        for _ in range(count):
            output = _run(handler)
        return output

    assert c_api(100) == gateway(100)
    gc.collect()
    gc.freeze()
    return {"C API": _cost(c_api), "wagi": _cost(gateway)}


def _cost(way: Callable[[int], bytes]) -> float:
    began = time.process_time()
    way(_COUNT)
    return (time.process_time() - began) / _COUNT * 1e6


def _run(handler: Handler) -> bytes:
    guest = Guest(handler, b"/hello\0", _VARIABLES, lambda data: None)
    guest.end_input()
    while not guest.step():
        pass
    output = guest.take_output()
    guest.close()
    return output


def _load_floor() -> ctypes.PyDLL:
    ctypes.CDLL(str(ffi.filename), mode=ctypes.RTLD_GLOBAL)  # floor.c is linked to its symbols
    floor = ctypes.PyDLL(str(native_c_library(_FLOOR)))
    floor.floor_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    floor.floor_run.restype = ctypes.c_size_t
    floor.floor_output.restype = ctypes.c_void_p
    return floor


def _prepare(engine: Engine, wasm: bytes, floor: ctypes.PyDLL) -> InstancePre:
    """Compile a module and link it to the ``fd_write`` of floor.c."""
    linker = Linker(engine)
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
        ctypes.cast(floor.floor_fd_write, ffi.wasmtime_func_unchecked_callback_t),
        None,
        ctypes.cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )
    assert not error
    return linker.instantiate_pre(engine.compile(wasm))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
