"""From a module reference in modules.toml to the module's bytes (contract §4)."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from wagi.errors import WagiError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_NOT_YET = {"oci": "registries", "bindle": "bindles"}


class SourceError(WagiError):
    """A module reference leads nowhere; the message says what was expected."""


def read_module(reference: str, folder: Path) -> bytes:
    """Read the module that a reference names.

    Parameters: ``folder`` the one of modules.toml, where relative paths start; the working
    directory comes second, where the original started.
    Raises: SourceError.
    """
    path = _path_of(reference, folder)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SourceError(f"no such file: {_looked_at(reference, path)}") from None
    except OSError as error:
        raise SourceError(f"cannot be read: {path}: {error.strerror}") from None


def existing(path: str, folder: Path) -> Path:
    """A path relative to ``folder``, or to the working directory if only that exists."""
    first = folder / path
    return first if first.exists() or not Path(path).exists() else Path(path)


def _path_of(reference: str, folder: Path) -> Path:
    scheme = _SCHEME.match(reference)
    if not scheme:
        return existing(reference, folder)
    name = scheme[1].lower()
    if name in _NOT_YET:
        raise SourceError(
            f"modules from {_NOT_YET[name]} are not supported yet: save {reference!r} as a file"
            " and name its path"
        )
    path = unquote(reference[scheme.end() :])
    if name != "file":
        raise SourceError(
            f"unknown scheme {name!r} in {reference!r}: expected a path, file:, oci: or bindle:"
        )
    if path.startswith("//"):
        path = path.removeprefix("//").removeprefix("localhost")
    if not path.startswith("/"):
        raise SourceError(f"expected file:///absolute/path, found {reference!r}")
    return Path(path)


def _looked_at(reference: str, path: Path) -> str:
    if Path(reference).is_absolute() or _SCHEME.match(reference):
        return str(path)
    return f"{path} (relative to modules.toml and to the working directory)"
