"""Files of a project that guests see: which ones, and under which paths.

A path or pattern selects files below the project's directory. Nothing outside of it is ever
selected, not even through a symbolic link.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wagi.sources.errors import SourceError
from wagi.sources.globs import Glob, is_glob


@dataclass(frozen=True, slots=True)
class FileMount:
    """A file, a directory or the matches of a glob pattern, and where guests see it.

    Attributes:
        source: A path or, without a destination, a path or pattern, relative to the directory of
            the project.
        destination: The path in the guest; None for the same path as in the project.
    """

    source: str
    destination: str | None = None

    @property
    def base(self) -> str:
        """The path of the file or directory that has all files; empty for the project."""
        base = self.source
        if self.destination is None and is_glob(base):
            base = Glob.parse(normalize(base)).base
        return normalize(base) if base else ""


@dataclass(frozen=True, slots=True)
class FileMounts:
    """The files that the guests of an entry see.

    Attributes:
        mounts: The files. Where two have the same path in the guest, the last one counts.
        exclude: Glob patterns of files, relative to the project, that guests do not see. ``*``
            matches slashes.
    """

    mounts: tuple[FileMount, ...] = ()
    exclude: tuple[str, ...] = ()


def normalize(path: str) -> str:
    """Normalize a relative path or pattern; an empty result is the directory it is relative to.

    Raises:
        ValueError: It is absolute, or leads out of the directory.
    """
    normalized = posixpath.normpath(path)
    if path.startswith("/") or normalized.split("/")[0] == "..":
        raise ValueError(f"expected a path inside the project's directory, found {path!r}")
    return "" if normalized == "." else normalized


def select_files(files: FileMounts, folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Select files.

    Args:
        files: What to select.
        folder: The directory of the project.

    Returns:
        The files by their paths in the guest, which are relative to its root, and the patterns
        that match no file.

    Raises:
        SourceError: A file does not exist, cannot be read, or is outside of the project.
    """
    try:
        selection = _Selection(files.exclude, folder)
        for mount in files.mounts:
            selection.add(mount)
    except OSError as error:
        raise SourceError(f"cannot read {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise SourceError(str(error)) from None
    _check_conflicts(selection.found)
    return selection.found, selection.unmatched


class _Selection:
    """Collects the files of mounts.

    Attributes:
        found: The files by their paths in the guest.
        unmatched: The sources that have no file.
    """

    def __init__(self, exclude: tuple[str, ...], folder: Path) -> None:
        self.found: dict[str, Path] = {}
        self.unmatched: list[str] = []
        self._root = folder.resolve()
        self._exclude = [Glob.parse(normalize(text), crosses_slash=True) for text in exclude]

    def add(self, mount: FileMount) -> None:
        source = normalize(mount.source)
        path = self._inside(source)
        if path is None and mount.destination is None and is_glob(source):
            pattern = Glob.parse(source)
            files = self._matches(pattern) if (self._root / pattern.base).is_dir() else iter(())
        elif path is None:
            raise SourceError(f"no such file or directory: {mount.source}")
        elif path.is_dir():
            files = self._walk(source, None)
        else:
            files = iter(((source, path),))
        selected = {name: path for name, path in files if not self._is_excluded(name)}
        if not selected:
            self.unmatched.append(mount.source)
        for name, path in selected.items():
            self.found[_guest_path(mount, source, name)] = path

    def _matches(self, pattern: Glob) -> Iterator[tuple[str, Path]]:
        for name, path in self._walk(pattern.base, pattern.depth):
            if pattern.matches(name):
                yield name, path

    def _walk(
        self, name: str, depth: int | None, parents: tuple[Path, ...] = ()
    ) -> Iterator[tuple[str, Path]]:
        """Yield the files below a directory with their paths in the project.

        Args:
            name: The directory's path in the project.
            depth: How many levels to descend; None for all.
            parents: The real paths of the directories above, to end cycles of symbolic links.
        """
        folder = self._inside(name)
        if folder is None or folder in parents:
            return
        for entry in sorted(folder.iterdir()):
            path = f"{name}/{entry.name}" if name else entry.name
            real = None if self._is_excluded(path) else self._inside(path)
            if real is None:
                continue
            if real.is_file():
                yield path, real
            elif real.is_dir() and depth != 1:
                deeper = None if depth is None else depth - 1
                yield from self._walk(path, deeper, (*parents, folder))

    def _inside(self, name: str) -> Path | None:
        """Resolve symbolic links. Returns: the real path; None if it does not exist.

        Raises:
            SourceError: The real path is outside of the project.
        """
        path = self._root / name
        try:
            real = path.resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except RuntimeError:  # a cycle of symbolic links, before Python 3.13
            raise SourceError(f"{name}: its symbolic link leads to itself") from None
        if not real.is_relative_to(self._root):
            raise SourceError(
                f"{name} leads out of the project's directory, to {real}: copy what it leads to"
                " into the project, or add it to exclude_files"
            )
        return real

    def _is_excluded(self, name: str) -> bool:
        return any(pattern.matches(name) for pattern in self._exclude)


def _guest_path(mount: FileMount, source: str, name: str) -> str:
    if mount.destination is None:
        return name
    below = name.removeprefix(source).lstrip("/") if name != source else ""
    path = posixpath.normpath(posixpath.join("/", mount.destination.lstrip("/"), below))
    if not below and (path == "/" or mount.destination.endswith("/")):
        raise SourceError(
            f"{mount.source} is a file, and {mount.destination!r} a directory: expected the path"
            f" of a file, such as {posixpath.join(path, posixpath.basename(source))!r}"
        )
    return path.lstrip("/")


def _check_conflicts(found: Mapping[str, Path]) -> None:
    for name in found:
        for parent in _parents(name):
            if parent in found:
                raise SourceError(
                    f"/{parent} in the guest is both a file ({found[parent]}) and a directory"
                    f" (of {found[name]})"
                )


def _parents(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name
