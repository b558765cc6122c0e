"""A module that begins where another one is once it has been initialised.

Interpreters and language runtimes work for milliseconds before they look at the request. For a
reactor that work is in ``_initialize``: it is run here, once and with nothing of the host, and the
memory and the globals that it leaves become the beginning of a new module (the idea is Wizer's).
Every request still has an instance of its own; it only begins later.

What was random or the time of day during the initialisation is the same in every instance then.
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
_GAP = 64  # zero bytes in a row from which on a segment ends: a segment costs about ten
_MAX_SEGMENTS = 50_000
_GLOBAL = "wagi:global:"
_MEMORY = "wagi:memory"
_TABLE = "wagi:table:"
_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}


class SnapshotError(WagiError):
    """A module that no snapshot can be made of; the message says why."""


def snapshot(wasm: bytes, initialize: str = "_initialize") -> bytes:
    """Run a module's initialisation and keep what comes of it.

    Parameters: ``wasm`` a core module; ``initialize`` the export to run, which the result has not.
    Returns: the new module. Raises: SnapshotError.
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
    """What the sections of a module say, as far as it matters here."""

    imported_globals: int = 0
    tables: int = 0
    globals: list[tuple[int, int, bytes]] = field(default_factory=list)  # type, mutable, expression
    exports: list[tuple[str, bytes]] = field(default_factory=list)  # name, kind and index
    memory: tuple[int, int, int | None] | None = None  # flags, minimum, maximum
    passive: list[bytes] = field(default_factory=list)  # data segments; active ones left empty

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
            raise SnapshotError("the module has no memory of its own")
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
            raise SnapshotError("the module has several memories")
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
                raise SnapshotError("the module has a global that is no number")

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
                raise SnapshotError("the module has several memories")
            if mode != 1:
                _skip_constant(reader)
            size = reader.u32()
            content = reader.data[reader.at : reader.at + size]
            reader.at += size
            self.passive.append(content if mode == 1 else b"")

    def observable(self, wasm: bytes) -> bytes:
        """The module with its memory, its tables and its mutable globals exported."""
        exports = [*self.exports, (_MEMORY, b"\x02\x00")]
        exports += [(f"{_TABLE}{index}", b"\x01" + leb(index)) for index in range(self.tables)]
        for index, (_, mutable, _) in enumerate(self.globals, self.imported_globals):
            if mutable:
                exports.append((f"{_GLOBAL}{index}", b"\x03" + leb(index)))
        return _with(wasm, {EXPORTS: _exports(exports)})

    def rewrite(self, wasm: bytes, initialize: str, state: _State) -> bytes:
        """The module with a state for its beginning."""
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
        raise SnapshotError(f"it ended with status {error.code} while initialising") from None
    except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
        raise SnapshotError(f"it cannot be initialised with nothing of the host: {error}") from None
    if _table_sizes(instance, store) != tables:
        raise SnapshotError("the module changes its tables while it is initialised")
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
    """The parts of a memory that are not zero: where they begin, and what is there."""
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
            raise SnapshotError("the module has a constant expression of an unknown kind")


def _exports(items: list[tuple[str, bytes]]) -> bytes:
    return _vector([leb(len(name.encode())) + name.encode() + what for name, what in items])


def _vector(items: list[bytes]) -> bytes:
    return leb(len(items)) + b"".join(items)


def _signed(value: int) -> bytes:
    """A signed number as LEB128."""
    pieces = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40):
            pieces.append(byte)
            return bytes(pieces)
        pieces.append(byte | 0x80)


_ORDER = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
"""Sections in the order in which they have to be (core specification §5.5.2)."""


def _with(wasm: bytes, new: dict[int, bytes | None]) -> bytes:
    """A module with sections replaced, added, or (None) removed."""
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
