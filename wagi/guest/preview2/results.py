"""Results of host calls that are not one number, in the layout of the canonical ABI.

All of these write to an address ``out`` that the guest has passed. Strings and lists are written to
memory that the guest's allocator returns, so a call that waits must not use them afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from struct import Struct, pack

from wagi.guest.preview2.context import ComponentContext

OK = b"\0"
"""``ok`` of a ``result`` without a payload, or the first case of any variant."""
NONE = b"\0"
"""``none`` of an ``option``."""
_PAIR = Struct("<II")
_TRIPLE = Struct("<III")
_STRING = 8  # bytes: address, length
_EMPTY = 1  # the address of an empty list; any that is not 0
_OK, _SOME = 0, 1


def write_bytes(guest: ComponentContext, out: int, data: bytes) -> None:
    """Write a ``list<u8>`` or a ``string``.

    Args:
        guest: The guest.
        out: Address of the result: address and length, 4 bytes each.
        data: The bytes; UTF-8 for a string.
    """
    guest.memory.write(out, _PAIR.pack(copy_bytes(guest, data), len(data)))


def write_ok_bytes(guest: ComponentContext, out: int, data: bytes) -> None:
    """Write ``ok`` of a ``result`` whose payload is a ``list<u8>`` or a ``string``."""
    guest.memory.write(out, _TRIPLE.pack(_OK, copy_bytes(guest, data), len(data)))


def write_some_bytes(guest: ComponentContext, out: int, data: bytes | None) -> None:
    """Write an ``option`` of a ``list<u8>`` or a ``string``."""
    if data is None:
        guest.memory.write(out, NONE)
    else:
        guest.memory.write(out, _TRIPLE.pack(_SOME, copy_bytes(guest, data), len(data)))


def write_strings(
    guest: ComponentContext, out: int, strings: Sequence[bytes], fields: int = 1
) -> None:
    """Write a list of strings, or of tuples of strings: three calls into the guest.

    Args:
        guest: The guest.
        out: Address of the result: address and length, 4 bytes each.
        strings: The strings of all tuples, in order.
        fields: Number of strings in each tuple.
    """
    table = copy_strings(guest, strings)
    guest.memory.write(out, _PAIR.pack(table, len(strings) // fields))


def copy_bytes(guest: ComponentContext, data: bytes) -> int:
    """Copy bytes into memory that the guest allocates.

    Returns:
        Their address; not 0 if there are none.
    """
    if not data:
        return _EMPTY
    pointer = guest.allocate(len(data), 1)
    guest.memory.write(pointer, data)
    return pointer


def copy_strings(guest: ComponentContext, strings: Sequence[bytes]) -> int:
    """Copy strings into memory that the guest allocates.

    Returns:
        The address of a table with address and length of each string.
    """
    if not strings:
        return 4
    table = guest.allocate(len(strings) * _STRING, 4)
    block = copy_bytes(guest, b"".join(strings))
    lengths = [len(text) for text in strings]
    starts = accumulate(lengths, initial=block)
    entries = [number for pair in zip(starts, lengths, strict=False) for number in pair]
    guest.memory.write(table, pack(f"<{len(entries)}I", *entries))
    guest.store.allocator.place(table, len(strings), _STRING)
    return table
