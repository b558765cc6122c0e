"""``--watch``: reload when a file changes, after building the modules that depend on it.

A separate process watches the files, runs the builds, and sends SIGHUP to the supervisor.
``--reload-on-change`` is the same without builds.

A file has changed if its path leads to other content. Paths may contain symbolic links: Kubernetes
updates a ConfigMap by renaming the link ``..data``, and deployments do the same with ``current``.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from wagi.builds.build import Build, builds_of, module_file
from wagi.builds.runner import run_build
from wagi.config.settings import Settings
from wagi.dev.file_versions import folders_of, inode_of, version_of
from wagi.dev.terminal import plain_text
from wagi.errors import WagiError
from wagi.observe.server_log import server_log
from wagi.routemap.entries import RouteMap
from wagi.routemap.include import Include
from wagi.routemap.reader import read_route_map
from wagi.server.signals import HANDLED, reset_signals
from wagi.snapshots.request import read_folders
from wagi.sources.source_tree import SourceTree

_QUIET_MS = 50  # changes are reported after this time without another one
_DEBOUNCE_MAX_MS = 200  # the longest time that changes are held back
_POLL_INTERVAL_MS = 500  # how often the parent is checked
_CHECK_INTERVAL_S = 5.0  # how often files are compared, for changes that were not reported
_OUTPUT_MAX = 16 * 1024  # bytes that are kept of the output of a build: its end
_fork = multiprocessing.get_context("fork")
_log = logging.getLogger("wagi")

OnError = Callable[[str], None]
"""Called with the errors of all builds that failed; an empty string if none did."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched.

    Attributes:
        files: A change of one of these causes a reload.
        builds: A change of their sources causes a build, then a reload.
        includes: A new file that one of these patterns matches causes a reload.
        assets: A change of one of these files, which guests or snapshots contain, causes a reload.
    """

    files: frozenset[Path]
    builds: tuple[Build, ...] = ()
    includes: tuple[Include, ...] = ()
    assets: tuple[SourceTree, ...] = ()

    @property
    def folders(self) -> set[Path]:
        """The folders where a change can change a file, or add one that a pattern matches.

        Editors and compilers replace files instead of writing them.
        """
        folders = {folder for path in self.files for folder in folders_of(path)}
        return folders.union(*(include.folders() for include in self.includes))

    @property
    def paths(self) -> set[Path]:
        """The files, and those that the patterns match now."""
        matching = {path.absolute() for include in self.includes for path in include.files()}
        return matching | self.files

    @property
    def trees(self) -> set[Path]:
        """The sources of the builds and the assets, which are watched recursively."""
        sources = (source for build in self.builds for source in build.sources)
        return {tree.path for tree in (*sources, *self.assets) if tree.path.exists()}

    def causes_reload(self, changed: set[Path]) -> bool:
        """Return whether changed files are used without a build."""
        return bool(changed & self.files) or any(
            tree.is_affected_by(path) for tree in self.assets for path in changed
        )


@contextlib.contextmanager
def watching(
    settings: Settings, file: Path | None, on_error: OnError | None = None
) -> Iterator[None]:
    """Watch the files of a route map while the block runs; a change sends SIGHUP to this process.

    Modules that do not exist yet and have a ``build`` command are built first. Signals are blocked
    until the supervisor handles them: an earlier SIGHUP would end the process.

    Args:
        settings: The settings of the server.
        file: The route map; None for a bindle, of which only env files and certificates are
            watched.
        on_error: Called with the errors of builds; None to build nothing.
    """
    builder = _Builder(on_error) if on_error is not None else None
    if builder is not None and file is not None:
        before = signal.signal(signal.SIGTERM, _exit_on_signal)
        try:
            _build_missing(settings, file, builder)
        finally:
            signal.signal(signal.SIGTERM, before)
    # Made before anything is loaded: it knows the files as they were then.
    watcher = _Watcher(settings, file, os.getpid(), builder)
    process = _fork.Process(target=watcher.run, name="wagi watcher", daemon=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def what_to_watch(settings: Settings, file: Path | None, route_map: RouteMap | None) -> Watched:
    """Collect the files and builds of a route map.

    Args:
        settings: The settings, with env files and the TLS certificate.
        file: The file of the route map; None for a bindle.
        route_map: None if the file is invalid: then it is watched without its modules.
    """
    named = (file, *settings.env_file, settings.tls_cert, settings.tls_key)
    files = {path.absolute() for path in named if path is not None}
    if route_map is None:
        return Watched(frozenset(files))
    files.update(path.absolute() for path in route_map.files)
    modules = (module_file(entry, route_map) for entry in route_map.modules)
    files.update(module for module in modules if module is not None)
    assets = _assets_of(route_map)
    return Watched(frozenset(files), builds_of(route_map), route_map.includes, assets)


def _assets_of(route_map: RouteMap) -> tuple[SourceTree, ...]:
    folder = route_map.folder
    scripts = (
        SourceTree(path, path)
        for entry in route_map.modules
        for path in read_folders(entry, route_map)
    )
    mounts = (mount for entry in route_map.modules for mount in entry.files.mounts)
    files = (
        SourceTree.parse(mount.source, folder)
        if mount.destination is None
        else SourceTree(folder / mount.source, folder)
        for mount in mounts
    )
    return (*files, *scripts)


def _build_missing(settings: Settings, file: Path, builder: _Builder) -> None:
    with contextlib.suppress(WagiError):  # the supervisor reports it
        watched = what_to_watch(settings, file, read_route_map(file))
        builder.run_missing(watched.builds)


class _Builder:
    """Runs builds, with their output on stderr, and remembers which of them failed.

    Args:
        on_error: Called with the errors of all builds that failed.
    """

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        self._errors: dict[tuple[str, Path], str] = {}  # by command and folder

    def run(self, builds: list[Build]) -> bool:
        """Run builds.

        Returns:
            Whether any of them succeeded.
        """
        succeeded = [build for build in builds if self._run(build)]
        return bool(succeeded)

    def run_missing(self, builds: tuple[Build, ...]) -> None:
        """Run builds whose modules do not exist, unless the same command has failed already."""
        for build in builds:
            has_modules = all(path.exists() for path in build.modules)
            if not has_modules and (build.command, build.folder) not in self._errors:
                self._run(build)

    def forget_others(self, builds: tuple[Build, ...]) -> None:
        """Forget the errors of builds that are not in the route map any more."""
        keys = {(build.command, build.folder) for build in builds}
        self._errors = {key: error for key, error in self._errors.items() if key in keys}
        self._report()

    def _run(self, build: Build) -> bool:
        output = bytearray()

        def keep(data: bytes) -> None:
            output.extend(data)
            del output[:-_OUTPUT_MAX]

        print(f"building: {build.command}", file=sys.stderr, flush=True)
        status = run_build(build, keep)
        key = build.command, build.folder
        self._errors.pop(key, None)
        if status:
            error = f"the build failed with status {status}: {build.command}"
            _log.error("%s", error)
            self._errors[key] = f"{error}\n{plain_text(bytes(output))}".rstrip()
        self._report()
        return not status

    def _report(self) -> None:
        self._on_error("\n".join(self._errors.values()))


def _exit_on_signal(number: int, _: object) -> None:
    """A signal handler: exit by an exception, so that a running build is killed."""
    sys.exit(128 + number)


class _Watcher:
    """The watching process. It runs until its parent is gone.

    Args:
        settings: The settings of the server.
        file: The route map.
        parent: The process ID of the supervisor, which gets SIGHUP after a change.
        builder: Runs the builds; None to build nothing.
    """

    def __init__(
        self, settings: Settings, file: Path | None, parent: int, builder: _Builder | None
    ) -> None:
        self._settings = settings
        self._builder = builder
        self._file = file
        self._parent = parent
        self._changes: queue.Queue[set[Path]] = queue.Queue()
        self._watched = what_to_watch(settings, file, None)
        self._read_watched()
        self._versions = self._current_versions()
        self._folders: set[Path] = set()  # that are being watched
        self._stop = threading.Event()  # ends the current watching threads
        self._watching: set[tuple[Path, int | None]] = set()  # folders and trees with their inodes

    def run(self) -> None:
        """Watch, build, and send SIGHUP to the parent."""
        reset_signals(on_terminate=_exit_on_signal)
        with server_log(self._settings.log_format):
            logging.getLogger("watchfiles").setLevel(logging.WARNING)
            self._start_watching()
            checked_at = time.monotonic()
            while os.getppid() == self._parent:
                try:
                    changed = self._changes.get(timeout=_POLL_INTERVAL_MS / 1000)
                except queue.Empty:
                    if time.monotonic() - checked_at < _CHECK_INTERVAL_S:
                        continue
                    changed = set()
                checked_at = time.monotonic()
                self._changed(changed)

    def _start_watching(self) -> None:
        """Start new watching threads and end the old ones, if there are other folders to watch.

        A file that changes before the new threads really watch is found by ``_modified``.
        """
        paths = self._watched.folders | self._watched.trees
        watching = {(path, inode_of(path)) for path in paths}
        if watching == self._watching:  # a change of a source meanwhile would not be noticed
            return
        self._watching = watching
        before, self._stop = self._stop, threading.Event()
        self._folders = self._watched.folders
        for paths, recursive in ((self._folders, False), (self._watched.trees, True)):
            if paths:
                arguments = (paths, recursive, self._stop)
                threading.Thread(target=self._watch, args=arguments, daemon=True).start()
        before.set()

    def _read_watched(self) -> None:
        if self._file is None:
            return
        with contextlib.suppress(WagiError):  # the supervisor reports it
            route_map = read_route_map(self._file)
            watched = what_to_watch(self._settings, self._file, route_map)
            self._watched = watched if self._builder else replace(watched, builds=())
            if self._builder is not None:
                self._builder.forget_others(watched.builds)

    def _watch(self, paths: set[Path], recursive: bool, stop: threading.Event) -> None:
        """Report changes below some paths until ``stop`` is set."""
        try:
            self._report_changes(paths, recursive, stop)
        except OSError as error:  # for example because of fs.inotify.max_user_watches
            _log.warning("checking for changes every %g s: %s", _CHECK_INTERVAL_S, error)

    def _report_changes(self, paths: set[Path], recursive: bool, stop: threading.Event) -> None:
        from watchfiles import DefaultFilter, watch

        is_watching = False
        for changes in watch(
            *paths,
            # What editors and version control leave in folders of sources is no reason to build.
            watch_filter=DefaultFilter() if recursive else None,
            step=_QUIET_MS,
            debounce=_DEBOUNCE_MAX_MS,
            rust_timeout=_POLL_INTERVAL_MS,
            recursive=recursive,
            stop_event=stop,
            raise_interrupt=False,
            yield_on_timeout=True,
        ):
            if changes or not is_watching:  # the first time-out: watching has begun
                is_watching = True
                changed = {Path(path) for _, path in changes}
                self._changes.put(changed if recursive else changed & self._watched.files)

    def _current_versions(self) -> dict[Path, object]:
        return {path: version_of(path) for path in self._watched.paths}

    def _modified(self) -> set[Path]:
        """The files that have changed since this was last called."""
        before, self._versions = self._versions, self._current_versions()
        paths = before.keys() | self._versions.keys()
        return {path for path in paths if before.get(path) != self._versions.get(path)}

    def _changed(self, changed: set[Path]) -> None:
        modified = self._modified()
        changed = changed | modified
        stale = [
            build
            for build in self._watched.builds
            if any(source.is_affected_by(path) for path in changed for source in build.sources)
        ]
        built = self._builder is not None and self._builder.run(stale)
        if built or modified or self._watched.causes_reload(changed):
            self._read_watched()
            if self._builder is not None:
                self._builder.run_missing(self._watched.builds)
            self._modified()  # the reload reads all changes up to now
            self._start_watching()
            self._reload()
        elif self._watched.folders != self._folders:  # a new one, in which a pattern may match
            self._start_watching()

    def _reload(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._parent, signal.SIGHUP)
