"""Run the command of a build: its output, its end, and its children if it is interrupted."""

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
from collections.abc import Callable, Iterator

from wagi.builds.build import Build

_STDERR = 2
_CHUNK_SIZE = 64 * 1024  # bytes
_POLL_INTERVAL_S = 0.1  # how often the end of a process is checked


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
