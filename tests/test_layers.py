"""The rules of the architecture: imports point one way."""

from __future__ import annotations

import re
import subprocess
import sys
from graphlib import TopologicalSorter

import grimp
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
    graph = grimp.build_graph("wagi", cache_dir=None)
    modules = {name for name in graph.modules if not graph.find_children(name)}
    assert "wagi.guest.capi.store_config" in graph.find_modules_directly_imported_by(
        "wagi.guest.handler"
    )
    TopologicalSorter(
        {name: graph.find_modules_directly_imported_by(name) & modules for name in modules}
    ).prepare()


def test_tests_share_helpers_in_support_only() -> None:
    """Importing a test module would run its set-up, and hide what others depend on."""
    pattern = re.compile(r"^\s*(?:from tests[\w.]*\.test_|import tests[\w.]*\.test_)", re.MULTILINE)
    paths = (ROOT / "tests").rglob("*.py")
    assert [str(path) for path in paths if pattern.search(path.read_text(encoding="utf-8"))] == []
