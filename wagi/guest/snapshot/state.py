"""The state of an instance, and modules that begin with it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from wagi.guest.binary import PAGE, Reader, SectionNumber, leb, sections
from wagi.guest.encoding import encode_name, replace_sections, signed, vector
from wagi.guest.snapshot.constants import NUMBER_TYPES, skip_constant
from wagi.guest.snapshot.errors import SnapshotError

MEMORY = "wagi:memory"
"""The export of the memory in an observable module."""
_GLOBAL = "wagi:global:"
_TABLE = "wagi:table:"
_GAP = 64  # zero bytes that end a segment: the header of a segment has about ten bytes
_MAX_SEGMENTS = 50_000


@dataclass(frozen=True, slots=True)
class State:
    """The state of an instance.

    Attributes:
        memory: The content of its memory.
        globals: The values of its mutable globals by index, as constant expressions.
    """

    memory: bytes
    globals: dict[int, bytes]


@dataclass
class StateLayout:
    """The parts of a module that hold its state."""

    imported_globals: int = 0
    tables: int = 0
    globals: list[tuple[int, int, bytes]] = field(default_factory=list)  # type, mutable, expression
    exports: list[tuple[str, bytes]] = field(default_factory=list)  # name, kind and index
    memory: tuple[int, int, int | None] | None = None  # flags, minimum, maximum
    passive: list[bytes] = field(default_factory=list)  # data segments; active ones are empty

    @classmethod
    def read(cls, wasm: bytes) -> StateLayout:
        """Parse a module.

        Raises:
            SnapshotError: Its state cannot be saved.
            MalformedModuleError: It is invalid.
        """
        layout = cls()
        parsers: dict[int, Callable[[Reader], None]] = {
            SectionNumber.IMPORTS: layout._read_imports,
            SectionNumber.TABLES: layout._read_tables,
            SectionNumber.MEMORIES: layout._read_memories,
            SectionNumber.GLOBALS: layout._read_globals,
            SectionNumber.EXPORTS: layout._read_exports,
            SectionNumber.DATA: layout._read_data,
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
            skip_constant(reader)
            self.globals.append((kind, mutable, reader.data[start : reader.at]))
            if mutable and kind not in NUMBER_TYPES:
                raise SnapshotError("the module has a mutable global that is not a number")

    def _read_exports(self, reader: Reader) -> None:
        for _ in range(reader.u32()):
            text, start = reader.name(), reader.at
            reader.byte()
            reader.u32()
            self.exports.append((text, reader.data[start : reader.at]))

    def _read_data(self, reader: Reader) -> None:
        for _ in range(reader.u32()):
            mode = reader.u32()
            if mode == 2 and reader.u32() != 0:
                raise SnapshotError("the module has more than one memory")
            if mode != 1:
                skip_constant(reader)
            size = reader.u32()
            content = reader.data[reader.at : reader.at + size]
            reader.at += size
            self.passive.append(content if mode == 1 else b"")

    def mutable_globals(self) -> Iterator[tuple[int, int, str]]:
        """Yield index, type and the export in an observable module of each mutable global."""
        for index, (kind, mutable, _) in enumerate(self.globals, self.imported_globals):
            if mutable:
                yield index, kind, f"{_GLOBAL}{index}"

    def observable(self, wasm: bytes) -> bytes:
        """Export the memory, the tables and the mutable globals of the module."""
        exports = [*self.exports, (MEMORY, b"\x02\x00")]
        exports += [(f"{_TABLE}{index}", b"\x01" + leb(index)) for index in range(self.tables)]
        exports += [(text, b"\x03" + leb(index)) for index, _, text in self.mutable_globals()]
        return replace_sections(wasm, {SectionNumber.EXPORTS: _exports(exports)})

    def with_state(self, wasm: bytes, state: State, removed: Collection[str] = ()) -> bytes:
        """Replace the initial state of the module.

        Args:
            wasm: The module.
            state: The new state.
            removed: The names of exports that the new module does not have.
        """
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
            b"\x00\x41" + signed(start) + b"\x0b" + leb(len(content)) + content
            for start, content in split_memory(state.memory)
        ]
        new: dict[int, bytes | None] = {
            SectionNumber.MEMORIES: vector([limits]),
            SectionNumber.EXPORTS: _exports(
                [item for item in self.exports if item[0] not in removed]
            ),
            SectionNumber.START: None,
            SectionNumber.DATA_COUNT: leb(len(segments)),
            SectionNumber.DATA: vector(segments),
        }
        if changed:
            new[SectionNumber.GLOBALS] = vector(changed)
        return replace_sections(wasm, new)


def split_memory(memory: bytes) -> list[tuple[int, bytes]]:
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


def _exports(items: list[tuple[str, bytes]]) -> bytes:
    return vector([encode_name(text) + what for text, what in items])
