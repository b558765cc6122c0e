"""The builds of a route map: the commands that compile its modules, and what they depend on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from wagi.errors import Problem, WagiError
from wagi.routemap.entries import ModuleEntry, RouteMap
from wagi.routemap.reader import MODULE_SUFFIXES, find_route_map, read_route_map
from wagi.sources.files import resolve_path
from wagi.sources.references import FileReference, parse_reference
from wagi.sources.source_tree import SourceTree

_STDERR = 2
_CHUNK_SIZE = 64 * 1024  # bytes
_POLL_INTERVAL_S = 0.1  # how often the end of a process is checked
T = TypeVar("T")
_DEFAULT_SOURCES = ("src",)


@dataclass(frozen=True, slots=True)
class Build:
    """A command that builds modules.

    Attributes:
        command: For the shell.
        folder: The working directory of the command.
        sources: The files that the modules are built from.
        modules: The files that the command writes.
        entries: The entries of the route map that name the command.
    """

    command: str
    folder: Path
    sources: tuple[SourceTree, ...]
    modules: tuple[Path, ...]
    entries: tuple[ModuleEntry, ...]

    def source_files(self) -> Iterator[Path]:
        """All files of the sources that exist."""
        return (path for source in self.sources for path in source.files())


def builds_of(route_map: RouteMap) -> tuple[Build, ...]:
    """List the builds of a route map in the order of its entries.

    A command that several entries name is one build: it is run once for all their modules.
    """
    builds: dict[tuple[str, Path], Build] = {}
    for entry in route_map.modules:
        module = module_file(entry, route_map)
        if entry.build is None or module is None:
            continue
        key = entry.build, route_map.folder_of(entry)
        known = builds.get(key, Build(*key, (), (), ()))
        builds[key] = replace(
            known,
            sources=_unique(*known.sources, *_sources(entry, route_map)),
            modules=_unique(*known.modules, module),
            entries=(*known.entries, entry),
        )
    return tuple(builds.values())


def module_file(entry: ModuleEntry, route_map: RouteMap) -> Path | None:
    """The file of an entry's module, which may not exist yet; None for a remote module."""
    with contextlib.suppress(WagiError):  # an invalid reference is reported when it is loaded
        reference = parse_reference(entry.module)
        if isinstance(reference, FileReference):
            return resolve_path(reference.path, route_map.folder_of(entry)).absolute()
    return None


def run_build(build: Build, on_output: Callable[[bytes], None] | None = None) -> int:
    """Run the command of a build, with its output on stderr.

    The command is killed, with all of its children, if this process is interrupted.

    Args:
        build: The build.
        on_output: Called with each part of the output as well.

    Returns:
        Its exit status.
    """
    started = time.time_ns()
    # Compiler messages belong on the terminal, not in the access log.
    source, target = (-1, _STDERR) if on_output is None else _open_pipe()
    with _deferred_signals() as deferred:
        process = subprocess.Popen(
            build.command,
            shell=True,
            cwd=build.folder,
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            start_new_session=True,  # so that killpg reaches all of its children
        )
    try:
        for number in deferred:
            signal.raise_signal(number)
        if on_output is not None:
            os.close(target)
            _copy_output(source, process, on_output)
        status = process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        if on_output is not None:
            os.close(source)
    if not status:
        _mark_as_built(build, started)
    return status


@contextlib.contextmanager
def _deferred_signals() -> Iterator[list[int]]:
    """Collect signals whose handlers may raise, while the block runs.

    ``Popen`` starts the process before it returns; an exception in between would lose it.

    Yields:
        The numbers of the signals, which the caller raises again after the block.
    """
    deferred: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # others run no handlers
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                signal.signal(number, lambda number, _: deferred.append(number))
                handlers[number] = handler
    try:
        yield deferred
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _open_pipe() -> tuple[int, int]:
    """Open a pipe; if stderr is a terminal, a terminal, so that compilers use colors."""
    if not os.isatty(_STDERR):
        return os.pipe()
    source, target = os.openpty()
    with contextlib.suppress(OSError):
        fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(_STDERR, termios.TIOCGWINSZ, b"\0" * 8))
    return source, target


