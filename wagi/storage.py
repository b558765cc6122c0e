"""Cache and temporary directories, and atomic writes of files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from wagi.errors import WagiError

_PARTIAL = ".partial"
_STALE_AGE_S = 3600.0  # seconds after which a partial file is considered abandoned


def user_cache(name: str) -> Path:
    """Return the path of a directory in the user's cache directory (XDG Base Directory).

    Raises:
        WagiError: The user has no home directory, as in a container whose user has no name.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "wagi" / name
    try:
        return Path("~/.cache").expanduser() / "wagi" / name
    except RuntimeError:
        message = "the user has no home directory: set HOME or XDG_CACHE_HOME"
        raise WagiError(message) from None


def new_folder(name: str) -> Path:
    """Create a temporary directory, which the caller removes.

    Raises:
        WagiError: No temporary directory is writable.
    """
    try:
        return Path(tempfile.mkdtemp(prefix=f"wagi-{name}-"))
    except OSError as error:
        raise WagiError(
            f"no writable temporary directory ({error.strerror}): mount one at /tmp, or set TMPDIR"
        ) from None


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Create a temporary directory, and remove it after the block.

    Raises:
        WagiError: No temporary directory is writable.
    """
    folder = new_folder(name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_file(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Write a file atomically: it appears when the block ends without an exception.

    Any number of processes may write the same file.

    Args:
        path: The file.
        mode: Its permissions.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, partial = tempfile.mkstemp(_PARTIAL, dir=path.parent)
    try:
        with open(descriptor, "w+b") as file:  # noqa: PTH123 - a file descriptor
            yield file
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)  # so that a crash cannot leave a partial file under this name
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """Write a file atomically.

    Raises:
        OSError: It cannot be written.
    """
    with atomic_file(path, mode) as file:
        file.write(content)
    return path


def remove_stale(paths: Iterable[Path], now: float) -> None:
    """Remove partial files of processes that were killed.

    Args:
        paths: The files of a directory.
        now: The current time in seconds, of the clock of file modification times.
    """
    for path in paths:
        with suppress(OSError):  # another process may remove it at the same time
            if path.suffix == _PARTIAL and path.stat().st_mtime < now - _STALE_AGE_S:
                path.unlink()
