"""Listings continue from call to call, and restart only if a guest goes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wagi.guest.errno import EILSEQ, GuestFault
from wagi.guest.wasi.abi import DIRENT, Filetype
from wagi.guest.wasi.listing import Listing

pytestmark = pytest.mark.fast

COUNT = 200


@pytest.fixture
def listing(tmp_path: Path) -> Iterator[Listing]:
    """The listing of a directory with files, a directory and a link."""
    for number in range(COUNT):
        (tmp_path / f"file{number:03}").write_text("")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    number = os.open(tmp_path, os.O_RDONLY)
    listing = Listing(number)
    yield listing
    listing.close()
    os.close(number)


def names(listing: Listing, cookie: int, count: int = 1000) -> list[str]:
    """The names of the next entries."""
    found = []
    for entry in listing.entries(cookie):
        if entry:
            found.append(entry[DIRENT.size :].decode())
        if len(found) == count:
            break
    return found


def test_all_entries_once(listing: Listing) -> None:
    found = names(listing, 0)
    assert found[:2] == [".", ".."]
    files = [f"file{number:03}" for number in range(COUNT)]
    assert sorted(found[2:]) == ["directory", *files, "link"]


def test_cookie_is_that_of_the_next_entry(listing: Listing) -> None:
    """This does not depend on earlier calls."""
    whole = names(listing, 0)
    for position in (0, 1, 2, 3, 50, 199, 150, 203, len(whole), 7):
        assert names(listing, position, 3) == whole[position : position + 3]
    assert names(listing, len(whole) + 5) == []
    assert names(listing, 2**64 - 1) == []


def test_types(listing: Listing) -> None:
    types = {}
    for entry in listing.entries(0):
        _, _, length, filetype = DIRENT.unpack_from(entry)
        assert length == len(entry) - DIRENT.size
        types[entry[DIRENT.size :]] = filetype
    assert types[b"."] == types[b"directory"] == Filetype.DIRECTORY
    assert types[b"link"] == Filetype.SYMBOLIC_LINK
    assert types[b"file007"] == Filetype.REGULAR_FILE


def test_new_listing_has_new_entries(tmp_path: Path, listing: Listing) -> None:
    names(listing, 0)
    (tmp_path / "new").write_text("")
    assert "new" in names(listing, 0)


def test_name_that_is_not_utf_8(tmp_path: Path, listing: Listing) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff")).write_text("")
    with pytest.raises(GuestFault) as fault:
        names(listing, 0)
    assert fault.value.errno == EILSEQ