def _copy_output(
    source: int, process: subprocess.Popen[bytes], on_output: Callable[[bytes], None]
) -> None:
    """Copy the output of a process to stderr until it ends; its children may still run then."""
    has_ended = False
    while not has_ended:
        has_ended = process.poll() is not None
        while select.select([source], [], [], 0 if has_ended else _POLL_INTERVAL_S)[0]:
            try:
                data = os.read(source, _CHUNK_SIZE)
            except OSError:  # a terminal that is not open elsewhere
                data = b""
            if not data:
                return
            with contextlib.suppress(OSError):
                os.write(_STDERR, data)
            on_output(data)


def _mark_as_built(build: Build, started: int) -> None:
    """Date modules that the build left unchanged, so that they are not older than their sources.

    Compilers do not write a module again if a change of the sources does not affect it.
    """
    for module in build.modules:
        with contextlib.suppress(OSError):
            if module.stat().st_mtime_ns < started:
                os.utime(module, ns=(started, started))


def outdated_warnings(file: Path | None) -> list[Problem]:
    """Report modules that are older than the files that they are built from.

    Args:
        file: A route map, which has been loaded without an error. For a single module, its sources
            are those in the nearest modules.toml or spin.toml in its directory or above it, if
            that has an entry for it. None for a bindle, which has no sources.

    Returns:
        At most one warning.
    """
    if file is None:
        return []
    if file.suffix not in MODULE_SUFFIXES:
        route_map = read_route_map(file)
        return _outdated(route_map, route_map.modules)
    module = file.resolve()
    candidates = map(find_route_map, module.parents)
    path = next(filter(Path.is_file, candidates), None)
    if path is None:
        return []
    try:
        route_map = read_route_map(Path(os.path.relpath(path)))
    except WagiError:  # the user has not named this file
        return []
    entries = [
        entry
        for entry in route_map.modules
        if (path := module_file(entry, route_map)) and path.resolve() == module
    ]
    return _outdated(route_map, entries)


def _outdated(route_map: RouteMap, entries: Iterable[ModuleEntry]) -> list[Problem]:
    outdated: dict[Path, tuple[ModuleEntry, Path]] = {}
    for entry in entries:
        module = module_file(entry, route_map)
        if module is not None and (source := _newer_source(entry, module, route_map)):
            outdated.setdefault(module, (entry, source))
    if not outdated:
        return []
    module, (entry, source) = next(iter(outdated.items()))
    older, newer = (os.path.relpath(path, route_map.folder) for path in (module, source))
    what = f"{older} is older than {newer}"
    if len(outdated) > 1:
        what = f"{len(outdated)} modules are older than their sources: for example, {what}"
    fix = "run `wagi build`" if entry.build else "build it again"
    return [entry.location("module").problem(f"{what}: {fix}", exit_status=1)]


def _newer_source(entry: ModuleEntry, module: Path, route_map: RouteMap) -> Path | None:
    """Find a source that has changed since the module was built: the latest one."""
    with contextlib.suppress(OSError):
        built = module.stat().st_mtime_ns
        files = (path for source in _sources(entry, route_map) for path in source.files())
        times = {path: path.stat().st_mtime_ns for path in files if path != module}
        latest = max(times, key=lambda path: times[path], default=None)
        if latest is not None and times[latest] > built:
            return latest
    return None


def _sources(entry: ModuleEntry, route_map: RouteMap) -> tuple[SourceTree, ...]:
    default = _DEFAULT_SOURCES if entry.build else ()
    folder = route_map.folder_of(entry)
    return tuple(SourceTree.parse(text, folder) for text in entry.watch or default)


def _unique(*items: T) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
