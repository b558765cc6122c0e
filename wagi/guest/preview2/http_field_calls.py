"""The functions of ``fields`` of ``wasi:http/types``."""

from __future__ import annotations

from collections.abc import Iterable
from struct import iter_unpack, pack

from wagi.guest.capi.component_linker import define_call
from wagi.guest.capi.linker import Linker
from wagi.guest.errno import GuestTrap
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.handles import define_drop
from wagi.guest.preview2.http_fields import MAX_FIELDS, Fields, HeaderError, check_field
from wagi.guest.preview2.results import OK, write_strings

TYPES = "wasi:http/types"


def define(linker: Linker) -> None:
    """Add the functions to a linker."""
    define_drop(linker, TYPES, "fields", Fields)
    for name, parameters, results, call in (
        ("[constructor]fields", "", "I", construct),
        ("[static]fields.from-list", "III", "", from_list),
        ("[method]fields.get", "IIII", "", get),
        ("[method]fields.has", "III", "I", has),
        ("[method]fields.set", "IIIIII", "", set_values),
        ("[method]fields.delete", "IIII", "", delete),
        ("[method]fields.append", "IIIIII", "", append),
        ("[method]fields.entries", "II", "", entries),
        ("[method]fields.clone", "I", "I", clone),
    ):
        define_call(linker, TYPES, name, parameters, results, call)


def construct(guest: ComponentContext) -> int:
    """Make empty fields."""
    return guest.handles.add(Fields(account=guest.fields))


def from_list(guest: ComponentContext, pointer: int, count: int, out: int) -> None:
    """Make fields from a list of pairs of name and value."""
    items = []
    for name_at, name_length, value_at, value_length in _entries(guest, pointer, count, 16):
        raw_name = guest.memory.read(name_at, name_length)
        value = guest.memory.read(value_at, value_length)
        name, error = check_field(raw_name, (value,))
        if error is not None:
            guest.memory.write(out, pack("<II", 1, error))
            return
        items.append((name, value))
    handle = guest.handles.add(Fields(tuple(items), guest.fields))
    guest.memory.write(out, pack("<II", 0, handle))


def get(guest: ComponentContext, handle: int, pointer: int, length: int, out: int) -> None:
    """Write the values of a name."""
    name = guest.memory.read(pointer, length).lower()
    items = guest.handles.get(handle, Fields).items
    write_strings(guest, out, [value for key, value in items if key == name])


def has(guest: ComponentContext, handle: int, pointer: int, length: int) -> int:
    """Return whether there is a field of a name."""
    name = guest.memory.read(pointer, length).lower()
    return int(any(key == name for key, _ in guest.handles.get(handle, Fields).items))


def set_values(
    guest: ComponentContext,
    handle: int,
    name_at: int,
    name_length: int,
    pointer: int,
    count: int,
    out: int,
) -> None:
    """Replace the values of a name."""
    values = [guest.memory.read(*entry) for entry in _entries(guest, pointer, count, 8)]
    _change(guest, handle, (name_at, name_length), values, out, replaces=True)


def delete(guest: ComponentContext, handle: int, pointer: int, length: int, out: int) -> None:
    """Remove the fields of a name."""
    _change(guest, handle, (pointer, length), (), out, replaces=True)


def append(
    guest: ComponentContext,
    handle: int,
    name_at: int,
    name_length: int,
    pointer: int,
    length: int,
    out: int,
) -> None:
    """Add a field."""
    value = guest.memory.read(pointer, length)
    _change(guest, handle, (name_at, name_length), (value,), out, replaces=False)


def _change(
    guest: ComponentContext,
    handle: int,
    name_range: tuple[int, int],
    values: Iterable[bytes],
    out: int,
    replaces: bool,
) -> None:
    fields = guest.handles.get(handle, Fields)
    values = tuple(values)
    name, error = check_field(guest.memory.read(*name_range), values)
    if error is None and fields.is_immutable:
        error = HeaderError.IMMUTABLE
    if error is not None:
        guest.memory.write(out, bytes((1, error)))
        return
    kept = fields.items
    if replaces:
        kept = tuple(item for item in kept if item[0] != name)
    fields.replace((*kept, *((name, value) for value in values)))
    guest.memory.write(out, OK)


def entries(guest: ComponentContext, handle: int, out: int) -> None:
    """Write all names and values."""
    items = guest.handles.get(handle, Fields).items
    write_strings(guest, out, [text for item in items for text in item], fields=2)


def clone(guest: ComponentContext, handle: int) -> int:
    """Copy fields; the copy can be changed."""
    return guest.handles.add(Fields(guest.handles.get(handle, Fields).items, guest.fields))


def _entries(
    guest: ComponentContext, pointer: int, count: int, size: int
) -> Iterable[tuple[int, ...]]:
    """Read a table of addresses and lengths."""
    if count > MAX_FIELDS:
        raise GuestTrap(f"it passed more than {MAX_FIELDS} header fields")
    return iter_unpack(f"<{size // 4}I", guest.memory.read(pointer, size * count))
