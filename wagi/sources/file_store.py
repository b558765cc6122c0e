"""Copies of files for guests, which cannot change while they are served."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from wagi.errors import WagiError


class FileStore:
    """A temporary directory of copies, which is created when it is needed.

    Any process may add files after a fork; the process that made the store removes it.
    """

    def __init__(self) -> None:
        # Unpredictable, so that no other user can create it first.
        self._name = f"wagi-files-{secrets.token_hex(16)}"

    def copy(self, files: Mapping[str, Path]) -> Path:
        """Copy files to a directory. Equal files are in the same directory.

        Args:
            files: The files by their relative paths in the directory.

        Raises:
            WagiError: A file cannot be read, or its copy cannot be written.
        """
        try:
            root = self._folder()
            root.mkdir(mode=0o700, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=root))
            try:
                digests = {name: _copy(path, partial / name) for name, path in files.items()}
                text = json.dumps(sorted(digests.items()))
                target = root / hashlib.sha256(text.encode()).hexdigest()
                if not target.exists():
                    partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            what = f"cannot copy {error.filename}" if error.filename else "cannot copy files"
            raise WagiError(f"{what}: {error.strerror}") from None
        return target

    def remove(self) -> None:
        """Remove all copies."""
        try:
            folder = self._folder()
        except OSError:  # no temporary directory is writable
            return
        shutil.rmtree(folder, ignore_errors=True)

    def _folder(self) -> Path:
        return Path(tempfile.gettempdir(), self._name)


def _copy(path: Path, target: Path) -> str:
    """Copy a file with its time of modification. Returns: its digest."""
    target.parent.mkdir(parents=True, exist_ok=True)
    status = path.stat()
    shutil.copyfile(path, target)
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
