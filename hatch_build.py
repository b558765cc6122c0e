"""Hooks of the build: the optional compiled core (``wagi/guest/core``), and the README's links."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_SOURCES = ("api", "binding", "calls", "clock", "environment", "memory", "store")
_FLAGS = ("-std=c11", "-O2", "-s", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")


_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Makes the README for a package index, which does not have the files of the repository."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README, with links that work anywhere.

        Args:
            metadata: The table ``project`` of pyproject.toml, changed in place.
        """
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute_links(text, source),
        }


def absolute_links(text: str, source: str | None) -> str:
    """Replace the relative links of a page.

    Args:
        text: The page, in Markdown.
        source: The URL of the repository; None if it has none: links become plain text, and
            images are removed.

    Returns:
        The page without relative links.
    """

    def absolute(link: re.Match[str]) -> str:
        image, label, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        if source is None:
            return "" if image else label
        return f"{image}[{label}]({source}/{'raw' if image else 'blob'}/main/{target})"

    return _LINK.sub(absolute, text)


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
