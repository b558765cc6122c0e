"""Spools of request bodies: order, limits, and overflow from memory to files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from wagi.http.spool import Spool, SpoolFull, SpoolSpace

pytestmark = pytest.mark.fast

_PIECE = bytes(range(256)) * 400  # 100 KiB


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The temporary files that were created."""
    made: list[Any] = []
    make: Callable[[], Any] = tempfile.TemporaryFile

    def record() -> Any:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", record)
    return made


def take_all(spool: Spool) -> bytes:
    taken = b""
    while spool.remaining:
        taken += spool.take()
    assert spool.take() == b""
    return taken


@pytest.mark.parametrize(
    ("count", "file_count"), [(0, 0), (1, 0), (10, 0), (11, 1), (50, 1)], ids=str
)
def test_bytes_are_read_back_in_order(files: list[Any], count: int, file_count: int) -> None:
    space = SpoolSpace(total=1 << 30)
    spool = Spool(space)
    pieces = [b"%06d" % number + _PIECE for number in range(count)]
    for piece in pieces:
        spool.write(piece)
    assert space.used == spool.size == spool.remaining == sum(map(len, pieces))
    assert take_all(spool) == b"".join(pieces)
    assert len(files) == file_count
    spool.close()
    assert space.used == 0
    assert all(file.closed for file in files)


def test_many_large_bodies_overflow_into_files(files: list[Any]) -> None:
    space = SpoolSpace(total=1 << 30)
    spools = [Spool(space) for _ in range(64)]
    for number, spool in enumerate(spools):
        for _ in range(10):
            spool.write(b"%06d" % number + _PIECE)
    assert 0 < len(files) < 40  # 62 MiB, of which 32 MiB stay in memory
    for number, spool in enumerate(spools):
        assert take_all(spool) == (b"%06d" % number + _PIECE) * 10
        spool.close()
    assert space.used == 0


def test_the_total_is_limited() -> None:
    space = SpoolSpace(total=250_000)
    first, second = Spool(space), Spool(space)
    first.write(_PIECE)
    second.write(_PIECE)
    with pytest.raises(SpoolFull, match="--spool-total is used up"):
        second.write(_PIECE)
    second.close()
    first.write(_PIECE)
    assert take_all(first) == _PIECE * 2


def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    space = SpoolSpace(total=1 << 30)
    spool = Spool(space)
    for _ in range(10):
        spool.write(_PIECE)
    with pytest.raises(SpoolFull, match="No space left on device"):
        spool.write(_PIECE)
    spool.close()
    assert space.used == 0
