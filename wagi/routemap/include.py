"""Patterns of ``include``: which files they match."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Include:
    """A pattern of files.

    Attributes:
        folder: The directory of the file that has the pattern.
        pattern: A relative path, in which ``*``, ``?``, ``[…]`` and ``**`` match names.
    """

    folder: Path
    pattern: str

    @property
    def has_wildcard(self) -> bool:
        """Whether it may match any number of files, rather than name one."""
        return glob.has_magic(self.pattern)

    def files(self) -> list[Path]:
        """List the files that it matches, sorted by their paths."""
        return [path for path in self._match(self.pattern) if path.is_file()]

    def folders(self) -> set[Path]:
        """List the directories in which a new file or directory could match."""
        parts = Path(self.pattern).parts[:-1]
        patterns = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        found = {path for pattern in patterns for path in self._match(pattern)}
        return {path for path in found | {self.folder} if path.is_dir()}

    def _match(self, pattern: str) -> list[Path]:
        names = glob.glob(pattern, root_dir=self.folder, recursive=True)  # noqa: PTH207 - `**`
        return [self.folder / name for name in sorted(names)]
