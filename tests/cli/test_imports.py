"""What commands import: the HTTP client and server of aiohttp take a third of the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, write_files
from tests.support.wat import HELLO

MANIFEST = '[[module]]\nroute = "/"\nmodule = "m.wat"\n'


@pytest.mark.parametrize("arguments", ["check", "routes", "compile m.wat"])
def test_commands_without_requests_import_no_http_client(tmp_path: Path, arguments: str) -> None:
    write_files(tmp_path, {"modules.toml": MANIFEST, "m.wat": HELLO})
    command = [sys.executable, "-X", "importtime", "-m", "wagi", *arguments.split()]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    imported = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    assert "wagi.assembly" in imported
    assert "aiohttp" not in imported
