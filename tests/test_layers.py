"""The rules of the architecture: imports point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from tests.support.server import ROOT

pytestmark = pytest.mark.fast


def test_imports_point_one_way() -> None:
    command = "from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_one_package_touches_the_c_api() -> None:
    """Apart from the file that checks the installed version."""
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "wagi").rglob("*.py"))
        if any(word in path.read_text() for word in ("wasmtime._", "import ctypes", "from ctypes"))
    ]
    others = [path for path in found if not path.startswith("wagi/guest/capi/")]
    assert others == ["wagi/guest/compatibility.py"]
    assert len(found) > len(others)


def test_no_import_cycles() -> None:
    """Including imports for type checking only, and imports inside functions."""
    graph: dict[str, set[str]] = {}
    for path in (ROOT / "wagi").rglob("*.py"):
        if path.name != "__init__.py":
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            graph[module] = set(_imported(path.read_text()))
    assert "wagi.guest.capi.plan" in graph["wagi.guest.handler"]
    TopologicalSorter({module: needs & graph.keys() for module, needs in graph.items()}).prepare()


def _imported(source: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{item.name}" for item in node.names)]
        elif isinstance(node, ast.Import):
            names += [item.name for item in node.names]
    return names
