"""wasmtime with the allocator of memory.c, compiled as a library and driven with ctypes.

Run as a program, it performs one scenario in a separate process: see SCENARIOS at the end.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from ctypes import addressof, byref, c_char_p, c_uint64, c_void_p, cast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi

SOURCES = Path(__file__).parents[3] / "wagi" / "guest" / "core"
PAGE = 64 * 1024
MIB = 1024 * 1024
WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror")


def compiler() -> list[str] | None:
    """Return the command of a C compiler, or None if none is installed."""
    if shutil.which("cc"):
        return ["cc"]
    try:
        import ziglang  # noqa: F401
    except ImportError:
        return None
    return [sys.executable, "-m", "ziglang", "cc"]


def build(command: list[str], folder: Path) -> Path:
    """Compile memory.c and api.c to a shared library in a folder."""
    output = folder / "memory.so"
    sources = [str(SOURCES / name) for name in ("memory.c", "api.c")]
    options = [*WARNINGS, "-O2", "-shared", "-fPIC", "-pthread", "-o", str(output)]
    subprocess.run([*command, *options, *sources], check=True)
    return output


@dataclass(frozen=True)
class Image:
    """A data image and its bytes."""

    address: int
    offset: int
    data: bytes
    memory_size: int


class Core:
    """The functions of memory.h, and an engine whose memories and stacks they allocate."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        load = self._function("api_load", c_char_p, c_char_p)
        assert load(os.fsencode(str(ffi.filename))) is None
        self._set_image = self._function("memory_set_image", None, c_void_p)
        self._image_new = self._function("image_new", c_void_p, c_char_p, *[c_uint64] * 3)
        self._image_delete = self._function("image_delete", None, c_void_p)
        self._self_test = self._function("memory_self_test", c_char_p)
        self._method = self._function("memory_method", c_char_p)
        self.kept: Callable[[], int] = self._function("memory_kept", c_uint64)
        self.engine = self._engine()

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = self._library[name]
        function.restype, function.argtypes = result, arguments
        return function

    def _engine(self) -> wasmtime.Engine:
        config = wasmtime.Config()
        config.epoch_interruption = True
        config.parallel_compilation = False  # its threads would not exist after a fork
        config.max_wasm_stack = 512 * 1024
        c.wasmtime_config_async_stack_size_set(config.ptr(), 1024 * 1024)
        c.wasmtime_config_memory_init_cow_set(config.ptr(), False)
        self._function("memory_configure", None, c_void_p)(cast(config.ptr(), c_void_p))
        return wasmtime.Engine(config)

    def self_test(self) -> str | None:
        fault = self._self_test()
        return fault.decode() if fault else None

    def method(self) -> str:
        return str(self._method().decode())

    def image(self, data: bytes, offset: int, memory_size: int) -> Image | None:
        address = self._image_new(data, offset, len(data), memory_size)
        return Image(address, offset, data, memory_size) if address else None

    def delete(self, image: Image) -> None:
        self._image_delete(image.address)

    def module(self, pages: int) -> wasmtime.Module:
        """A module of guests that read and write at the addresses in their input.

        Args:
            pages: Initial size of the memory, in WebAssembly pages.
        """
        return wasmtime.Module(self.engine, GUEST.format(pages=pages))

    def guest(self, module: wasmtime.Module, image: Image | None = None) -> Guest:
        self._set_image(image.address if image else None)
        try:
            return Guest(self.engine, module)
        finally:
            self._set_image(None)


# `find` returns the address of the first eight bytes that are not zero, or -1; `write` changes a
# byte every `distance` bytes; `read` reads one; `dive` recurses deeply; `spin` never ends.
GUEST = """(module (memory (export "memory") {pages})
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "read") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "find") (result i64) (local $p i64)
    (block $end (loop $next
      (br_if $end (i64.ge_u (local.get $p)
        (i64.mul (i64.extend_i32_u (memory.size)) (i64.const 65536))))
      (if (i64.ne (i64.load (i32.wrap_i64 (local.get $p))) (i64.const 0))
        (then (return (local.get $p))))
      (local.set $p (i64.add (local.get $p) (i64.const 8)))
      (br $next)))
    (i64.const -1))
  (func (export "write") (param $from i32) (param $count i32) (param $distance i32)
    (block $end (loop $next
      (br_if $end (i32.eqz (local.get $count)))
      (i32.store8 (local.get $from)
        (i32.xor (i32.load8_u (local.get $from)) (i32.const 0xa5)))
      (local.set $from (i32.add (local.get $from) (local.get $distance)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next))))
  (func $dive (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $dive (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func (export "spin") (loop $forever (br $forever)))
  (func (export "dive") (drop (call $dive (i32.const 9000)))))"""


