"""Encoding of parts of the WebAssembly binary format (core specification §5). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wagi.guest.binary import Reader, SectionNumber, leb, sections

_PREAMBLE = b"\0asm\x01\0\0\0"
_ORDER = (
    SectionNumber.TYPES,
    SectionNumber.IMPORTS,
    SectionNumber.FUNCTIONS,
    SectionNumber.TABLES,
    SectionNumber.MEMORIES,
    SectionNumber.TAGS,
    SectionNumber.GLOBALS,
    SectionNumber.EXPORTS,
    SectionNumber.START,
    SectionNumber.ELEMENTS,
    SectionNumber.DATA_COUNT,
    SectionNumber.CODE,
    SectionNumber.DATA,
)
"""The required order of sections (core specification §5.5.2)."""


def vector(items: list[bytes]) -> bytes:
    """Encode a vector of encoded items."""
    return leb(len(items)) + b"".join(items)


def encode_name(text: str) -> bytes:
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


def encode_module(contents: Mapping[SectionNumber, bytes]) -> bytes:
    """Encode a module.

    Args:
        contents: The contents of its sections.
    """
    pieces = [bytes([number]) + sized(contents[number]) for number in _ORDER if number in contents]
    return _PREAMBLE + b"".join(pieces)


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
        is_custom = section.number == SectionNumber.CUSTOM
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
