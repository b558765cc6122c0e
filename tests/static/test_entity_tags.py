"""Digests of files, and when they are cached."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

import pytest

from wagi.static import entity_tags
from wagi.static.entity_tags import EntityTags

pytestmark = pytest.mark.fast

LATER = 10 * 10**9  # nanoseconds, after which a file counts as settled


def later() -> int:
    return time.time_ns() + LATER


def test_a_digest_is_cached_once_the_file_has_settled(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()[:32]
    fresh, settled = EntityTags(), EntityTags(later)
    assert fresh.of_content(path.stat(), b"abc") == expected
    assert fresh.cached(path.stat()) is None  # another write may not change the timestamps
    assert settled.of_content(path.stat(), b"abc") == expected
    assert settled.cached(path.stat()) == expected


def test_a_changed_file_of_equal_size_and_time_is_another_version(tmp_path: Path) -> None:
    path, tags = tmp_path / "file", EntityTags(later)
    path.write_bytes(b"abc")
    os.utime(path, (1, 1))
    tags.of_content(path.stat(), b"abc")
    other = tmp_path / "other"
    other.write_bytes(b"abd")
    os.utime(other, (1, 1))
    assert tags.cached(other.stat()) is None
    other.replace(path)
    assert tags.cached(path.stat()) is None


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entity_tags, "_CACHE_SIZE", 2)
    tags = EntityTags(later)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    for path in paths[:2]:
        tags.of_content(path.stat(), path.read_bytes())
    assert tags.cached(paths[0].stat()) is not None  # now the least recently used one is b
    tags.of_content(paths[2].stat(), b"c")
    assert [tags.cached(path.stat()) is not None for path in paths] == [True, False, True]


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    path, content = tmp_path / "file", os.urandom(3 * 1024**2 + 5)
    path.write_bytes(content)

    async def calculate() -> tuple[list[str | None], str | None]:
        tags = EntityTags(later)
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            assert await tags.of_file(status, file.fileno(), waits=False) is None
            both = await asyncio.gather(
                *(tags.of_file(status, file.fileno(), waits=True) for _ in range(2))
            )
        return list(both), tags.cached(status)

    both, cached = asyncio.run(calculate())
    assert [*both, cached] == [hashlib.sha256(content).hexdigest()[:32]] * 3


def test_a_file_that_changes_while_it_is_read_has_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)

    async def calculate() -> str | None:
        tags = EntityTags(later)
        with path.open("r+b") as file:
            status = os.fstat(file.fileno())
            file.write(b"yy")
            file.truncate(999)
            digest = await tags.of_file(status, file.fileno(), waits=True)
            assert tags.cached(status) is None
            return digest

    assert asyncio.run(calculate()) is None


def test_closing_cancels_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10**7)

    async def close() -> int:
        tags = EntityTags()
        with path.open("rb") as file:
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
            await tags.of_file(os.fstat(file.fileno()), file.fileno(), waits=False)
            await tags.close()
            await asyncio.sleep(0)
            return len(os.listdir("/proc/self/fd")) - before  # noqa: PTH208

    assert asyncio.run(close()) == 0