class Guest:
    """An instance with its own store."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        self.store = wasmtime.Store(engine)
        self.store.set_epoch_deadline(1 << 40)
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)

    def call(self, name: str, *arguments: int) -> int:
        return self.exports[name](self.store, *arguments)  # type: ignore[operator, no-any-return]

    @property
    def memory(self) -> wasmtime.Memory:
        memory = self.exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory

    @property
    def address(self) -> int:
        """The address of the guest's memory in the process."""
        return addressof(self.memory.data_ptr(self.store).contents)

    def content(self) -> bytes:
        return bytes(self.memory.read(self.store))

    def close(self) -> None:
        self.store.close()


class Fiber:
    """A guest with its own stack.

    Args:
        export: ``spin``, which is suspended in the middle of its call, or ``dive``, which has
            returned: its store keeps the stack.
    """

    def __init__(self, core: Core, pre: wasmtime.InstancePre, export: bytes) -> None:
        self._store = c.wasmtime_store_new(core.engine.ptr(), None, _NO_FINALIZER)
        self._instance = ffi.wasmtime_instance_t()
        self._function = ffi.wasmtime_extern_t()
        self._trap = ctypes.POINTER(c.wasm_trap_t)()
        self._error = ctypes.POINTER(c.wasmtime_error_t)()
        outcome = byref(self._trap), byref(self._error)
        context = c.wasmtime_store_context(self._store)
        c.wasmtime_context_epoch_deadline_async_yield_and_update(context, 1)
        c.wasmtime_context_set_epoch_deadline(context, 1)
        future = c.wasmtime_instance_pre_instantiate_async(
            pre.ptr(), context, byref(self._instance), *outcome
        )
        while not c.wasmtime_call_future_poll(future):
            pass
        c.wasmtime_call_future_delete(future)
        name = ctypes.create_string_buffer(export)
        assert c.wasmtime_instance_export_get(
            context, byref(self._instance), name, len(export), byref(self._function)
        )
        self._future = c.wasmtime_func_call_async(
            context, byref(self._function.of.func), None, 0, None, 0, *outcome
        )
        if export == b"spin":
            core.engine.increment_epoch()
        assert c.wasmtime_call_future_poll(self._future) == (export != b"spin")
        assert not self._trap
        assert not self._error

    def close(self) -> None:
        c.wasmtime_call_future_delete(self._future)
        c.wasmtime_store_delete(self._store)


_NO_FINALIZER = cast(0, ctypes.CFUNCTYPE(None, c_void_p))


