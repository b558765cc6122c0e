"""Initialise a module ahead of time, and save its state as a new module.

Interpreters and language runtimes work for milliseconds before they handle the request. A reactor
does this work in ``_initialize``. It is run here once, without access to the host, and the
resulting memory and globals become the initial state of a new module (the idea is Wizer's). Each
request still gets a separate instance.

Random numbers and times that are read during initialisation are the same in every instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import pack

import wasmtime

from wagi.errors import WagiError
from wagi.guest.binary import PAGE, MalformedModuleError, Reader, leb, sections

IMPORTS, TABLES, MEMORIES, GLOBALS, EXPORTS, START = 2, 4, 5, 6, 7, 8
DATA, DATA_COUNT = 11, 12
_GAP = 64  # zero bytes that end a segment: the header of a segment has about ten bytes
_MAX_SEGMENTS = 50_000
_GLOBAL = "wagi:global:"
_MEMORY = "wagi:memory"
_TABLE = "wagi:table:"
_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}


class SnapshotError(WagiError):
    """A snapshot of a module cannot be made; the message has the reason."""


def snapshot(wasm: bytes, initialize: str = "_initialize") -> bytes:
    """Run a module's initialisation and save its state.

    Args:
        wasm: A core module.
        initialize: The exported function to run; it is removed from the new module.

    Returns:
        The new module.

    Raises:
        SnapshotError: The module is not supported, or its initialisation fails.
    """
    try:
        layout = _Layout.read(wasm)
        state = _run(layout.observable(wasm), initialize, layout)
        return layout.rewrite(wasm, initialize, state)
    except MalformedModuleError as error:
        raise SnapshotError(f"not a valid module: {error}") from None


@dataclass(frozen=True)
class _State:
    memory: bytes
    globals: dict[int, bytes]  # index → constant expression


@dataclass
class _Layout:
    """The parts of a module that are relevant for a snapshot."""

    imported_globals: int = 0
    tables: int = 0
    globals: list[tuple[int, int, bytes]] = field(default_factory=list)  # type, mutable, expression
    exports: list[tuple[str, bytes]] = field(default_factory=list)  # name, kind and index
    memory: tuple[int, int, int | None] | None = None  # flags, minimum, maximum
    passive: list[bytes] = field(default_factory=list)  # data segments; active ones are empty

    @classmethod
    def read(cls, wasm: bytes) -> _Layout:
        layout = cls()
        parsers: dict[int, Callable[[Reader], None]] = {
            IMPORTS: layout._read_imports,
            TABLES: layout._read_tables,
            MEMORIES: layout._read_memories,
            GLOBALS: layout._read_globals,
            EXPORTS: layout._read_exports,
            DATA: layout._read_data,
        }
        for section in sections(wasm):
            if section.number in parsers:
                parsers[section.number](Reader(wasm, section.start, section.end))
        if layout.memory is None:
            raise SnapshotError("the module does not define a memory")
        return layout

    def _read_imports(self, reader: Reader) -> None:
        for _ in range(reader.u32()):
            reader.name()
            reader.name()
            kind = reader.data[reader.at]
            if kind in (1, 2):
                raise SnapshotError("the module imports a table or a memory")
            self.imported_globals += kind == 3
            reader.skip_import_description()

    def _read_tables(self, reader: Reader) -> None:
        self.tables = reader.u32()

    def _read_memories(self, reader: Reader) -> None:
        if reader.u32() != 1:
            raise SnapshotError("the module has more than one memory")
        flags, minimum = reader.byte(), reader.u32()
        self.memory = flags, minimum, reader.u32() if flags & 1 else None
        if flags & ~1:
            raise SnapshotError("the module's memory is shared or has 64-bit addresses")

    def _read_globals(self, reader: Reader) -> None:
        for _ in range(reader.u32()):
            kind, mutable = reader.byte(), reader.byte()
            start = reader.at
            _skip_constant(reader)
            self.globals.append((kind, mutable, reader.data[start : reader.at]))
            if mutable and kind not in _TYPES:
                raise SnapshotError("the module has a mutable global that is not a number")

    def _read_exports(self, reader: Reader) -> None:
        for _ in range(reader.u32()):
            name, start = reader.name(), reader.at
            reader.byte()
            reader.u32()
            self.exports.append((name, reader.data[start : reader.at]))

    def _read_data(self, reader: Reader) -> None:
        for _ in range(reader.u32()):
            mode = reader.u32()
            if mode == 2 and reader.u32() != 0:
                raise SnapshotError("the module has more than one memory")
            if mode != 1:
                _skip_constant(reader)
            size = reader.u32()
            content = reader.data[reader.at : reader.at + size]
            reader.at += size
            self.passive.append(content if mode == 1 else b"")

    def observable(self, wasm: bytes) -> bytes:
        """Export the memory, the tables and the mutable globals of the module."""
        exports = [*self.exports, (_MEMORY, b"\x02\x00")]
        exports += [(f"{_TABLE}{index}", b"\x01" + leb(index)) for index in range(self.tables)]
        for index, (_, mutable, _) in enumerate(self.globals, self.imported_globals):
            if mutable:
                exports.append((f"{_GLOBAL}{index}", b"\x03" + leb(index)))
        return _with(wasm, {EXPORTS: _exports(exports)})

    def rewrite(self, wasm: bytes, initialize: str, state: _State) -> bytes:
        """Replace the initial state of the module."""
        assert self.memory is not None
        flags, _, maximum = self.memory
        limits = bytes([flags]) + leb(len(state.memory) // PAGE)
        limits += b"" if maximum is None else leb(maximum)
        changed = [
            bytes([kind, mutable]) + state.globals.get(index, expression)
            for index, (kind, mutable, expression) in enumerate(self.globals, self.imported_globals)
        ]
        segments = [b"\x01" + leb(len(content)) + content for content in self.passive]
        segments += [
            b"\x00\x41" + _signed(start) + b"\x0b" + leb(len(content)) + content
            for start, content in _segments(state.memory)
        ]
        new: dict[int, bytes | None] = {
            MEMORIES: _vector([limits]),
            EXPORTS: _exports([item for item in self.exports if item[0] != initialize]),
            START: None,
            DATA_COUNT: leb(len(segments)),
            DATA: _vector(segments),
        }
        if changed:
            new[GLOBALS] = _vector(changed)
        return _with(wasm, new)


def _run(wasm: bytes, initialize: str, layout: _Layout) -> _State:
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    store.set_wasi(wasmtime.WasiConfig())  # no arguments, no variables, no files
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    try:
        module = wasmtime.Module(engine, wasm)
        instance = linker.instantiate(store, module)
        exports = instance.exports(store)
        function = exports.get(initialize)
        if not isinstance(function, wasmtime.Func):
            names = ", ".join(name for name, _ in layout.exports)
            raise SnapshotError(
                f"the module does not export the function {initialize!r}: build a reactor"
                f" (it exports: {names})"
            )
        tables = _table_sizes(instance, store)
        function(store)
    except wasmtime.ExitTrap as error:
        raise SnapshotError(
            f"the module exited with status {error.code} during initialisation"
        ) from None
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        raise SnapshotError(f"initialisation without access to the host failed: {error}") from None
    if _table_sizes(instance, store) != tables:
        raise SnapshotError("the module changes its tables during initialisation")
    memory = exports[_MEMORY]
    assert isinstance(memory, wasmtime.Memory)
    constants = {}
    for index, (kind, mutable, _) in enumerate(layout.globals, layout.imported_globals):
        if mutable:
            found = exports[f"{_GLOBAL}{index}"]
            assert isinstance(found, wasmtime.Global)
            constants[index] = _constant(kind, found.value(store))
    return _State(bytes(memory.read(store)), constants)


def _table_sizes(instance: wasmtime.Instance, store: wasmtime.Store) -> list[int]:
    exports = instance.exports(store)
    return [item.size(store) for item in exports.values() if isinstance(item, wasmtime.Table)]


def _segments(memory: bytes) -> list[tuple[int, bytes]]:
    """Split a memory into segments without long runs of zeros, as pairs of offset and content."""
    gap = _GAP
    found: list[tuple[int, bytes]] = list(_cut(memory, gap))
    while len(found) > _MAX_SEGMENTS:
        gap *= 4
        found = list(_cut(memory, gap))
    return found


def _cut(memory: bytes, gap: int) -> Iterator[tuple[int, bytes]]:
    zeros = bytes(gap)
    at = 0
    while at < len(memory):
        rest = memory[at : at + PAGE]
        stripped = rest.lstrip(b"\0")
        if not stripped:
            at += len(rest)
            continue
        at += len(rest) - len(stripped)
        end = memory.find(zeros, at)
        end = len(memory) if end < 0 else end
        yield at, memory[at:end]
        at = end


def _constant(kind: int, value: object) -> bytes:
    assert isinstance(value, int | float)
    match _TYPES[kind]:
        case "i32":
            return b"\x41" + _signed(int(value)) + b"\x0b"
        case "i64":
            return b"\x42" + _signed(int(value)) + b"\x0b"
        case "f32":
            return b"\x43" + pack("<f", value) + b"\x0b"
        case _:
            return b"\x44" + pack("<d", value) + b"\x0b"


def _skip_constant(reader: Reader) -> None:
    """Skip a constant expression (core specification §3.3.13)."""
    while (opcode := reader.byte()) != 0x0B:
        if opcode in (0x41, 0x42, 0x23, 0xD2):  # i32, i64, global.get, ref.func
            while reader.byte() & 0x80:
                pass
        elif opcode in (0x43, 0x44):
            reader.at += 4 if opcode == 0x43 else 8
        elif opcode == 0xD0:  # ref.null
            reader.byte()
        elif opcode not in (0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E):  # extended constants
            raise SnapshotError("the module has an unsupported constant expression")


def _exports(items: list[tuple[str, bytes]]) -> bytes:
    return _vector([leb(len(name.encode())) + name.encode() + what for name, what in items])


def _vector(items: list[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def _signed(value: int) -> bytes:
    """Encode a signed integer as LEB128."""
    pieces = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40):
            pieces.append(byte)
            return bytes(pieces)
        pieces.append(byte | 0x80)


_ORDER = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
"""The required order of sections (core specification §5.5.2)."""


def _with(wasm: bytes, new: dict[int, bytes | None]) -> bytes:
    """Replace, add or (None) remove sections of a module."""
    pieces: list[tuple[int, bytes]] = []
    for section in sections(wasm):
        if section.number not in new:
            pieces.append((section.number, wasm[section.header : section.end]))
    for number, content in new.items():
        if content is not None:
            piece = bytes([number]) + leb(len(content)) + content
            after = _ORDER.index(number)
            at = next(
                (i for i, (n, _) in enumerate(pieces) if n and _ORDER.index(n) > after), len(pieces)
            )
            pieces.insert(at, (number, piece))
    return wasm[:8] + b"".join(piece for _, piece in pieces)
