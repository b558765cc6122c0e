"""Text files that people write."""

from __future__ import annotations

from pathlib import Path

from wagi.errors import ConfigurationError, Problem


def read_text(path: Path) -> str:
    """Read a configuration file. Raises: ConfigurationError if it cannot be read, or is no text."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        hint = "expected a modules.toml; name it after the command or with -c"
        raise ConfigurationError(Problem(f"no such file: {path} ({hint})")) from None
    except OSError as error:
        raise ConfigurationError(Problem(f"cannot be read: {error.strerror}", path)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            Problem("expected UTF-8 text, found other bytes", path, line)
        ) from None
