"""The cache of compiled modules and images of their data.

An artefact is native code that runs with the rights of the server: anyone who can write one can
execute arbitrary code. So artefacts are only read from a directory that other users cannot write
to, and file names are hashes of everything that the code depends on. Files are written atomically;
any number of processes may share a directory.

In a directory that other users can write to, such as an emptyDir volume of Kubernetes (mode 0777),
a private subdirectory is used. Others could still rename it and put another one in its place, so it
is addressed by an open descriptor, never by its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from wagi.errors import WagiError
from wagi.guest.compatibility import installed_version
from wagi.guest.targets import Processor, Target
from wagi.storage import remove_stale, user_cache, write_atomically

SUFFIX = ".cwasm"


def default_folder() -> Path:
    """Return the default directory of the cache."""
    return user_cache("artefacts")


def artefact_key(wasm_digest: bytes, engine_name: str, target: Target, processor: Processor) -> str:
    """Compute the key of the code of a module.

    Args:
        wasm_digest: The sha256 of the module.
        engine_name: The engine, with all configuration that the code depends on.
        target: The processors to compile for.
        processor: The processor of this machine.

    Returns:
        The key, which is the same on all machines that can share the code.
    """
    # The full version: a patch release may fix the compiler.
    parts = (installed_version(), processor.code_name(target), engine_name)
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + wasm_digest).hexdigest()


class Artefacts:
    """A directory of artefacts with a size limit; the least recently used ones are evicted.

    Attributes:
        name: The directory, for messages. It differs from the given one if that is not private.
    """

    def __init__(self, folder: Path, size_limit: int, spare: Path | None = None) -> None:
        """Open the cache, and create it if it does not exist.

        Args:
            folder: The directory.
            size_limit: Maximum total size in bytes.
            spare: A second directory for artefacts that cannot be written to the first, for
                instance because it belongs to a read-only container image.

        Raises:
            WagiError: The directory cannot be created, or other users can write to it.
        """
        self.name = folder
        self._folder = folder
        self._spare = spare
        self._size_limit = size_limit
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.stat()
        except OSError as error:
            raise WagiError(f"{folder}: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise WagiError(f"{folder}: not a directory")
        if not _is_private(status):
            self.name, self._folder = _private_subfolder(folder)

    @property
    def is_writable(self) -> bool:
        """Whether artefacts can be added."""
        return os.access(self._folder, os.W_OK)

    def find(self, key: str) -> Path | None:
        """Return the file of an artefact, or None. It becomes the most recently used one."""
        for folder in filter(None, (self._folder, self._spare)):
            path = folder / (key + SUFFIX)
            if path.exists():
                with contextlib.suppress(OSError):  # the directory may be read-only
                    os.utime(path)  # marks it as used
                return path
        return None

    def add(self, key: str, code: bytes) -> Path:
        """Store an artefact.

        Raises:
            WagiError: It cannot be written.
        """
        try:
            path = write_atomically(self._folder / (key + SUFFIX), code)
        except OSError as error:
            if self._spare is None:
                raise WagiError(f"{self.name}: {error.strerror}") from None
            return write_atomically(self._spare / (key + SUFFIX), code)
        self._evict(path)
        return path

    def _evict(self, newest: Path) -> None:
        """Remove the least recently used artefacts. Open files stay readable."""
        remove_stale(self._folder.iterdir(), newest.stat().st_mtime)
        found: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):  # another process may remove it at the same time
                status = path.stat()
                if path.suffix == SUFFIX and path != newest:
                    found.append((status.st_mtime, status.st_size, path))
        room = self._size_limit - newest.stat().st_size
        for _, size, path in sorted(found, reverse=True):
            room -= size
            if room < 0:
                path.unlink(missing_ok=True)


def _is_private(status: os.stat_result) -> bool:
    """Whether only this user and root can write to a directory."""
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


def _private_subfolder(folder: Path) -> tuple[Path, Path]:
    """Create a private subdirectory of a directory that other users can write to, and open it.

    Returns:
        Its name, and a path that leads to it in this process and its children even if another
        directory gets the name. The descriptor stays open until the process ends.

    Raises:
        WagiError: There is no private subdirectory, and none can be created.
    """
    name = folder / f"wagi-{os.geteuid()}"
    try:
        name.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        reason = f"and {name} cannot be used ({error.strerror})"
    else:
        by_descriptor = Path(f"/proc/self/fd/{descriptor}")
        if _is_private(os.fstat(descriptor)) and by_descriptor.is_dir():
            return name, by_descriptor
        os.close(descriptor)
        reason = f"and to {name}"
    raise WagiError(
        f"{folder}: other users can write to this directory of compiled code, {reason}: restrict"
        " its owner and permissions (chmod 700)"
    )
