"""Extract the data of a module as a memory image, which guests share. Pure.

Instantiation copies active data segments to the memory (WebAssembly core specification §4.5.5).
Large data is mapped instead: the segments are removed from the module, and each guest starts with a
private, copy-on-write mapping of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wagi.guest.binary import (
    PAGE,
    MalformedModuleError,
    Reader,
    Section,
    SectionNumber,
    leb,
    sections,
)
from wagi.guest.demand import may_have_heap

_MEMORY = 2  # kind of an import
_I32_CONST, _END = 0x41, 0x0B
_ACTIVE, _PASSIVE, _ACTIVE_WITH_INDEX = 0, 1, 2
_EMPTY_SEGMENT = bytes([_PASSIVE, 0])
_MAX_SPAN = 2  # relative to the data: an image that consists mostly of gaps wastes memory


@dataclass(frozen=True, slots=True)
class DataImage:
    """The initial content of a part of a memory.

    Attributes:
        offset: Offset of the part in bytes; a multiple of the page size of WebAssembly, and so of
            that of every host.
        data: The content, in whole pages of WebAssembly.
        memory_size: The initial size of the whole memory, in bytes.
    """

    offset: int
    data: bytes
    memory_size: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """A data segment.

    Attributes:
        offset: Offset in the memory; None for a passive segment.
        start: Offset of the content in the module.
        end: Offset of the end of the content.
    """

    offset: int | None
    start: int
    end: int


class _UnusualError(Exception):
    """The module uses a feature that an image cannot represent."""


def extract_data(wasm: bytes, threshold: int) -> tuple[bytes, DataImage] | None:
    """Separate a module from the data of its memory.

    Active segments are replaced with empty passive ones, so that indices stay the same.
    ``memory.init`` and ``data.drop`` behave as before, because an active segment is dropped after
    it has been copied.

    Args:
        wasm: A module.
        threshold: Size of the data, in bytes, up to which copying is cheaper than mapping.

    Returns:
        The module without its data, and the data. None if the module has to stay as it is: it has
        too little data, or the offsets of its segments are not constant.
    """
    try:
        memory_size = _memory_size(wasm)
        section = _only(wasm, SectionNumber.DATA)
        if memory_size is None or section is None or may_have_heap(wasm):
            return None
        segments = list(_segments(Reader(wasm, section.start, section.end)))
        image = _image(wasm, segments, memory_size, threshold)
    except (_UnusualError, MalformedModuleError):
        return None
    return (_without_data(wasm, section, segments), image) if image else None


def _only(wasm: bytes, number: int) -> Section | None:
    found = [section for section in sections(wasm) if section.number == number]
    if len(found) > 1:
        raise _UnusualError
    return found[0] if found else None


def _memory_size(wasm: bytes) -> int | None:
    """Return the initial size of the only memory in bytes; None if there is no memory."""
    if _imports_memory(wasm):
        raise _UnusualError
    section = _only(wasm, SectionNumber.MEMORIES)
    if section is None:
        return None
    reader = Reader(wasm, section.start, section.end)
    if reader.count() != 1 or wasm[reader.at] > 1:  # flags: shared, 64-bit, other page sizes
        raise _UnusualError
    return reader.limits() * PAGE


def _imports_memory(wasm: bytes) -> bool:
    section = _only(wasm, SectionNumber.IMPORTS)
    if section is None:
        return False
    reader = Reader(wasm, section.start, section.end)
    for _ in range(reader.count()):
        reader.name(), reader.name()
        if wasm[reader.at] == _MEMORY:
            return True
        reader.skip_import_description()
    return False


def _segments(reader: Reader) -> Iterator[_Segment]:
    for _ in range(reader.count()):
        kind = reader.u32()
        if kind == _ACTIVE_WITH_INDEX:
            if reader.u32() != 0:
                raise _UnusualError
        elif kind not in (_ACTIVE, _PASSIVE):
            raise _UnusualError
        offset = None if kind == _PASSIVE else _constant(reader)
        size = reader.count()
        yield _Segment(offset, reader.at, reader.at + size)
        reader.at += size
    if reader.at != reader.end:
        raise _UnusualError


def _constant(reader: Reader) -> int:
    """Read an expression that consists of one ``i32.const``, and return its value."""
    if reader.byte() != _I32_CONST:
        raise _UnusualError
    value = shift = 0
    while True:
        byte = reader.byte()
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 28:  # five bytes at most
            raise _UnusualError
    if byte & 0x40:  # negative: an address beyond 2 GiB
        value -= 1 << shift
    if reader.byte() != _END:
        raise _UnusualError
    return value & 0xFFFF_FFFF


def _image(
    wasm: bytes, segments: list[_Segment], memory_size: int, threshold: int
) -> DataImage | None:
    active = [(each.offset, each) for each in segments if each.offset is not None]
    if any(offset + each.end - each.start > memory_size for offset, each in active):
        raise _UnusualError  # instantiation fails, and wasmtime reports the reason
    active = [(offset, each) for offset, each in active if each.end > each.start]
    total = sum(each.end - each.start for _, each in active)
    if total <= threshold or not active:
        return None
    low = min(offset for offset, _ in active)
    high = max(offset + each.end - each.start for offset, each in active)
    if high - low > _MAX_SPAN * total:
        return None
    low -= low % PAGE
    image = bytearray(-(-(high - low) // PAGE) * PAGE)
    for offset, each in active:  # later ones overwrite earlier ones
        image[offset - low : offset - low + each.end - each.start] = wasm[each.start : each.end]
    return DataImage(low, bytes(image), memory_size)


def _without_data(wasm: bytes, section: Section, segments: list[_Segment]) -> bytes:
    pieces = [leb(len(segments))]
    for each in segments:
        if each.offset is None:
            content = wasm[each.start : each.end]
            pieces += [bytes([_PASSIVE]), leb(len(content)), content]
        else:
            pieces.append(_EMPTY_SEGMENT)
    body = b"".join(pieces)
    header = bytes([SectionNumber.DATA]) + leb(len(body))
    return wasm[: section.header] + header + body + wasm[section.end :]
