"""Text files that people write."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path

from wagi.errors import ConfigurationError, Problem

_BYTE_ORDER_MARK = "\ufeff"
_MODULES = (".wasm", ".wat")


def decode_text(content: bytes) -> str:
    """Decode UTF-8, without the byte order mark that some editors write at the start.

    Raises:
        UnicodeDecodeError: It is not UTF-8.
    """
    return content.decode().removeprefix(_BYTE_ORDER_MARK)


def read_text(path: Path) -> str:
    """Read a configuration file. Raises: ConfigurationError if it cannot be read, or is no text."""
    try:
        return decode_text(path.read_bytes())
    except FileNotFoundError:
        hint = "expected a modules.toml or spin.toml; name it after the command or with -c"
        message = f"no such file: {path} ({hint}){suggest_file(path)}"
        raise ConfigurationError(Problem(message)) from None
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            Problem("expected UTF-8 text, found other bytes", path, line)
        ) from None


def format_toml(value: object) -> str:
    """Format a value for a TOML file: text, numbers, paths, and lists and tables of these."""
    if isinstance(value, dict):
        items = (f"{format_toml(key)} = {format_toml(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_toml, value))}]"
    # ensure_ascii would write surrogate pairs, which TOML does not have.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def suggest_file(path: Path) -> str:
    """Suggest a file with a similar name in the same directory, for a message.

    Args:
        path: A file that does not exist.

    Returns:
        The end of the message, or an empty string if no name is similar.
    """
    suffixes = _MODULES if path.suffix in _MODULES else (path.suffix,)
    try:
        names = [name.name for name in path.parent.iterdir() if name.suffix in suffixes]
    except (OSError, ValueError):  # the directory does not exist, or its name has a NUL byte
        return ""
    return suggest_name(path.name, names)


def suggest_name(name: str, names: Iterable[str]) -> str:
    """Suggest the most similar of some file names; extensions are not compared."""
    by_stem: dict[str, str] = {}
    for found in sorted(names):
        by_stem.setdefault(Path(found).stem, found)
    nearest = difflib.get_close_matches(Path(name).stem, by_stem, n=1)
    return f": did you mean {by_stem[nearest[0]]!r}?" if nearest else ""