def process_memory() -> dict[str, int]:
    """This process's memory in bytes: ``VmRSS`` (resident) and ``VmPTE`` (page tables)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmPTE")}


def mappings(name: str = "") -> int:
    """The number of mappings of this process, or of one file."""
    return sum(name in line for line in Path("/proc/self/maps").read_text().splitlines())


# ---- scenarios: each runs in a separate process and prints its results as JSON ----


def _rounds(core: Core) -> dict[str, Any]:
    """Consecutive guests that each search for data of the previous one."""
    module = core.module(4)
    found, addresses = set(), set()
    for count in (1, 3, 60, 540) * 3:
        guest = core.guest(module)
        guest.call("grow", 30)
        found.add(guest.call("find"))
        addresses.add(guest.address)
        guest.call("write", 100, count, 4096)
        guest.close()
    return {"found": sorted(found), "slots": len(addresses), "method": core.method()}


def usual(core: Core) -> dict[str, Any]:
    return {"fault": core.self_test(), **_rounds(core)}


def without_pagemap_scan(core: Core) -> dict[str, Any]:
    """Linux before 6.7, which does not support PAGEMAP_SCAN."""
    _reject_ioctl(0xC0606610)
    return usual(core)


def _reject_ioctl(request: int) -> None:
    """Make the ioctl fail with ENOTTY by a filter of system calls (seccomp(2), x86-64)."""
    # offsets in struct seccomp_data: 0 the number, 24 the second argument
    instructions = (
        (0x20, 0, 0, 0),  # load the number
        (0x15, 0, 3, 16),  # ioctl? else allow
        (0x20, 0, 0, 24),  # load the request
        (0x15, 0, 1, request),  # else allow
        (0x06, 0, 0, 0x0005_0000 | 25),  # return ERRNO | ENOTTY
        (0x06, 0, 0, 0x7FFF_0000),  # return ALLOW
    )
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("<HxxxxxxQ", len(instructions), addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.create_string_buffer(program)) == 0  # SECCOMP_MODE_FILTER


def forked(core: Core) -> dict[str, Any]:
    """A child whose parent already has guests, free slots and the descriptor."""
    before = _rounds(core)
    running = core.guest(core.module(4))
    running.call("write", 0, 50, 4096)
    child = _in_child(os.fork, lambda: _rounds(core))
    return {"parent": before, "child": child, "again": _rounds(core)}


def forked_unnoticed(core: Core) -> dict[str, Any]:
    """A child without the handlers of pthread_atfork, which uses its parent's descriptor."""
    before = _rounds(core)
    fork = ctypes.CDLL(None)._Fork  # glibc 2.34
    return {"parent": before, "child": _in_child(fork, lambda: usual(core))}


def _in_child(fork: Callable[[], int], work: Callable[[], Any]) -> Any:
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(found)


def greedy(core: Core) -> dict[str, Any]:
    """Resident memory after 32 guests that write to 244 MiB, consecutively and four at once."""
    module = core.module(1)
    core.guest(module).close()
    before = process_memory()
    for _ in range(8):
        guests = [core.guest(module) for _ in range(4)]
        for guest in guests:
            assert guest.call("grow", 3903) == 1
            guest.call("write", 0, 244 * MIB // 4096, 4096)
        most = process_memory()["VmRSS"]
        for guest in guests:
            guest.close()
    return {"before": before, "most": most, "after": process_memory(), "kept": core.kept()}


def moderate(core: Core) -> dict[str, Any]:
    """Resident memory after 64 concurrent guests that write to all pages a free slot keeps."""
    module = core.module(32)
    core.guest(module).close()
    before = process_memory()
    guests = [core.guest(module) for _ in range(64)]
    for guest in guests:
        guest.call("write", 0, 500, 4096)
    most = process_memory()["VmRSS"]
    for guest in guests:
        guest.close()
    return {"before": before, "most": most, "after": process_memory(), "kept": core.kept()}


def crowd(core: Core) -> dict[str, Any]:
    """Resident memory after 1,000 concurrent guests, a third of which used a deep stack."""
    pre = wasmtime.Linker(core.engine).instantiate_pre(core.module(257))
    Fiber(core, pre, b"spin").close()
    before, mapped = process_memory(), mappings()
    exports = (b"spin", b"spin", b"dive")
    fibers = [Fiber(core, pre, exports[i % 3]) for i in range(1000)]
    most = process_memory()["VmRSS"]
    for fiber in fibers:
        fiber.close()
    ctypes.CDLL(None).malloc_trim(0)  # excludes memory that wasmtime has freed
    return {
        "before": before,
        "most": most,
        "after": process_memory(),
        "kept": core.kept(),
        "mappings": mappings() - mapped,
    }


SCENARIOS: dict[str, Callable[[Core], dict[str, Any]]] = {
    each.__name__: each
    for each in (usual, without_pagemap_scan, forked, forked_unnoticed, greedy, moderate, crowd)
}


def run_scenario(library: Path, name: str) -> dict[str, Any]:
    """Run a scenario in a separate process, and return its results."""
    command = [sys.executable, "-m", __name__, str(library), name]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[2]](Core(Path(sys.argv[1])))))
