"""Compilation of the modules that are run to make a snapshot.

Snapshots of different scripts run the same interpreter, so the compiled code is kept.
"""

from __future__ import annotations

import contextlib
import hashlib

import wasmtime

from wagi.guest.artefacts import Artefacts, artefact_key
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.targets import Target, this_processor

_ENGINE_NAME = "snapshot, not optimized, epochs"


def new_engine() -> wasmtime.Engine:
    """Create an engine that compiles fast and can interrupt a module."""
    config = wasmtime.Config()
    config.cranelift_opt_level = "none"  # the code is run once
    config.epoch_interruption = True
    return wasmtime.Engine(config)


def compile_module(
    engine: wasmtime.Engine, wasm: bytes, artefacts: Artefacts | None
) -> wasmtime.Module:
    """Compile a module, or take it from the cache.

    Args:
        engine: An engine of ``new_engine``.
        wasm: The module.
        artefacts: The cache; None for none.

    Raises:
        SnapshotError: The module is invalid.
    """
    digest = hashlib.sha256(wasm).digest()
    key = artefact_key(digest, _ENGINE_NAME, Target.NATIVE, this_processor())
    found = artefacts.find(key) if artefacts else None
    if found is not None:
        with contextlib.suppress(wasmtime.WasmtimeError):  # a damaged one is compiled again
            return wasmtime.Module.deserialize_file(engine, str(found))
    try:
        module = wasmtime.Module(engine, wasm)
    except wasmtime.WasmtimeError as error:
        reason = str(error).strip().splitlines()
        raise SnapshotError(f"not a valid module: {reason[-1].strip()}") from None
    if artefacts:
        artefacts.add(key, bytes(module.serialize()))
    return module
