"""Builds the compiled core (``wagi/guest/core``) where there is a C compiler; it is optional."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCES = ("api", "binding", "calls", "clock", "memory", "store")
_FLAGS = ("-std=c11", "-O2", "-s", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")


class CoreBuildHook(BuildHookInterface[Any]):
    """Compiles the core into the package; without a compiler the wheel is pure Python."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled module to the wheel.

        Args:
            version: ``editable`` for a development installation, else ``standard``.
            build_data: What the builder reads; see hatchling's documentation of build hooks.

        Raises:
            RuntimeError: ``WAGI_CORE=required``, and the core cannot be built.
        """
        if self.target_name != "wheel":
            return
        folder = Path(self.root) / "wagi" / "guest" / "core"
        output = folder / "_core.abi3.so"
        problem = _build(folder, output)
        if problem:
            output.unlink(missing_ok=True)
            if os.environ.get("WAGI_CORE") == "required":
                raise RuntimeError(f"the compiled core cannot be built: {problem}")
            self.app.display_warning(f"the compiled core is not built: {problem}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["artifacts"].append(str(output.relative_to(self.root)))


def _build(folder: Path, output: Path) -> str | None:
    """Compile. Returns: what is wrong, or None."""
    if os.environ.get("WAGI_CORE") == "off":
        return "WAGI_CORE=off"
    if not sys.platform.startswith("linux"):
        return "it is for Linux"
    compiler = shlex.split(os.environ.get("CC", "")) or [
        shutil.which("cc") or shutil.which("gcc") or ""
    ]
    if not compiler[0]:
        return "there is no C compiler (cc)"
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").exists():
        return f"{include}/Python.h is missing: install the development files of Python"
    sources = [str(folder / f"{name}.c") for name in _SOURCES]
    command = [*compiler, *_FLAGS, f"-I{include}", *sources, "-o", str(output), "-ldl", "-lpthread"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{compiler[0]}: {error.strerror}"
    return done.stderr.strip() or "the compiler failed" if done.returncode else None
