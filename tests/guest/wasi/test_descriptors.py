"""The descriptor table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wagi.guest.errno import EBADF, EMFILE, GuestFault
from wagi.guest.handler import Preopen
from wagi.guest.outcome import EngineError
from wagi.guest.wasi.abi import Fdflags, Rights
from wagi.guest.wasi.descriptors import MAX_OPEN, DescriptorTable, Directory, File, Stream

pytestmark = pytest.mark.fast


def opened() -> File:
    number = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    return File(number, Fdflags(0), Rights.FD_READ, readonly=False)


def is_open(file: File) -> bool:
    try:
        os.fstat(file.number)
    except OSError:
        return False
    return True


def test_initial_descriptors(tmp_path: Path) -> None:
    table = DescriptorTable([Preopen(str(tmp_path), "/a"), Preopen(str(tmp_path), "/b", True)])
    assert [table.get(fd) for fd in range(3)] == [Stream.STDIN, Stream.STDOUT, Stream.STDERR]
    directories = [table.get_as(Directory, fd) for fd in (3, 4)]
    assert [(d.preopen, d.readonly) for d in directories] == [(b"/a", False), (b"/b", True)]
    table.close()


def test_missing_volume(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"gone cannot be opened: No such file or directory"):
        DescriptorTable([Preopen(str(tmp_path), "/"), Preopen(str(tmp_path / "gone"), "/b")])


def test_descriptors_are_reused() -> None:
    """The highest closed descriptor is reused first, as in wasmtime."""
    table = DescriptorTable(())
    assert [table.add(opened()) for _ in range(3)] == [3, 4, 5]
    for fd in (1, 4):
        table.remove(fd)
    assert [table.add(opened()) for _ in range(3)] == [4, 1, 6]
    table.close()


def test_renumber_closes_the_target() -> None:
    table = DescriptorTable(())
    first, second = opened(), opened()
    assert (table.add(first), table.add(second)) == (3, 4)
    table.renumber(3, 1)
    table.renumber(4, 4)
    assert table.get(1) is first
    table.renumber(4, 1)
    assert (is_open(first), is_open(second)) == (False, True)
    table.renumber(2, 0)
    assert table.get(0) is Stream.STDERR
    for fd in (2, 3, 4, 2**32 - 1):
        for use in (table.get, table.remove, lambda fd: table.renumber(fd, 0)):
            with pytest.raises(GuestFault) as fault:
                use(fd)
            assert fault.value.errno == EBADF
    table.close()
    assert not is_open(second)


def test_the_number_of_open_files_is_limited() -> None:
    table = DescriptorTable(())
    for _ in range(MAX_OPEN):
        table.check_room()
        table.add(opened())
    with pytest.raises(GuestFault) as fault:
        table.check_room()
    assert fault.value.errno == EMFILE
    table.renumber(4, 3)
    table.check_room()
    table.close()
