"""Files that something is made from: a file, a directory, or what matches a pattern."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from wagi.sources.globs import Glob, is_glob

_IGNORED_FOLDERS = frozenset(("__pycache__", "node_modules"))


@dataclass(frozen=True, slots=True)
class SourceTree:
    """A file, or files below a directory.

    Attributes:
        path: The file or directory.
        folder: The directory that the pattern is relative to.
        pattern: Which files below the directory; None for all.
    """

    path: Path
    folder: Path
    pattern: Glob | None = None

    @classmethod
    def parse(cls, text: str, folder: Path) -> SourceTree:
        """Parse a path or glob pattern, in which ``*`` matches slashes.

        Args:
            text: The path or pattern.
            folder: What it is relative to.

        Raises:
            ValueError: The pattern is invalid.
        """
        path = folder / text
        if not is_glob(text) or path.exists():
            return cls(path, folder)
        if text.startswith("/"):
            folder = Path("/")
        pattern = Glob.parse(posixpath.normpath(text).lstrip("/"), crosses_slash=True)
        return cls(folder / pattern.base, folder, pattern)

    def contains(self, path: Path) -> bool:
        """Return whether an absolute path is one of the files, or would be."""
        if self.pattern is None:
            return path.is_relative_to(self.path)
        return self.pattern.matches(Path(os.path.relpath(path, self.folder)).as_posix())

    def is_affected_by(self, path: Path) -> bool:
        """Return whether the change of a path may have changed one of the files.

        A new directory may already contain files whose creation was not reported.
        """
        if self.contains(path):
            return True
        return path.is_relative_to(self.path) and any(replace(self, path=path).files())

    def files(self) -> Iterator[Path]:
        """Yield the files, without hidden ones and installed packages."""
        if not self.path.is_dir():
            if self.path.is_file() and self.contains(self.path):
                yield self.path
            return
        for folder, folders, names in os.walk(self.path):
            folders[:] = [name for name in folders if not _is_ignored(name)]
            paths = (Path(folder, name) for name in names if not name.startswith("."))
            yield from (path for path in paths if self.contains(path) and path.is_file())


def _is_ignored(folder: str) -> bool:
    return folder.startswith(".") or folder in _IGNORED_FOLDERS
