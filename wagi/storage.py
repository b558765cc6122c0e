"""Folders of ours. Files that are kept from one start to the next are whole or not there."""

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
_STALE = 3600.0  # seconds after which nobody writes on at a partial file


def user_cache(name: str) -> Path:
    """A folder of ours in the user's cache directory (XDG Base Directory)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    return home / "wagi" / name


def new_folder(name: str) -> Path:
    """A new folder for what need not outlive the system.

    Raises: WagiError if there is no place for one.
    """
    try:
        return Path(tempfile.mkdtemp(prefix=f"wagi-{name}-"))
    except OSError as error:
        raise WagiError(
            f"no folder for temporary files can be written ({error.strerror}): mount one at /tmp,"
            " or name one in TMPDIR"
        ) from None


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A new folder that is gone after the block. Raises: WagiError if there is no place for one."""
    folder = new_folder(name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def whole_file(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Write a file that is there when the block has ended well, and not before.

    Any number of processes may write the same one. Parameters: ``mode`` its permissions.
    Raises: OSError.
    """
    descriptor, partial = tempfile.mkstemp(_PARTIAL, dir=path.parent)
    try:
        with open(descriptor, "w+b") as file:  # noqa: PTH123 - it is a descriptor
            yield file
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)  # after a crash the name must not lead to half of it
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """Write a file whole or not at all. Raises: OSError."""
    with whole_file(path, mode) as file:
        file.write(content)
    return path


def remove_stale(paths: Iterable[Path], now: float) -> None:
    """Remove the partial files that processes have left which did not live to finish them.

    Parameters: ``now`` in seconds of the clock that dates files.
    """
    for path in paths:
        with suppress(OSError):  # another process removes too
            if path.suffix == _PARTIAL and path.stat().st_mtime < now - _STALE:
                path.unlink()
