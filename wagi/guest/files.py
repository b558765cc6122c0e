"""Files of a guest with volumes: calls on descriptors above 2 go on to wasmtime's own WASI.

A WASI function works on the memory of the instance that calls it, and a host call cannot call as
the guest. So a tiny second instance does, one that shares the guest's memory. It is made when a
guest first touches a file.
"""

from __future__ import annotations

from wagi.guest.capi import Engine, Linker, wat_to_wasm
from wagi.guest.errno import EMFILE
from wagi.guest.hostcalls import WASI
from wagi.guest.run import Run

MAX_OPEN = 128
"""Files that a guest may have open: the worker's descriptors are everybody's."""
_CALLS = {
    "path_open": "IIIIIQQII",
    "fd_read": "IIII",
    "fd_write": "IIII",
    "fd_close": "I",
    "fd_renumber": "II",
    "fd_seek": "IQII",
    "fd_filestat_get": "II",
    "path_filestat_get": "IIIII",
}


class FileCalls:
    """What the companions of one engine's guests have in common."""

    def __init__(self, engine: Engine) -> None:
        self.linker = Linker(engine)
        self.module = engine.compile(wat_to_wasm(_companion_text()))


def _companion_text() -> str:
    types = {"I": "i32", "Q": "i64"}
    imports, functions = [], []
    for name, parameters in _CALLS.items():
        signature = f"(param {' '.join(types[p] for p in parameters)}) (result i32)"
        arguments = " ".join(f"(local.get {i})" for i in range(len(parameters)))
        imports.append(f'(import "{WASI}" "{name}" (func ${name} {signature}))')
        functions.append(f'(func (export "{name}") {signature} (call ${name} {arguments}))')
    return f"""(module {" ".join(imports)}
      (import "guest" "memory" (memory 0)) (export "memory" (memory 0))
      {" ".join(functions)})"""


class Files:
    """One guest's way to its files."""

    def __init__(self, calls: FileCalls, run: Run) -> None:
        self._companion = run.companion(calls.linker, calls.module)
        self._open = 0

    def call(self, name: str, *arguments: int) -> int:
        """Call wasmtime's WASI for the guest. Returns: the errno."""
        return self._companion.call(name, _CALLS[name], *arguments)

    def open(self, *arguments: int) -> int:
        """``path_open``, for a guest that has not too many files open."""
        if self._open >= MAX_OPEN:
            return EMFILE
        errno = self.call("path_open", *arguments)
        self._open += errno == 0
        return errno

    def close(self, fd: int) -> int:
        """``fd_close``."""
        errno = self.call("fd_close", fd)
        self._open -= errno == 0
        return errno

    def renumber(self, source: int, target: int) -> int:
        """``fd_renumber``: what had the number ``target`` is closed."""
        errno = self.call("fd_renumber", source, target)
        self._open -= errno == 0 and source != target
        return errno
