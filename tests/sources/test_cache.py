"""The module cache: content by digest, tags, directories of files, damage."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from wagi.errors import WagiError
from wagi.sources.cache import ModuleCache, digest_of

pytestmark = pytest.mark.fast

CONTENT = b"\0asm\x01\0\0\0"
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path) -> ModuleCache:
    return ModuleCache(tmp_path / "cache")


def blob(folder: Path, digest: str = DIGEST) -> Path:
    return folder / "cache" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_content_is_found_by_its_digest(cache: ModuleCache, tmp_path: Path) -> None:
    assert cache.find(DIGEST) is None
    assert cache.add(CONTENT) == DIGEST == digest_of(CONTENT)
    assert cache.find(DIGEST) == CONTENT
    assert ModuleCache(tmp_path / "cache").find(DIGEST) == CONTENT


def test_empty_content(cache: ModuleCache) -> None:
    assert cache.find(cache.add(b"")) == b""


def test_directories_are_private(cache: ModuleCache, tmp_path: Path) -> None:
    cache.add(CONTENT)
    assert blob(tmp_path).stat().st_mode & 0o777 == 0o600
    assert blob(tmp_path).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT + b"\0", b"\1" + CONTENT[1:]])
def test_damaged_content_is_removed(cache: ModuleCache, tmp_path: Path, damaged: bytes) -> None:
    cache.add(CONTENT)
    blob(tmp_path).write_bytes(damaged)
    assert cache.find(DIGEST) is None
    assert not blob(tmp_path).exists()
    cache.add(CONTENT)
    assert cache.find(DIGEST) == CONTENT


def test_an_interrupted_write_leaves_nothing(cache: ModuleCache, tmp_path: Path) -> None:
    def write() -> None:
        with cache.writing(DIGEST) as file:
            file.write(CONTENT[:4])
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write()
    assert cache.find(DIGEST) is None
    assert list(blob(tmp_path).parent.iterdir()) == []


def test_only_stale_partial_files_are_removed(cache: ModuleCache, tmp_path: Path) -> None:
    cache.add(CONTENT)
    stale = blob(tmp_path).with_name("killed.partial")
    fresh = blob(tmp_path).with_name("running.partial")
    for path, age in ((stale, 7200), (fresh, 60), (blob(tmp_path), 7200)):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    ModuleCache(tmp_path / "cache")
    assert not stale.exists()
    assert fresh.exists()
    assert cache.find(DIGEST) == CONTENT


def test_a_tag_resolves_to_its_last_digest(cache: ModuleCache, tmp_path: Path) -> None:
    name = "oci://registry.example/hello:1.0"
    assert cache.find_tag(name) is None
    cache.store_tag(name, DIGEST)
    cache.store_tag(name, digest_of(b"newer"))
    assert ModuleCache(tmp_path / "cache").find_tag(name) == digest_of(b"newer")
    assert cache.find_tag("oci://registry.example/hello:1.1") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"name": "oci://a/b:c"}',
        b'{"digest": "sha256:0"}',
        b'{"name": "oci://another/b:c", "digest": "sha256:0"}',
    ],
)
def test_a_damaged_tag_is_unknown(cache: ModuleCache, tmp_path: Path, content: bytes) -> None:
    cache.store_tag("oci://a/b:c", DIGEST)
    (path,) = (tmp_path / "cache" / "tags").iterdir()
    path.write_bytes(content)
    assert cache.find_tag("oci://a/b:c") is None


def test_a_directory_of_files(cache: ModuleCache) -> None:
    files = {"index.html": cache.add(b"<p>"), "static/js/app.js": cache.add(b"1")}
    folder = cache.folder_of(files)
    assert (folder / "index.html").read_bytes() == b"<p>"
    assert (folder / "static/js/app.js").read_bytes() == b"1"
    assert cache.folder_of(dict(reversed(files.items()))) == folder
    assert cache.folder_of({"index.html": files["index.html"]}) != folder


def test_a_damaged_file_of_a_directory_is_restored(cache: ModuleCache) -> None:
    files = {"index.html": cache.add(b"<p>")}
    path = cache.folder_of(files) / "index.html"
    path.write_bytes(b"<script>")
    cache.folder_of(files)
    assert path.read_bytes() == b"<p>"


def test_a_directory_needs_its_content(cache: ModuleCache) -> None:
    with pytest.raises(WagiError, match="removed or damaged"):
        cache.folder_of({"index.html": digest_of(b"never added")})


def test_a_cache_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WagiError, match=r"/file/.*: Not a directory"):
        ModuleCache(tmp_path / "file")


def test_content_that_cannot_be_written(cache: ModuleCache, tmp_path: Path) -> None:
    blob(tmp_path).parent.rmdir()
    with pytest.raises(WagiError, match="blobs/sha256: No such file or directory"):
        cache.add(CONTENT)
