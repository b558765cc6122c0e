"""What a wasm file says about itself, uncompiled (WebAssembly core specification §5). Pure.

Enough of the format to tell a module from a component, to learn what it starts with,
and to rename imports; wasmtime validates the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

PAGE = 64 * 1024
_MODULE = b"\0asm\x01\0\0\0"
_COMPONENT = b"\0asm\x0d\0\x01\0"
_CUSTOM_SECTION = 0
_IMPORT_SECTION = 2
_TABLE_SECTION = 4
_MEMORY_SECTION = 5
START_SECTION, DATA_SECTION = 8, 11
_WITH_INITIALIZER = 0x40


class MalformedModuleError(ValueError):
    """The bytes are not a WebAssembly module; the message says why."""


def is_component(wasm: bytes) -> bool:
    """Whether this is a component of the component model, not a core module."""
    return wasm.startswith(_COMPONENT[:4]) and wasm[4:8] == _COMPONENT[4:]


def check_magic(wasm: bytes) -> None:
    """Raises: MalformedModuleError unless the bytes begin as a core module does."""
    if not wasm.startswith(b"\0asm"):
        raise MalformedModuleError("not a WebAssembly file: it does not begin with \\0asm")
    if wasm[4:8] != _MODULE[4:]:
        raise MalformedModuleError("not a WebAssembly module of version 1")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What an instance starts with.

    Attributes: ``memories`` the bytes of each linear memory; ``tables`` the elements of each table.
    """

    memories: tuple[int, ...] = ()
    tables: tuple[int, ...] = ()


def initial_sizes(wasm: bytes) -> Sizes:
    """The memories and tables that a module defines."""
    memories: tuple[int, ...] = ()
    tables: tuple[int, ...] = ()
    for section in sections(wasm):
        reader = Reader(wasm, section.start, section.end)
        if section.number == _MEMORY_SECTION:
            memories = tuple(PAGE * reader.limits() for _ in range(reader.count()))
        elif section.number == _TABLE_SECTION:
            tables = tuple(reader.tables())
    return Sizes(memories, tables)


def custom_sections(wasm: bytes) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the custom sections."""
    for section in sections(wasm):
        if section.number == _CUSTOM_SECTION:
            reader = Reader(wasm, section.start, section.end)
            name = reader.name()
            yield name, wasm[reader.at : section.end]


def producers(content: bytes) -> dict[str, list[str]]:
    """What a ``producers`` section says: language, tools and kits, each with its version.

    https://github.com/WebAssembly/tool-conventions/blob/main/ProducersSection.md
    """
    reader = Reader(content, 0, len(content))
    fields: dict[str, list[str]] = {}
    for _ in range(reader.count()):
        field = reader.name()
        values = [(reader.name(), reader.name()) for _ in range(reader.count())]
        fields[field] = [f"{name} {version}".strip() for name, version in values]
    return fields


def rename_imports(wasm: bytes, rename: Callable[[str, str], str]) -> bytes:
    """Give imports other module names.

    Parameters: ``rename(module, name)`` returns the module name that it is to have.
    """
    for section in sections(wasm):
        if section.number == _IMPORT_SECTION:
            body = _renamed(Reader(wasm, section.start, section.end), rename)
            header = bytes([_IMPORT_SECTION]) + leb(len(body))
            return wasm[: section.header] + header + body + wasm[section.end :]
    return wasm


def _renamed(reader: Reader, rename: Callable[[str, str], str]) -> bytes:
    count = reader.u32()
    pieces = [leb(count)]
    for _ in range(count):
        module, name = reader.name(), reader.name()
        start = reader.at
        reader.skip_import_description()
        for text in (rename(module, name), name):
            pieces += [leb(len(text.encode())), text.encode()]
        pieces.append(reader.data[start : reader.at])
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its ``number``, where its ``header`` begins, where its content does, and ends."""

    number: int
    header: int
    start: int
    end: int


def sections(wasm: bytes) -> Iterator[Section]:
    """The sections in their order. Raises: MalformedModuleError."""
    check_magic(wasm)
    at = len(_MODULE)
    while at < len(wasm):
        reader = Reader(wasm, at + 1, len(wasm))
        size = reader.u32()
        if reader.at + size > len(wasm):
            raise MalformedModuleError("the file ends in the middle of a section: it is cut short")
        yield Section(wasm[at], at, reader.at, reader.at + size)
        at = reader.at + size


@dataclass(slots=True)
class Reader:
    """Reads numbers and names from ``at`` on. All methods raise MalformedModuleError at the end."""

    data: bytes
    at: int
    end: int

    def byte(self) -> int:
        """The next byte."""
        if self.at >= self.end:
            raise MalformedModuleError("a section ends too early")
        self.at += 1
        return self.data[self.at - 1]

    def u32(self) -> int:
        """An unsigned number (LEB128)."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise MalformedModuleError("a number is too long")

    def name(self) -> str:
        """A name: a vector of UTF-8."""
        length = self.u32()
        if self.at + length > self.end:
            raise MalformedModuleError("a section ends too early")
        self.at += length
        try:
            return self.data[self.at - length : self.at].decode()
        except UnicodeDecodeError:
            raise MalformedModuleError("a name is not UTF-8") from None

    def count(self) -> int:
        """The length of a vector, each item of which takes a byte at least."""
        value = self.u32()
        if value > self.end - self.at:
            raise MalformedModuleError("a section ends too early")
        return value

    def tables(self) -> Iterator[int]:
        """The minimum of each table; 0 from one on whose initializer would have to be parsed."""
        known = True
        for _ in range(self.count()):
            known = known and self.data[self.at : self.at + 1] != bytes([_WITH_INITIALIZER])
            if known:
                self.skip_type()
            yield self.limits() if known else 0

    def limits(self) -> int:
        """Skip limits; the minimum."""
        flags = self.byte()
        minimum = self.u32()
        if flags & 1:
            self.u32()
        if flags & 8:  # custom page sizes
            self.u32()
        return minimum

    def skip_import_description(self) -> None:
        """Skip what an import is: a function, a table, a memory, a global or a tag."""
        kind = self.byte()
        if kind == 0:  # function: type index
            self.u32()
        elif kind == 1:  # table: reference type, limits
            self.skip_type()
            self.limits()
        elif kind == 2:
            self.limits()
        elif kind == 3:  # global: value type, mutability
            self.skip_type()
            self.byte()
        elif kind == 4:  # tag: attribute, type index
            self.byte()
            self.u32()
        else:
            raise MalformedModuleError(f"unknown kind of import: {kind}")

    def skip_type(self) -> None:
        if self.byte() in (0x63, 0x64):  # (ref null? heaptype)
            self.u32()


def leb(value: int) -> bytes:
    """An unsigned number as LEB128."""
    pieces = bytearray()
    while value >= 0x80:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)
