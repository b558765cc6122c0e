"""Handles are typed, limited, and never used again."""

from __future__ import annotations

import pytest

from wagi.guest.errno import GuestTrap
from wagi.guest.preview2.handles import MAX_HANDLES, HandleTable

pytestmark = pytest.mark.fast


class _Base:
    closed = False

    def close(self) -> None:
        self.closed = True


class _Other(_Base):
    pass


def test_a_handle_has_a_kind() -> None:
    table = HandleTable()
    base, other = _Base(), _Other()
    assert (table.add(base), table.add(other)) == (1, 2)
    assert table.get(1, _Base) is base
    assert table.get(2, _Base) is other  # of a subclass
    for handle in (0, 1, 3, 1 << 32):
        with pytest.raises(GuestTrap, match=f"handle {handle}, which is not an? _Other"):
            table.get(handle, _Other)


def test_a_handle_is_never_used_again() -> None:
    table = HandleTable()
    first = table.add(_Base())
    table.take(first, _Base)
    assert table.add(_Base()) != first
    for use in (table.get, table.take):
        with pytest.raises(GuestTrap):
            use(first, _Base)


def test_the_number_of_handles_is_limited() -> None:
    table = HandleTable()
    handles = [table.add(_Base()) for _ in range(MAX_HANDLES)]
    with pytest.raises(GuestTrap, match="more than 4096 handles"):
        table.add(_Base())
    table.take(handles[0], _Base)
    table.add(_Base())


def test_resources_are_closed_with_the_table() -> None:
    table = HandleTable()
    held, taken = _Base(), _Base()
    table.add(held)
    table.add(object())
    table.take(table.add(taken), _Base)
    table.close()
    assert (held.closed, taken.closed) == (True, False)
