"""``--watch``: files that change are picked up, and built before that if an entry says how.

A process of its own watches, builds, and asks the supervisor to reload, as anybody may by SIGHUP.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wagi.config.entries import RouteMap
from wagi.config.settings import Settings
from wagi.errors import WagiError
from wagi.loading import read_route_map
from wagi.observe.server_log import server_log
from wagi.server.signals import HANDLED
from wagi.sources.files import resolve_path
from wagi.sources.references import FileReference, parse_reference

_STEP = 50  # milliseconds without a change after which changes are told
_AT_MOST = 200  # milliseconds that they are held back
_LOOK = 500  # milliseconds between two looks at the parent
_fork = multiprocessing.get_context("fork")
_log = logging.getLogger("wagi")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Build:
    """How a module is made. Attributes: ``sources`` the files and folders that it is made of."""

    command: str
    folder: Path
    sources: tuple[Path, ...]
    module: Path


@dataclass(frozen=True, slots=True)
class Watched:
    """What is watched. Attributes: ``files`` whose change is reason to reload."""

    files: frozenset[Path]
    builds: tuple[Build, ...]

    @property
    def folders(self) -> set[Path]:
        """The folders of the files: editors and compilers replace files rather than write them."""
        return {path.parent for path in self.files if path.parent.is_dir()}

    @property
    def trees(self) -> set[Path]:
        """The sources of the builds, which are watched in depth."""
        return {path for build in self.builds for path in build.sources if path.exists()}


@contextlib.contextmanager
def watching(settings: Settings, file: Path, tell: Tell) -> Iterator[None]:
    """Watch the files of a route map and ask this process to reload, while the block runs.

    What an entry says how to build, and is not there, is built first. Signals are blocked until
    the supervisor takes them: one that came before would end the process.
    Parameters: ``tell`` is told what is wrong with a build.
    """
    before = signal.signal(signal.SIGTERM, _end)
    try:
        _build_missing(settings, file, tell)
    finally:
        signal.signal(signal.SIGTERM, before)
    parent = os.getpid()
    process = _fork.Process(
        target=lambda: _Watcher(settings, file, parent, tell).run(),
        name="wagi watcher",
        daemon=True,
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def what_to_watch(settings: Settings, file: Path, route_map: RouteMap | None) -> Watched:
    """The files of a map, and its builds; without a map, which may be broken, the file alone."""
    files = {file.absolute(), *(path.absolute() for path in settings.env_file)}
    builds: list[Build] = []
    for entry in route_map.entries if route_map else ():
        with contextlib.suppress(WagiError):
            reference = parse_reference(entry.module)
            if not isinstance(reference, FileReference):
                continue
            assert route_map is not None
            module = resolve_path(reference.path, route_map.folder).absolute()
            files.add(module)
            if entry.build is not None:
                sources = tuple(route_map.folder / path for path in entry.watch or ["src"])
                build = Build(entry.build, route_map.folder, sources, module)
                if build not in builds:
                    builds.append(build)
    return Watched(frozenset(files), tuple(builds))


def _build_missing(settings: Settings, file: Path, tell: Tell) -> None:
    with contextlib.suppress(WagiError):  # the supervisor says what is wrong with it
        watched = what_to_watch(settings, file, read_route_map(file))
        _build([build for build in watched.builds if not build.module.exists()], tell)


def _build(builds: list[Build], tell: Tell) -> bool:
    """Build, with the output on stderr. Returns: whether anything was built."""
    built = False
    for build in builds:
        print(f"building: {build.command}", file=sys.stderr, flush=True)
        status = _run(build)
        if status:
            problem = f"the build failed with status {status}: {build.command}"
            _log.error("%s", problem)
            tell(problem)
        built = built or not status
    return built


def _end(number: int, _: object) -> None:
    """Exit so that a build that runs is ended, too."""
    sys.exit(128 + number)


def _run(build: Build) -> int:
    """Run the command of a build. Returns: its exit status. Who is ended ends it, too."""
    process = subprocess.Popen(
        build.command,
        shell=True,
        cwd=build.folder,
        stdin=subprocess.DEVNULL,
        stdout=2,  # what a compiler says is for the terminal, not for the access log
        start_new_session=True,  # to be ended with all that it has started
    )
    try:
        return process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise


class _Watcher:
    """Watches until its parent is gone."""

    def __init__(self, settings: Settings, file: Path, parent: int, tell: Tell) -> None:
        self._settings = settings
        self._tell = tell
        self._file = file
        self._parent = parent
        self._changes: queue.Queue[set[Path]] = queue.Queue()
        self._watched = what_to_watch(settings, file, None)
        self._stop = threading.Event()  # of those that watch now

    def run(self) -> None:
        """Watch, build, and have the parent reload."""
        # Ctrl-C is for the supervisor, which ends this process, too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
        with server_log():
            logging.getLogger("watchfiles").setLevel(logging.WARNING)
            self._watch_what_is_there()
            while os.getppid() == self._parent:
                with contextlib.suppress(queue.Empty):
                    self._changed(self._changes.get(timeout=_LOOK / 1000))

    def _watch_what_is_there(self) -> None:
        """Begin with what is to be watched now before ending with what was: nothing is missed."""
        with contextlib.suppress(WagiError):  # the supervisor says what is wrong with it
            route_map = read_route_map(self._file)
            self._watched = what_to_watch(self._settings, self._file, route_map)
        before, self._stop = self._stop, threading.Event()
        for paths, in_depth in ((self._watched.folders, False), (self._watched.trees, True)):
            if paths:
                arguments = (paths, in_depth, self._stop)
                threading.Thread(target=self._watch, args=arguments, daemon=True).start()
        before.set()

    def _watch(self, paths: set[Path], in_depth: bool, stop: threading.Event) -> None:
        from watchfiles import DefaultFilter, watch

        for changes in watch(
            *paths,
            watch_filter=DefaultFilter(),
            step=_STEP,
            debounce=_AT_MOST,
            rust_timeout=_LOOK,
            recursive=in_depth,
            stop_event=stop,
            raise_interrupt=False,
        ):
            self._changes.put({Path(path) for _, path in changes})

    def _changed(self, changed: set[Path]) -> None:
        stale = [
            build
            for build in self._watched.builds
            if any(path.is_relative_to(source) for path in changed for source in build.sources)
        ]
        if _build(stale, self._tell) or changed & self._watched.files:
            self._watch_what_is_there()
            self._reload()

    def _reload(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._parent, signal.SIGHUP)
