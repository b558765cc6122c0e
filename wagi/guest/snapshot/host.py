"""The host of a command that is run up to its checkpoint.

It is stricter than that of a gateway: variables and files are only those that are given, and calls
whose result could depend on a request are observed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import wasmtime

from wagi.guest.artefacts import Artefacts
from wagi.guest.snapshot.calls import ObservedCalls
from wagi.guest.snapshot.compilation import compile_module, new_engine
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.program import Program
from wagi.guest.snapshot.state import MEMORY
from wagi.guest.wasi.abi import PREVIEW1, Clockid

TIMEOUT_S = 300.0
"""Seconds until a command has to reach its checkpoint."""
_INDEPENDENT = frozenset(
    (
        "clock_res_get",
        "fd_fdstat_get",
        "fd_fdstat_set_flags",
        "fd_prestat_dir_name",
        "fd_prestat_get",
        "sched_yield",
    )
)
"""Calls whose results are the same for every request. A call of the monotonic clock is, too."""
_FORWARDED = ("fd_close", "fd_fdstat_get", "fd_read", "fd_renumber", "fd_write", "path_open")
_READ_ONLY: tuple[Any, ...] = (False,)
if all(hasattr(wasmtime, name) for name in ("DirPerms", "FilePerms")):
    _READ_ONLY = tuple(vars(wasmtime)[name].READ_ONLY for name in ("DirPerms", "FilePerms"))
"""The last arguments of ``preopen_dir``, which wasmtime-py has changed in version 50."""

OnCheckpoint = Callable[["Host", str, str], None]
"""``on_checkpoint(host, module, name)`` is called at the checkpoint, in the host call."""


class Host:
    """An instance of a command with its host calls.

    Attributes:
        instance: The instance.
        store: Its store.
        calls: Its host calls that are observed.
    """

    def __init__(
        self,
        wasm: bytes,
        program: Program,
        on_checkpoint: OnCheckpoint,
        artefacts: Artefacts | None = None,
    ) -> None:
        """Create the instance.

        Args:
            wasm: An observable module (``StateLayout.observable``).
            program: What it is run with.
            on_checkpoint: Called at the checkpoint.
            artefacts: The cache of compiled modules.

        Raises:
            SnapshotError: That is not possible.
        """
        self.calls = ObservedCalls(lambda: on_checkpoint(self, PREVIEW1, "fd_read"))
        self._program = program
        self._on_checkpoint = on_checkpoint
        self._engine = new_engine()
        self.store = wasmtime.Store(self._engine)
        self.store.set_epoch_deadline(1)
        if program.memory_limit:
            self.store.set_limits(memory_size=program.memory_limit)
        self.store.set_wasi(_wasi_config(program))
        try:
            module = compile_module(self._engine, wasm, artefacts)
            self.instance = self._linker(module).instantiate(self.store, module)
            self.calls.attach(self.store, self.memory, self._forwarding(module))
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            raise SnapshotError(f"the module cannot be started: {_first_line(error)}") from None
        self._stop = self._stopper()

    @property
    def memory(self) -> wasmtime.Memory:
        """The memory of the command."""
        memory = self.instance.exports(self.store)[MEMORY]
        assert isinstance(memory, wasmtime.Memory)
        return memory

    def set_global(self, name: str, value: int) -> None:
        """Set a global of the observable module."""
        found = self.instance.exports(self.store)[name]
        assert isinstance(found, wasmtime.Global)
        found.set_value(self.store, value)

    def run(self, entrypoint: str) -> None:
        """Call an exported function.

        Raises:
            ExitedError: The command has exited.
            SnapshotError: It has trapped, or did not end in time.
        """
        function = self.instance.exports(self.store).get(entrypoint)
        if not isinstance(function, wasmtime.Func):
            raise SnapshotError(f"the module does not export the function {entrypoint!r}")
        timer = threading.Timer(TIMEOUT_S, self._engine.increment_epoch)
        timer.daemon = True
        timer.start()
        try:
            function(self.store)
        except wasmtime.Trap as trap:
            if trap.trap_code is wasmtime.TrapCode.INTERRUPT:
                raise SnapshotError(
                    f"the module did not reach its checkpoint within {TIMEOUT_S:g} seconds"
                    f"{self.calls.doing}"
                ) from None
            raise SnapshotError(
                f"the module trapped before its checkpoint: {_first_line(trap)}{self.calls.doing}"
            ) from None
        except wasmtime.WasmtimeError as error:
            raise SnapshotError(
                f"the module failed: {_first_line(error)}{self.calls.doing}"
            ) from None
        finally:
            timer.cancel()

    def stack(self) -> tuple[int, ...]:
        """The indices of the functions on the stack, the innermost one first."""
        try:
            self._stop(self.store)
        except wasmtime.Trap as trap:
            return tuple(frame.func_index for frame in trap.frames[1:])
        raise AssertionError("unreachable")

    def _linker(self, module: wasmtime.Module) -> wasmtime.Linker:
        linker = wasmtime.Linker(self._engine)
        linker.allow_shadowing = True
        linker.define_wasi()
        for item in module.imports:
            kind = item.type
            if not isinstance(kind, wasmtime.FuncType):
                continue
            assert item.name is not None
            call = self._call(item.module, item.name, kind)
            if call is not None:
                linker.define_func(item.module, item.name, kind, call)
        return linker

    def _call(self, module: str, name: str, kind: wasmtime.FuncType) -> Callable[..., Any] | None:
        """Implement a host call; None for wasmtime's implementation."""
        own = self.calls.functions
        is_wasi = module == PREVIEW1

        def checkpoint(*_: Any) -> Any:
            self._on_checkpoint(self, module, name)
            return 0 if len(kind.results) == 1 else [0] * len(kind.results) or None

        def missing(*_: Any) -> Any:
            raise SnapshotError(
                f"the module calls {name!r} of {module!r} too early{self.calls.doing}"
            )

        program = self._program
        if program.has_prelude or program.checkpoint:
            if name == program.checkpoint and name != "fd_read":  # only reads of stdin count
                return checkpoint
            return own.get(name) if is_wasi else missing
        if is_wasi and (name in _INDEPENDENT or name == "proc_exit"):
            return own.get(name)
        if is_wasi and name == "clock_time_get":
            return lambda clock, *rest: (
                checkpoint() if clock == Clockid.REALTIME else own["clock_time_get"](clock, *rest)
            )
        return checkpoint

    def _forwarding(self, module: wasmtime.Module) -> dict[str, wasmtime.Func]:
        """Make functions that call those of wasmtime, which need a caller with the memory."""
        kinds = {
            item.name: item.type
            for item in module.imports
            if item.module == PREVIEW1 and item.name in _FORWARDED
        }
        imports, functions = [], []
        for name, kind in kinds.items():
            assert isinstance(kind, wasmtime.FuncType)
            params = " ".join(f"(param {param})" for param in kind.params)
            results = " ".join(f"(result {result})" for result in kind.results)
            values = " ".join(f"(local.get {index})" for index in range(len(kind.params)))
            imports.append(f'(import "{PREVIEW1}" "{name}" (func ${name} {params} {results}))')
            functions.append(f'(func (export "{name}") {params} {results} (call ${name} {values}))')
        text = f"""(module {" ".join(imports)} (import "guest" "memory" (memory 0))
          (export "memory" (memory 0)) {" ".join(functions)})"""
        linker = wasmtime.Linker(self._engine)
        linker.define_wasi()
        linker.define(self.store, "guest", "memory", self.memory)
        instance = linker.instantiate(self.store, wasmtime.Module(self._engine, text))
        exports = instance.exports(self.store)
        found = {name: exports[name] for name in kinds if name is not None}
        return {name: item for name, item in found.items() if isinstance(item, wasmtime.Func)}

    def _stopper(self) -> wasmtime.Func:
        """Make a function that traps; the trap has the stack of all that called it."""
        module = wasmtime.Module(self._engine, '(module (func (export "stop") unreachable))')
        stop = wasmtime.Instance(self.store, module, []).exports(self.store)["stop"]
        assert isinstance(stop, wasmtime.Func)
        return stop


def _wasi_config(program: Program) -> wasmtime.WasiConfig:
    wasi = wasmtime.WasiConfig()
    wasi.argv = list(program.arguments)
    wasi.env = list(program.variables)
    for directory in program.directories:
        wasi.preopen_dir(str(directory.host_path), directory.guest_path, *_READ_ONLY)
    return wasi


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if not line.startswith(("error while", "wasm backtrace"))]
    return (causes or lines or ["unknown error"])[0]
