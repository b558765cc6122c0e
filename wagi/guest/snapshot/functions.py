"""The functions of a module: their types, imports and bodies. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from wagi.guest.binary import Reader, SectionNumber, custom_sections, sections
from wagi.guest.relocation import Relocation, UnsupportedCodeError, relocate_body
from wagi.guest.snapshot.errors import SnapshotError

_FUNCTION_TYPE = 0x60
_FUNCTION_NAMES = 1  # the subsection of the section "name"


@dataclass(slots=True)
class FunctionLayout:
    """The functions of a module.

    Attributes:
        types: The encoded function types.
        imports: Module, name and type index of the imported functions, which come first in the
            index space.
        defined: The type indices of the functions that the module defines.
        bodies: Their bodies: local declarations and instructions.
    """

    types: list[bytes] = field(default_factory=list)
    imports: list[tuple[str, str, int]] = field(default_factory=list)
    defined: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @classmethod
    def read(cls, wasm: bytes) -> FunctionLayout:
        """Parse a module.

        Raises:
            SnapshotError: The module uses garbage collection or exceptions.
            MalformedModuleError: It is invalid.
        """
        layout = cls()
        for section in sections(wasm):
            reader = Reader(wasm, section.start, section.end)
            if section.number == SectionNumber.TYPES:
                layout._read_types(reader)
            elif section.number == SectionNumber.IMPORTS:
                layout._read_imports(reader)
            elif section.number == SectionNumber.FUNCTIONS:
                layout.defined = [reader.u32() for _ in range(reader.count())]
            elif section.number == SectionNumber.CODE:
                for _ in range(reader.count()):
                    size = reader.u32()
                    layout.bodies.append(wasm[reader.at : reader.at + size])
                    reader.at += size
            elif section.number == SectionNumber.TAGS:
                raise SnapshotError(
                    "the module uses exceptions, through which Binaryen cannot unwind: build it"
                    " without them (for C++, with -fno-exceptions)"
                )
        return layout

    def import_index(self, module: str, name: str) -> int | None:
        """The index of an imported function; None if it is not imported."""
        for index, (other_module, other_name, _) in enumerate(self.imports):
            if (other_module, other_name) == (module, name):
                return index
        return None

    def body(self, index: int) -> bytes:
        """The body of a defined function, by its index in the index space."""
        return self.bodies[index - len(self.imports)]

    def type_index(self, encoded: bytes) -> int:
        """The index of a type, which is added if it is missing."""
        if encoded not in self.types:
            self.types.append(encoded)
        return self.types.index(encoded)

    def _read_types(self, reader: Reader) -> None:
        for _ in range(reader.count()):
            start = reader.at
            if reader.byte() != _FUNCTION_TYPE:
                raise SnapshotError(
                    "the module uses garbage-collected types, which snapshots do not support"
                )
            for _ in range(2):
                for _ in range(reader.count()):
                    reader.skip_type()
            self.types.append(reader.data[start : reader.at])

    def _read_imports(self, reader: Reader) -> None:
        for _ in range(reader.count()):
            module, name = reader.name(), reader.name()
            start = reader.at
            reader.skip_import_description()
            if reader.data[start] == 0:
                kind = Reader(reader.data, start + 1, reader.end)
                self.imports.append((module, name, kind.u32()))


def function_names(wasm: bytes) -> dict[int, str]:
    """Read the names of functions from the section ``name``."""
    for section, content in custom_sections(wasm):
        if section != "name":
            continue
        reader = Reader(content, 0, len(content))
        for part in reader.sections():
            if part.number == _FUNCTION_NAMES:
                names = Reader(content, part.start, part.end)
                return {names.u32(): names.name() for _ in range(names.count())}
    return {}


def relocate(body: bytes, to: Relocation) -> bytes:
    """Rewrite the indices in the body of a function.

    Raises:
        SnapshotError: It has an instruction that is not supported.
        MalformedModuleError: It is invalid.
    """
    try:
        return relocate_body(Reader(body, 0, len(body)), to)
    except UnsupportedCodeError as error:
        raise SnapshotError(
            f"a function on the call stack has an unsupported {error}: snapshots do not support"
            " threads, exceptions and garbage collection"
        ) from None
