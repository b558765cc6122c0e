"""The module cache: what was downloaded, by its digest, shared by any number of processes.

Nothing in it is believed: content is checked against its digest whenever it is read, and what does
not match is fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from wagi.errors import WagiError
from wagi.storage import remove_stale, user_cache, whole_file, write_whole


def default_folder() -> Path:
    """Where modules are kept unless the user says otherwise."""
    return user_cache("modules")


class ModuleCache:
    """A folder of contents by their digest (``sha256:…``), and of the digests that tags had."""

    def __init__(self, folder: Path) -> None:
        """Make it if need be. Raises: WagiError if that cannot be."""
        self._blobs = folder / "blobs" / "sha256"
        self._tags = folder / "tags"
        self._folders = folder / "folders"
        try:
            for path in (self._blobs, self._tags, self._folders):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            remove_stale([*self._blobs.iterdir(), *self._tags.iterdir()], time.time())
        except OSError as error:
            raise WagiError(f"{error.filename or folder}: {error.strerror}") from None

    def find(self, digest: str) -> bytes | None:
        """The content of this digest; None if it is not here, or damaged."""
        try:
            content = self._path(digest).read_bytes()
        except OSError:
            return None
        if digest_of(content) == digest:
            return content
        with contextlib.suppress(OSError):
            self._path(digest).unlink()
        return None

    def add(self, content: bytes) -> str:
        """Keep a content. Returns: its digest. Raises: WagiError if it cannot be written."""
        digest = digest_of(content)
        with self.writing(digest) as file:
            file.write(content)
        return digest

    @contextlib.contextmanager
    def writing(self, digest: str) -> Iterator[IO[bytes]]:
        """Write a content of this digest, which the caller verifies before the block ends well.

        Raises: WagiError if it cannot be written.
        """
        path = self._path(digest)
        try:
            with whole_file(path) as file:
                yield file
        except OSError as error:
            raise WagiError(f"{path.parent}: {error.strerror}") from None

    def digest_of_tag(self, name: str) -> str | None:
        """The digest that a name had when it was last resolved."""
        try:
            known = json.loads(self._tag(name).read_bytes())
            return str(known["digest"]) if known["name"] == name else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember_tag(self, name: str, digest: str) -> None:
        """Keep what a name was resolved to. Raises: WagiError if it cannot be written."""
        try:
            write_whole(self._tag(name), json.dumps({"name": name, "digest": digest}).encode())
        except OSError as error:
            raise WagiError(f"{self._tags}: {error.strerror}") from None

    def folder_of(self, files: dict[str, str]) -> Path:
        """A folder with files of this cache, for guests to read.

        Parameters: ``files`` the digest of each by its checked relative path.
        Raises: WagiError if it cannot be written, or if a content is not here.
        """
        folder = self._folders / digest_of(json.dumps(sorted(files.items())).encode())[7:]
        try:
            for name, digest in files.items():
                path = folder / name
                if path.is_file() and digest_of(path.read_bytes()) == digest:
                    continue
                content = self.find(digest)
                if content is None:
                    raise WagiError(f"{self._path(digest)}: it has just been removed or damaged")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, content)
        except OSError as error:
            raise WagiError(f"{folder}: {error.strerror}") from None
        return folder

    def _path(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")

    def _tag(self, name: str) -> Path:
        return self._tags / hashlib.sha256(name.encode()).hexdigest()


def digest_of(content: bytes) -> str:
    """The digest as the OCI image specification writes it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
