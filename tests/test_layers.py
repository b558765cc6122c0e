"""The rules of the house: imports point one way, files stay short."""

from __future__ import annotations

import subprocess
import sys

from tests.support.server import ROOT


def test_imports_point_one_way() -> None:
    command = "from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_one_file_touches_the_c_api() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "wagi").rglob("*.py"))
        if any(word in path.read_text() for word in ("wasmtime._", "import ctypes", "from ctypes"))
    ]
    assert found == ["wagi/guest/capi.py"]
