"""Compiled modules and images of their data, kept from one start to the next.

An artefact is native code that is run as it is: what can write one can run anything as us. So they
are read only from a folder that nobody else can write, and a name is a hash of everything that the
code depends on. Files are written whole or not at all; any number of processes may share a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from importlib.metadata import version
from pathlib import Path

from wagi.errors import WagiError
from wagi.guest.targets import Processor, Target
from wagi.storage import remove_stale, user_cache, write_whole

SUFFIX = ".cwasm"


def default_folder() -> Path:
    """Where artefacts are kept unless the user says otherwise."""
    return user_cache("artefacts")


def artefact_key(wasm_digest: bytes, engine_name: str, target: Target, processor: Processor) -> str:
    """Name the code that a module becomes.

    Args:
        wasm_digest: The sha256 of the module.
        engine_name: The engine with all of its configuration that the code depends on.
        target: What the module is compiled for.
        processor: The processor of the machine that compiles, or looks for the code.

    Returns:
        The same name on every machine that can run the same code as well as any.
    """
    # The whole version: a release within a major version may correct the compiler.
    parts = (version("wasmtime"), processor.code_name(target), engine_name)
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + wasm_digest).hexdigest()


class Artefacts:
    """A folder of artefacts. What is used last stays when there are too many."""

    def __init__(self, folder: Path, size_limit: int, spare: Path | None = None) -> None:
        """Parameters: ``size_limit`` in bytes, for all of them together; ``spare`` a folder of our
        own for what cannot be written to the first, as in an image that is filled ahead of time.

        Raises: WagiError if the folder cannot be made, or if somebody else may write to it.
        """
        self._folder = folder
        self._spare = spare
        self._size_limit = size_limit
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.stat()
        except OSError as error:
            raise WagiError(f"{folder}: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise WagiError(f"{folder}: it is not a folder")
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise WagiError(
                f"{folder}: others may write to this folder, and compiled code is run as it is:"
                " make it yours alone (chmod 700)"
            )

    def find(self, key: str) -> Path | None:
        """The file of an artefact, if there is one."""
        for folder in filter(None, (self._folder, self._spare)):
            path = folder / (key + SUFFIX)
            if path.exists():
                with contextlib.suppress(OSError):  # a folder may be only read
                    os.utime(path)  # used now
                return path
        return None

    def add(self, key: str, code: bytes) -> Path:
        """Keep an artefact. Raises: WagiError if it cannot be written."""
        try:
            path = write_whole(self._folder / (key + SUFFIX), code)
        except OSError as error:
            if self._spare is None:
                raise WagiError(f"{self._folder}: {error.strerror}") from None
            return write_whole(self._spare / (key + SUFFIX), code)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        """Remove what has not been used for the longest time. Whoever has it open keeps it."""
        remove_stale(self._folder.iterdir(), newest.stat().st_mtime)
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):  # another process removes too
                status = path.stat()
                if path.suffix == SUFFIX and path != newest:
                    found.append((status.st_mtime, status.st_size, path))
        room = self._size_limit - newest.stat().st_size
        for _, size, path in sorted(found, reverse=True):
            room -= size
            if room < 0:
                path.unlink(missing_ok=True)
