"""Everything the README and the pages show works as shown."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import toolchains
from tests.support.registry import registry
from tests.support.server import ROOT, run_wagi, write_files
from tests.support.shell import BLOCK, Shell, environment_with
from wagi.routemap.entries import ModuleEntry
from wagi.routemap.modules_toml import ModulesToml
from wagi.routemap.static_entry import StaticEntry

README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs/reference.md").read_text()


PAGES = {
    "README.md": ("rust", "go"),
    "docs/handlers.md": (),
    "docs/variables.md": (),
    "docs/testing.md": ("rust", "go", "c"),
    "docs/sources.md": ("c",),
    "docs/moving.md": (),
    "docs/spin.md": ("c",),
    "docs/performance.md": ("rust", "c"),
}
"""Pages with console blocks, each with the languages that its commands need."""
ELSEWHERE = {"docs/operations.md"}  # tests/deploy/test_image.py


def test_all_console_blocks_are_run() -> None:
    pages = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
    shown = {str(page.relative_to(ROOT)) for page in pages if "\n$ " in page.read_text()}
    assert shown == PAGES.keys() | ELSEWHERE


@pytest.mark.parametrize("path", PAGES)
def test_pages_work_as_shown(tmp_path: Path, path: str) -> None:
    toolchains.tool("curl")
    environment = environment_with(tmp_path, *PAGES[path])
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "modules.toml", tmp_path)
    page = (ROOT / path).read_text()
    with (
        registry(tmp_path / "registry") as running,
        closing(Shell(tmp_path, environment, running.name)) as shell,
    ):
        assert shell.follow(page) > 0


def test_continuous_integration_runs_the_test_command_shown() -> None:
    assert "$ pip install '.[test]' && pytest\n" in README
    assert "README.md" in (ROOT / ".ci/run").read_text()


def test_the_reference_is_valid(tmp_path: Path) -> None:
    (block,) = (text for _, name, text in BLOCK.findall(REFERENCE) if name == "reference.toml")
    (tmp_path / "reference.toml").write_text(block)
    (tmp_path / "data").mkdir()
    write_files(tmp_path, {"public/404.html": "", "app/index.html": "", "conf.d/team.toml": ""})
    shutil.copy(ROOT / "examples/wat/hello.wat", tmp_path / "hello.wasm")
    done = run_wagi(tmp_path, "check", "reference.toml")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_reference_names_every_key() -> None:
    (block,) = (text for _, name, text in BLOCK.findall(REFERENCE) if name == "reference.toml")
    keys = set(re.findall(r"^(\w+) =", block, re.MULTILINE)) | {"defaults", "module"}
    models = (ModulesToml, ModuleEntry, StaticEntry)
    assert keys == {key for model in models for key in model.model_fields}
