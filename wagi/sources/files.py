"""Modules in files."""

from __future__ import annotations

from pathlib import Path

from wagi.sources.ends import SourceError
from wagi.sources.references import FileReference


def read_file(reference: FileReference, folder: Path) -> tuple[Path, bytes]:
    """Read a module.

    Parameters: ``folder`` the one of modules.toml, where relative paths start; the working
    directory comes second, where the original started.
    Returns: where it was, and the module. Raises: SourceError.
    """
    path = Path(reference.path) if reference.is_url else existing(reference.path, folder)
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise SourceError(f"expected a file, found {_kind(path)}: {path}")
    try:
        return path, path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"no such file: {_looked_at(reference, path)}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"cannot be read: {path}: {reason}") from None


def existing(path: str, folder: Path) -> Path:
    """A path relative to ``folder``, or to the working directory if only that exists."""
    first = folder / path
    return first if first.exists() or not Path(path).exists() else Path(path)


def _kind(path: Path) -> str:
    return "a folder" if path.is_dir() else "something else"


def _looked_at(reference: FileReference, path: Path) -> str:
    if Path(reference.path).is_absolute():
        return str(path)
    return f"{path} (relative to modules.toml and to the working directory)"
