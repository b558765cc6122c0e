"""Why the last load and the last builds failed: files that all processes of a service read."""

from __future__ import annotations

import contextlib
from pathlib import Path

_LOAD, _BUILDS = "load.txt", "builds.txt"


class Problems:
    """The errors of the last load and of the last builds.

    The supervisor reports loads, the watcher builds: each has a file of its own.

    Args:
        folder: A directory for the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def report_load(self, problem: str) -> None:
        """Store the error of a load; an empty string clears it."""
        self._write(_LOAD, problem)

    def report_build(self, problem: str) -> None:
        """Store the errors of the builds that failed; an empty string clears them."""
        self._write(_BUILDS, problem)

    def read(self) -> str:
        """The errors, those of builds first: a load may fail because a build has failed.

        Returns:
            An empty string if everything succeeded.
        """
        return "\n".join(filter(None, map(self._read, (_BUILDS, _LOAD))))

    def _write(self, name: str, problem: str) -> None:
        path = self._folder / name
        with contextlib.suppress(OSError):
            if problem:
                partial = path.with_suffix(".partial")
                partial.write_text(problem.rstrip() + "\n", "utf-8", "backslashreplace")
                partial.replace(path)
            else:
                path.unlink(missing_ok=True)

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text("utf-8").rstrip()
        except OSError:
            return ""
