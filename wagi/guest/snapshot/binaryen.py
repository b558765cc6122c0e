"""Run ``wasm-opt`` of Binaryen, which instruments functions so that their stack can be unwound."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from wagi.errors import WagiError
from wagi.guest.snapshot.errors import MissingToolError, SnapshotError

_TOOL = "wasm-opt"
_FEATURES = (
    "bulk-memory",
    "extended-const",
    "multivalue",
    "mutable-globals",
    "nontrapping-float-to-int",
    "reference-types",
    "sign-ext",
    "simd",
    "tail-call",
)
"""What modules may use; every name is known since version 108."""
_TIMEOUT_S = 300.0
_NAME = "f{}"
"""The name of a function by its index."""


def find_tool(folders: Iterable[Path] = ()) -> str:
    """Find ``wasm-opt``.

    Args:
        folders: Projects that may have it as a package of npm.

    Raises:
        MissingToolError: It is not installed.
    """
    places = [*(folder / "node_modules" / ".bin" for folder in folders)]
    for place in (*map(str, places), os.environ.get("PATH", os.defpath)):
        if found := shutil.which(_TOOL, path=place):
            return found
    raise MissingToolError(
        "a snapshot of a command requires wasm-opt of Binaryen, which was not found: install it"
        " with `apt install binaryen`, `brew install binaryen` or `npm install binaryen`"
    )


def function_name(index: int) -> str:
    """The name of the function with an index, for ``instrument``."""
    return _NAME.format(index)


def function_index(name: str) -> int | None:
    """The index of a function with such a name; None for another function."""
    return int(name[1:]) if name[:1] == _NAME[:1] and name[1:].isdecimal() else None


def instrument(
    wasm: bytes, tool: str, imported: tuple[str, str], functions: Sequence[str]
) -> bytes:
    """Instrument functions with Asyncify.

    Args:
        wasm: A module with names of functions.
        tool: The path of ``wasm-opt``.
        imported: Module and name of the import that unwinds the stack.
        functions: The functions to instrument.

    Returns:
        The module with names.

    Raises:
        SnapshotError: It fails.
    """
    try:
        with TemporaryDirectory(prefix="wagi-snapshot-") as name:
            folder = Path(name)
            (folder / "in.wasm").write_bytes(wasm)
            (folder / "functions").write_text(",".join(functions))
            command = [tool, "in.wasm", "-o", "out.wasm", "--debuginfo"]
            command += [f"--enable-{feature}" for feature in _FEATURES]
            command += ["--pass-arg", "asyncify-imports@" + ".".join(imported)]
            command += ["--pass-arg", "asyncify-onlylist@@functions"]
            command += ["--optimize-level=1", "--asyncify"]
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_TIMEOUT_S,
            )
            if done.returncode or not (folder / "out.wasm").is_file():
                lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
                raise SnapshotError(f"{tool} cannot instrument the module: {lines[-1].strip()}")
            return (folder / "out.wasm").read_bytes()
    except subprocess.TimeoutExpired:
        raise SnapshotError(
            f"{tool} did not finish within {_TIMEOUT_S:g} seconds: a function on the call stack is"
            " too large, such as the main loop of an interpreter"
        ) from None
    except OSError as error:
        raise WagiError(f"{tool} cannot be run: {error.strerror}") from None
