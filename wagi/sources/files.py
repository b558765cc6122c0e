"""Read modules from files."""

from __future__ import annotations

from pathlib import Path

from wagi.config.text import suggest_file
from wagi.sources.errors import SourceError
from wagi.sources.references import FileReference


def read_file(reference: FileReference, folder: Path) -> tuple[Path, bytes]:
    """Read a module.

    Args:
        reference: The path.
        folder: The directory of modules.toml, which relative paths are resolved against. The
            working directory, which Wagi uses, is tried second.

    Returns:
        The resolved path, and the content.

    Raises:
        SourceError: The file does not exist or cannot be read.
    """
    path = Path(reference.path) if reference.is_url else resolve_path(reference.path, folder)
    if path.exists() and not path.is_file():  # reading a pipe or device may block forever
        raise SourceError(f"expected a file, found {_describe_type(path)}: {path}")
    try:
        return path, path.read_bytes()
    except FileNotFoundError:
        raise SourceError(
            f"no such file: {_describe_search(reference, path)}{suggest_file(path)}"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"cannot read {path}: {reason}") from None


def resolve_path(path: str, folder: Path) -> Path:
    """Resolve a path against ``folder``, or the working directory if it exists only there."""
    first = folder / path
    return first if first.exists() or not Path(path).exists() else Path(path)


def _describe_type(path: Path) -> str:
    return "a directory" if path.is_dir() else "a special file"


def _describe_search(reference: FileReference, path: Path) -> str:
    if Path(reference.path).is_absolute():
        return str(path)
    return f"{path} (relative to modules.toml and to the working directory)"
