"""Runs scripts of WASI calls: in wasmtime's own WASI, and in a guest of the gateway."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import wasmtime

from tests.support import wasi_calls, wasi_trees
from tests.support.strings import block
from tests.support.wasi_calls import ARENA, Call, Result, encode
from wagi.guest.engine import Runtime
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler, Preopen
from wagi.guest.module import Module, parse
from wagi.guest.outcome import Exit, Trap
from wagi.limits import Limits

TIME_MAX_S = 30.0
"""Maximum duration of a script, in seconds."""
_MEMORY = 192 << 20
"""Memory limit of a guest in bytes; each of its three memories gets a third."""


@dataclass(frozen=True, slots=True)
class Script:
    """Calls and their environment.

    Attributes:
        calls: The calls, in order.
        stdin: The input, which is followed by end of file.
        argv: The guest's arguments.
        environment: Names and values.
        volumes: Whether it has the volumes /data (descriptor 3) and /lib (4, read-only).
    """

    calls: tuple[Call, ...]
    stdin: bytes = b"input"
    argv: tuple[str, ...] = ("command",)
    environment: tuple[tuple[str, str], ...] = ()
    volumes: bool = True


@dataclass(frozen=True, slots=True)
class Observation:
    """The observable results of a run.

    Attributes:
        results: Results of the calls that were started.
        ending: ``return``, ``exit N``, or ``trap: `` and a message.
        stdout: The guest's stdout.
        stderr: The guest's stderr.
        files: The volume /data and its content at the end, by path.
        span: Start and end of the run, in nanoseconds since 1970.
    """

    results: list[Result]
    ending: str
    stdout: bytes
    stderr: bytes
    files: dict[bytes, wasi_trees.Node]
    span: tuple[int, int]


class Sandbox:
    """The volumes of a run.

    Attributes:
        data: The volume /data, which the run may change.
        library: The volume /lib, which all runs share.
        started: A time before anything in /data was created, in nanoseconds since 1970.
    """

    def __init__(self, root: Path, library: Path) -> None:
        """
        Args:
            root: The directory to create, for /data and its neighbors.
            library: The volume /lib.
        """
        # The clock of the file system may be a tick behind.
        self.started = time.time_ns() - 20_000_000
        self.data = root / "data"
        self.library = library
        root.mkdir()
        wasi_trees.build(self.data)


class Sandboxes:
    """Creates sandboxes, and reuses those that a run did not change.

    Attributes:
        library: The volume /lib, which all runs share.
    """

    def __init__(self, root: Path) -> None:
        """
        Args:
            root: An empty directory for the sandboxes.
        """
        self._root = root
        self.library = root / "shared" / "lib"
        self.library.parent.mkdir()
        wasi_trees.build(self.library)
        wasi_trees.add_large_directories(self.library)
        self._pristine: dict[bytes, wasi_trees.Node] = {}
        self._free: list[Sandbox] = []
        self._made = 0

    def run(self, run: Run, script: Script) -> Observation:
        """Run a script in an unchanged sandbox."""
        if self._free:
            sandbox = self._free.pop()
        else:
            sandbox = Sandbox(self._root / str(self._made), self.library)
            self._made += 1
        self._pristine = self._pristine or wasi_trees.inspect(sandbox.data)
        seen = run(script, sandbox)
        if seen.files == self._pristine:
            self._free.append(sandbox)
        return seen


Run = Callable[[Script, Sandbox], Observation]


@cache
def _native() -> tuple[wasmtime.Engine, wasmtime.Linker, wasmtime.Module]:
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    return engine, linker, wasmtime.Module(engine, wasi_calls.interpreter())


def run_native(script: Script, sandbox: Sandbox) -> Observation:
    """Run a script in wasmtime's own WASI, with pipes for stdio.

    Raises:
        TimeoutError: The run took longer than ``TIME_MAX_S``.
    """
    outcome: list[Observation | BaseException] = []

    def target() -> None:
        try:
            outcome.append(_run_native(script, sandbox))
        except BaseException as error:
            outcome.append(error)

    # A blocking call cannot be interrupted: the thread is abandoned, and the test fails.
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(TIME_MAX_S)
    if not outcome:
        raise TimeoutError(f"wasmtime's WASI did not finish within {TIME_MAX_S:g} s: {script}")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _run_native(script: Script, sandbox: Sandbox) -> Observation:
    engine, linker, module = _native()
    config = wasmtime.WasiConfig()
    config.argv = script.argv
    config.env = script.environment
    stdin = _filled_pipe(encode(script.calls) + script.stdin)
    stdout, stderr = _Drain(), _Drain()
    ends = stdin, stdout.guest_end, stderr.guest_end
    config.stdin_file, config.stdout_file, config.stderr_file = (
        f"/proc/self/fd/{end}" for end in ends
    )
    if script.volumes:
        config.preopen_dir(str(sandbox.data), "/data")
        config.preopen_dir(str(sandbox.library), "/lib", fs_mutable=False)
    for end in ends:
        os.close(end)
    store = wasmtime.Store(engine)
    try:
        store.set_wasi(config)
        exports = linker.instantiate(store, module).exports(store)
        start, log = exports["_start"], exports["log"]
        assert isinstance(start, wasmtime.Func)
        assert isinstance(log, wasmtime.Memory)
        ending = "return"
        try:
            start(store)
        except wasmtime.ExitTrap as error:
            ending = f"exit {error.code}"
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            ending = f"trap: {error}"
        results = wasi_calls.decode_log(lambda at, length: bytes(log.read(store, at, at + length)))
    finally:
        store.close()
    return _observe(results, ending, stdout.join(), stderr.join(), sandbox)


def _filled_pipe(data: bytes) -> int:
    """Return the read end of a pipe that contains some bytes, then end of file."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, wasi_calls.MAX_SCRIPT * 2)
    os.set_blocking(write_end, False)
    written = os.write(write_end, data)
    os.close(write_end)
    if written != len(data):
        raise ValueError(f"{len(data)} bytes of input do not fit into a pipe")
    return read_end


