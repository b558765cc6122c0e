"""A parser for parts of the WebAssembly binary format (core specification §5). Pure.

It distinguishes modules from components, reads initial sizes and custom sections, and renames
imports. wasmtime validates the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

PAGE = 64 * 1024
_MODULE = b"\0asm\x01\0\0\0"
_COMPONENT = b"\0asm\x0d\0\x01\0"
PREAMBLE_SIZE = 8  # bytes before the first section
_WITH_INITIALIZER = 0x40


class SectionNumber(IntEnum):
    """The sections of a module (core specification §5.5.2)."""

    CUSTOM = 0
    TYPES = 1
    IMPORTS = 2
    FUNCTIONS = 3
    TABLES = 4
    MEMORIES = 5
    GLOBALS = 6
    EXPORTS = 7
    START = 8
    ELEMENTS = 9
    CODE = 10
    DATA = 11
    DATA_COUNT = 12
    TAGS = 13


class MalformedModuleError(ValueError):
    """The bytes are not a valid WebAssembly module; the message has the reason."""


def is_component(wasm: bytes) -> bool:
    """Return whether this is a component of the component model rather than a core module."""
    return wasm.startswith(_COMPONENT[:4]) and wasm[4:8] == _COMPONENT[4:]


def check_magic(wasm: bytes) -> None:
    """Check the magic number and the version of a core module.

    Raises:
        MalformedModuleError: One of them is wrong.
    """
    if not wasm.startswith(b"\0asm"):
        raise MalformedModuleError("not a WebAssembly file: it does not begin with \\0asm")
    if wasm[4:8] != _MODULE[4:]:
        raise MalformedModuleError("not a WebAssembly module of version 1")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The initial sizes of an instance.

    Attributes:
        memories: The size of each linear memory in bytes.
        tables: The number of elements of each table.
    """

    memories: tuple[int, ...] = ()
    tables: tuple[int, ...] = ()


def initial_sizes(wasm: bytes) -> Sizes:
    """Read the initial sizes of the memories and tables that a module defines.

    Raises:
        MalformedModuleError: The module is invalid.
    """
    memories: tuple[int, ...] = ()
    tables: tuple[int, ...] = ()
    for section in sections(wasm):
        reader = Reader(wasm, section.start, section.end)
        if section.number == SectionNumber.MEMORIES:
            memories = tuple(PAGE * reader.limits() for _ in range(reader.count()))
        elif section.number == SectionNumber.TABLES:
            tables = tuple(reader.tables())
    return Sizes(memories, tables)


def custom_sections(wasm: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the custom sections.

    Raises:
        MalformedModuleError: The module is invalid.
    """
    for section in sections(wasm):
        if section.number == SectionNumber.CUSTOM:
            reader = Reader(wasm, section.start, section.end)
            name = reader.name()
            yield name, wasm[reader.at : section.end]


def producers(content: bytes) -> dict[str, list[str]]:
    """Parse a ``producers`` section: languages, tools and SDKs with their versions.

    https://github.com/WebAssembly/tool-conventions/blob/main/ProducersSection.md

    Raises:
        MalformedModuleError: The section is invalid.
    """
    reader = Reader(content, 0, len(content))
    fields: dict[str, list[str]] = {}
    for _ in range(reader.count()):
        field = reader.name()
        values = [(reader.name(), reader.name()) for _ in range(reader.count())]
        fields[field] = [f"{name} {version}".strip() for name, version in values]
    return fields


def rename_imports(wasm: bytes, rename: Callable[[str, str], str]) -> bytes:
    """Change the module names of imports.

    Args:
        wasm: A module.
        rename: ``rename(module, name)`` returns the new module name of an import.

    Raises:
        MalformedModuleError: The module is invalid.
    """
    for section in sections(wasm):
        if section.number == SectionNumber.IMPORTS:
            body = _renamed(Reader(wasm, section.start, section.end), rename)
            header = bytes([SectionNumber.IMPORTS]) + leb(len(body))
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
    """The position of a section.

    Attributes:
        number: The section id.
        header: Offset of the id, which the size and the content follow.
        start: Offset of the content.
        end: Offset of the end of the content.
    """

    number: int
    header: int
    start: int
    end: int


def sections(wasm: bytes) -> Iterator[Section]:
    """Yield the sections in order.

    Raises:
        MalformedModuleError: The module is invalid or truncated.
    """
    check_magic(wasm)
    return Reader(wasm, PREAMBLE_SIZE, len(wasm)).sections()


def check_sections(wasm: bytes) -> None:
    """Check that a module or component is not truncated.

    Raises:
        MalformedModuleError: It is, or this is neither a module nor a component.
    """
    if not is_component(wasm):
        check_magic(wasm)
    for _ in Reader(wasm, PREAMBLE_SIZE, len(wasm)).sections():
        pass


@dataclass(slots=True)
class Reader:
    """Reads numbers and names from the offset ``at`` up to ``end``.

    All methods raise ``MalformedModuleError`` if the data is invalid or ends too early.
    """

    data: bytes
    at: int
    end: int

    def sections(self) -> Iterator[Section]:
        """Yield the sections from here to the end."""
        while self.at < self.end:
            header = self.at
            number = self.byte()
            size = self.u32()
            start = self.at
            if size > self.end - start:
                raise MalformedModuleError(
                    "the file ends in the middle of a section: it is truncated"
                )
            yield Section(number, header, start, start + size)
            self.at = start + size

    def byte(self) -> int:
        """Read a byte."""
        if self.at >= self.end:
            raise MalformedModuleError("unexpected end of a section")
        self.at += 1
        return self.data[self.at - 1]

    def u32(self) -> int:
        """Read an unsigned integer (LEB128)."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise MalformedModuleError("an integer has too many bytes")

    def name(self) -> str:
        """Read a name: a vector of UTF-8 bytes."""
        length = self.u32()
        if self.at + length > self.end:
            raise MalformedModuleError("unexpected end of a section")
        self.at += length
        try:
            return self.data[self.at - length : self.at].decode()
        except UnicodeDecodeError:
            raise MalformedModuleError("a name is not valid UTF-8") from None

    def count(self) -> int:
        """Read the length of a vector whose items have at least one byte each."""
        value = self.u32()
        if value > self.end - self.at:
            raise MalformedModuleError("unexpected end of a section")
        return value

    def tables(self) -> Iterator[int]:
        """Yield the minimum size of each table; 0 from the first one with an initializer on."""
        known = True
        for _ in range(self.count()):
            known = known and self.data[self.at : self.at + 1] != bytes([_WITH_INITIALIZER])
            if known:
                self.skip_type()
            yield self.limits() if known else 0

    def limits(self) -> int:
        """Read limits, and return the minimum."""
        flags = self.byte()
        minimum = self.u32()
        if flags & 1:
            self.u32()
        if flags & 8:  # custom page sizes
            self.u32()
        return minimum

    def skip_import_description(self) -> None:
        """Skip the description of an import: a function, table, memory, global or tag."""
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
    """Encode an unsigned integer as LEB128."""
    pieces = bytearray()
    while value >= 0x80:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)
