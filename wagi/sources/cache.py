"""The module cache: downloaded content by its digest, shared by any number of processes.

Content is verified against its digest whenever it is read; damaged content is fetched again.
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
from wagi.storage import atomic_file, remove_stale, user_cache, write_atomically


def default_folder() -> Path:
    """Return the default directory of the cache."""
    return user_cache("modules")


class ModuleCache:
    """A directory of content by digest (``sha256:…``), and of the digests that tags resolve to."""

    def __init__(self, folder: Path) -> None:
        """Open the cache, and create it if it does not exist.

        Raises:
            WagiError: The directory cannot be created.
        """
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
        """Return the content with this digest; None if it is missing or damaged."""
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
        """Store content.

        Returns:
            Its digest.

        Raises:
            WagiError: It cannot be written.
        """
        digest = digest_of(content)
        with self.writing(digest) as file:
            file.write(content)
        return digest

    @contextlib.contextmanager
    def writing(self, digest: str) -> Iterator[IO[bytes]]:
        """Open a file for the content with this digest.

        The file is stored if the block ends without an exception: the caller verifies the content
        before that.

        Raises:
            WagiError: It cannot be written.
        """
        path = self._path(digest)
        try:
            with atomic_file(path) as file:
                yield file
        except OSError as error:
            raise WagiError(f"{path.parent}: {error.strerror}") from None

    def find_tag(self, name: str) -> str | None:
        """Return the digest that a name last resolved to; None if it is unknown."""
        try:
            known = json.loads(self._tag(name).read_bytes())
            return str(known["digest"]) if known["name"] == name else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store_tag(self, name: str, digest: str) -> None:
        """Store the digest that a name resolves to.

        Raises:
            WagiError: It cannot be written.
        """
        try:
            write_atomically(self._tag(name), json.dumps({"name": name, "digest": digest}).encode())
        except OSError as error:
            raise WagiError(f"{self._tags}: {error.strerror}") from None

    def folder_of(self, files: dict[str, str]) -> Path:
        """Create a directory with files from this cache, for guests to read.

        Args:
            files: The digest of each file by its relative path, which has been checked.

        Raises:
            WagiError: It cannot be written, or content is missing.
        """
        folder = self._folders / digest_of(json.dumps(sorted(files.items())).encode())[7:]
        try:
            for name, digest in files.items():
                path = folder / name
                if path.is_file() and digest_of(path.read_bytes()) == digest:
                    continue
                content = self.find(digest)
                if content is None:
                    raise WagiError(f"{self._path(digest)}: removed or damaged while it was in use")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
        except OSError as error:
            raise WagiError(f"{folder}: {error.strerror}") from None
        return folder

    def _path(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")

    def _tag(self, name: str) -> Path:
        return self._tags / hashlib.sha256(name.encode()).hexdigest()


def digest_of(content: bytes) -> str:
    """Compute the digest in the notation of the OCI image specification (``sha256:…``)."""
    return "sha256:" + hashlib.sha256(content).hexdigest()