class _Drain:
    """A pipe whose content is collected until end of file."""

    def __init__(self) -> None:
        self._our_end, self.guest_end = os.pipe()
        self._data = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with os.fdopen(self._our_end, "rb") as pipe:
            self._data = pipe.read()

    def join(self) -> bytes:
        self._thread.join(TIME_MAX_S)
        if self._thread.is_alive():
            raise TimeoutError("the pipe of an output has not been closed")
        return self._data


@cache
def _runtime() -> Runtime:
    return Runtime(guests=20)


@cache
def _module(imported: str) -> Module:
    text = wasi_calls.interpreter(imported).encode()
    return _runtime().load(parse("interpreter.wat", text, _MEMORY))


def _handler(script: Script, sandbox: Sandbox, imported: str) -> Handler:
    preopens = (
        Preopen(str(sandbox.data), "/data"),
        Preopen(str(sandbox.library), "/lib", readonly=True),
    )
    limits = Limits(memory_limit=_MEMORY)
    return _module(imported).handler("_start", limits, preopens if script.volumes else ())


def run_wagi(
    script: Script, sandbox: Sandbox, imported: str = "wasi_snapshot_preview1"
) -> Observation:
    """Run a script as a guest of the gateway.

    Args:
        script: The calls and their environment.
        sandbox: The volumes.
        imported: Name of the module from which the guest imports its functions.

    Raises:
        TimeoutError: The run took longer than ``TIME_MAX_S``.
    """
    argv = block(argument.encode() for argument in script.argv)
    environment = block(f"{name}={value}".encode() for name, value in script.environment)
    stderr: list[bytes] = []
    guest = Guest(_handler(script, sandbox, imported), argv, environment, stderr.append)
    try:
        guest.feed(encode(script.calls) + script.stdin)
        guest.end_input()
        stdout = []
        deadline = time.monotonic() + TIME_MAX_S
        while not guest.step():
            stdout.append(guest.take_output())
            if time.monotonic() > deadline:
                raise TimeoutError(f"the guest did not finish within {TIME_MAX_S:g} s: {script}")
            time.sleep(0.0005)
        stdout.append(guest.take_output())
        match guest.outcome:
            case Trap(cause):
                return _observe([], f"trap: {cause}", b"", b"", sandbox)
            case Exit(status):
                ending = f"exit {status}"
            case _:
                ending = "return"
        results = wasi_calls.decode_log(partial(_read_memory, guest))
    finally:
        guest.close()
    return _observe(results, ending, b"".join(stdout), b"".join(stderr), sandbox)


def _read_memory(guest: Guest, at: int, length: int) -> bytes:
    """Read the interpreter's record, which was appended to its memory."""
    store = guest._store
    store.memory_is_current = False  # the memory has grown since the last host call
    return store.memory()[ARENA + at : ARENA + at + length].tobytes()


run_wagi_unstable = partial(run_wagi, imported="wasi_unstable")
"""Runs a script as a guest that imports the snapshot before preview 1."""


def _observe(
    results: Sequence[Result], ending: str, stdout: bytes, stderr: bytes, sandbox: Sandbox
) -> Observation:
    files = wasi_trees.inspect(sandbox.data)
    span = (sandbox.started, time.time_ns())
    return Observation(list(results), ending, stdout, stderr, files, span)
