"""What an entry's snapshot is made of, and the key under which it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from wagi import __version__
from wagi.errors import WagiError
from wagi.guest.compatibility import installed_version
from wagi.guest.snapshot import preludes
from wagi.guest.snapshot.command import STACK_MAX
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.snapshot.program import Directory, Program
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.sources.files import resolve_path

_FORMAT = "1"
"""Changes with what a snapshot of the same content contains."""
_PYTHON_PREFIX = "PYTHON"
"""Variables that configure the interpreter; they are set while a snapshot is made."""
_WARM_UP_VARIABLES = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "WAGI/1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "REQUEST_METHOD": "GET",
    "REQUEST_SCHEME": "http",
    "SCRIPT_NAME": "",
    "CONTENT_LENGTH": "0",
    "CONTENT_TYPE": "",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_HOST": "127.0.0.1",
    "HTTP_HOST": "localhost",
}


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """A snapshot that an entry asks for.

    Attributes:
        program: What its module is run with.
        key: A digest of all that the snapshot depends on.
    """

    program: Program
    key: str


def snapshot_request(
    entry: ModuleEntry, route_map: RouteMap, content: bytes, hidden: Path
) -> SnapshotRequest:
    """Describe the snapshot of an entry.

    Args:
        entry: The entry, which has the key ``snapshot``.
        route_map: Its route map.
        content: Its module.
        hidden: An empty directory, which takes the place of volumes that are not named.

    Raises:
        SnapshotError: The entry cannot have a snapshot.
    """
    options = entry.snapshot
    assert options is not None
    if entry.files.mounts:
        raise SnapshotError("a component of Spin with files cannot have one")
    words = (entry.argv or "").split()
    is_python = preludes.prelude_of(words) == preludes.PYTHON
    if not is_python and (options.packages or options.request is not None):
        raise SnapshotError(
            "`packages` and `request` require an interpreter, that is an `argv` such as"
            ' "python /app/handler.py"'
        )
    named = _read_volumes(entry) if is_python else set()
    folder = route_map.folder_of(entry)
    directories = tuple(
        Directory(
            resolve_path(volume.path, folder).absolute() if guest_path in named else hidden,
            guest_path,
        )
        for guest_path, volume in entry.volumes.items()
    )
    memory_limit = entry.limits.memory_limit + STACK_MAX
    if is_python:
        program = preludes.python_program(
            words,
            tuple(
                (name, value)
                for name, value in sorted(entry.environment.items())
                if name.startswith(_PYTHON_PREFIX)
            ),
            directories,
            options.packages,
            None if options.request is None else _warm_up(options.request),
            memory_limit,
        )
    else:
        program = Program(
            directories=directories, checkpoint=options.checkpoint, memory_limit=memory_limit
        )
    return SnapshotRequest(program, _key(content, program, named))


def read_folders(entry: ModuleEntry, route_map: RouteMap) -> list[Path]:
    """List the directories of the host whose content the snapshot of an entry depends on.

    Args:
        entry: The entry.
        route_map: Its route map.

    Returns:
        Nothing if the entry has no snapshot, or cannot have one.
    """
    words = (entry.argv or "").split()
    if entry.snapshot is None or preludes.prelude_of(words) != preludes.PYTHON:
        return []
    try:
        named = _read_volumes(entry)
    except SnapshotError:
        return []
    folder = route_map.folder_of(entry)
    return [resolve_path(entry.volumes[name].path, folder).absolute() for name in sorted(named)]


def _read_volumes(entry: ModuleEntry) -> set[str]:
    """The volumes that the snapshot of a script reads, by their paths in the guest.

    Raises:
        SnapshotError: A path is in no volume.
    """
    assert entry.snapshot is not None
    paths = entry.environment.get("PYTHONPATH", "").split(":")
    script = preludes.script_of((entry.argv or "").split())
    places = [script, *entry.snapshot.packages, *filter(None, paths)]
    return {_volume_of(place, entry.volumes) for place in places}


def _volume_of(path: str, volumes: Mapping[str, object]) -> str:
    """The volume that has a path of the guest.

    Raises:
        SnapshotError: No volume has it.
    """
    found = [
        guest_path for guest_path in volumes if f"{path}/".startswith(f"{guest_path.rstrip('/')}/")
    ]
    if not found:
        raise SnapshotError(f"no volume of the entry contains {path}")
    return max(found, key=len)


def _warm_up(target: str) -> preludes.WarmUp:
    path, _, query = target.partition("?")
    variables = {
        "PATH_INFO": path,
        "PATH_TRANSLATED": path,
        "X_RAW_PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "X_FULL_URL": f"http://localhost{target}",
    }
    return preludes.WarmUp({**_WARM_UP_VARIABLES, **variables})


def _key(content: bytes, program: Program, named: set[str]) -> str:
    digest = hashlib.sha256()
    directories = [
        (directory.guest_path, _directory_digest(directory.host_path))
        if directory.guest_path in named
        else (directory.guest_path, "")
        for directory in program.directories
    ]
    parts = (
        _FORMAT,
        __version__,
        installed_version(),
        hashlib.sha256(content).hexdigest(),
        replace(program, directories=()),
        directories,
    )
    digest.update(repr(parts).encode())
    return f"snapshot-{digest.hexdigest()}"


def _directory_digest(folder: Path) -> str:
    """Hash the names and contents of all files in a directory.

    Raises:
        WagiError: One of them cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.parent.name != "__pycache__":
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(folder)}\0{content}\n".encode())
    except OSError as error:
        raise WagiError(f"{error.filename}: {error.strerror}") from None
    return digest.hexdigest()
