"""wasmtime's own WASI, the reference for that of the gateway."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import wasmtime


@dataclass(frozen=True)
class Finished:
    """The result of a program.

    Attributes:
        status: Status of ``proc_exit``; 0 after a return from ``_start``.
    """

    status: int
    stdout: bytes
    stderr: bytes


def run_reference(
    module: Path,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    volumes: Mapping[str, Path] | None = None,
) -> Finished:
    """Run a program as ``wasmtime run`` does, with an empty stdin.

    Args:
        module: The program.
        arguments: Its argv, including its name.
        environment: All of its variables.
        volumes: Host directories by their path in the program.
    """
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    config = wasmtime.WasiConfig()
    config.argv = list(arguments)
    config.env = list((environment or {}).items())
    for guest_path, folder in (volumes or {}).items():
        config.preopen_dir(str(folder), guest_path)
    with tempfile.TemporaryDirectory() as name:
        streams = {stream: Path(name) / stream for stream in ("stdin", "stdout", "stderr")}
        for path in streams.values():
            path.touch()
        config.stdin_file = str(streams["stdin"])
        config.stdout_file = str(streams["stdout"])
        config.stderr_file = str(streams["stderr"])
        store.set_wasi(config)
        instance = linker.instantiate(store, wasmtime.Module.from_file(engine, str(module)))
        start = instance.exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        status = 0
        try:
            start(store)
        except wasmtime.ExitTrap as ended:
            status = ended.code
        return Finished(status, streams["stdout"].read_bytes(), streams["stderr"].read_bytes())
