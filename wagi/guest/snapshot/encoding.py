"""Encoding of parts of the WebAssembly binary format (core specification §5). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import pack

from wagi.guest.binary import Reader, leb, sections
from wagi.guest.snapshot.errors import SnapshotError

CUSTOM, TYPES, IMPORTS, FUNCTIONS, TABLES, MEMORIES, GLOBALS = 0, 1, 2, 3, 4, 5, 6
EXPORTS, START, ELEMENTS, CODE, DATA, DATA_COUNT, TAGS = 7, 8, 9, 10, 11, 12, 13
_ORDER = (
    TYPES,
    IMPORTS,
    FUNCTIONS,
    TABLES,
    MEMORIES,
    TAGS,
    GLOBALS,
    EXPORTS,
    START,
    ELEMENTS,
    DATA_COUNT,
    CODE,
    DATA,
)
"""The required order of sections (core specification §5.5.2)."""
NUMBER_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}


def vector(items: list[bytes]) -> bytes:
    """Encode a vector of encoded items."""
    return leb(len(items)) + b"".join(items)


def name(text: str) -> bytes:
    """Encode a name."""
    return leb(len(text.encode())) + text.encode()


def sized(content: bytes) -> bytes:
    """Encode bytes with their length before them."""
    return leb(len(content)) + content


def signed(value: int) -> bytes:
    """Encode a signed integer as LEB128."""
    pieces = bytearray()
    while True:
        byte = value & 0x7F
        value >>= 7
        if (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40):
            pieces.append(byte)
            return bytes(pieces)
        pieces.append(byte | 0x80)


def constant(kind: int, value: object) -> bytes:
    """Encode a number as a constant expression.

    Args:
        kind: Its type, a key of ``NUMBER_TYPES``.
        value: The number.
    """
    assert isinstance(value, int | float)
    match NUMBER_TYPES[kind]:
        case "i32":
            return b"\x41" + signed(int(value)) + b"\x0b"
        case "i64":
            return b"\x42" + signed(int(value)) + b"\x0b"
        case "f32":
            return b"\x43" + pack("<f", value) + b"\x0b"
        case _:
            return b"\x44" + pack("<d", value) + b"\x0b"


def skip_constant(reader: Reader) -> None:
    """Skip a constant expression (core specification §3.3.13).

    Raises:
        SnapshotError: It uses an instruction that is not supported.
    """
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


def replace_sections(
    wasm: bytes, new: Mapping[int, bytes | None], dropped_custom: Iterable[str] = ()
) -> bytes:
    """Replace, add or remove sections of a module.

    Args:
        wasm: The module.
        new: The contents by section number; None removes a section.
        dropped_custom: The names of custom sections to remove.
    """
    dropped = frozenset(dropped_custom)
    pieces: list[tuple[int, bytes]] = []
    for section in sections(wasm):
        if section.number in new:
            continue
        is_custom = section.number == CUSTOM
        if not (is_custom and Reader(wasm, section.start, section.end).name() in dropped):
            pieces.append((section.number, wasm[section.header : section.end]))
    for number, content in new.items():
        if content is not None:
            at = next(
                (
                    i
                    for i, (other, _) in enumerate(pieces)
                    if other and _ORDER.index(other) > _ORDER.index(number)
                ),
                len(pieces),
            )
            pieces.insert(at, (number, bytes([number]) + sized(content)))
    return wasm[:8] + b"".join(piece for _, piece in pieces)
