"""The pages: generated ones are up to date, and what they name exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs.make_pages import PAGES
from tests.support.help import command_names, help_of
from tests.support.server import ROOT, run_wagi, write_files
from tests.support.toolchains import tool
from tests.support.wat import TEXT_HEAD, printing
from wagi.routemap.reader import read_route_map


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    """`python -m docs.make_pages` generates them."""
    assert (ROOT / "docs" / name).read_text() == PAGES[name]()


def test_the_manual_page_is_clean() -> None:
    """For man(1), which is lenient, and for mandoc, which is strict."""
    command = [tool("mandoc"), "-T", "lint", "-W", "warning", "docs/wagi.1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # A page without a date is reproducible.
    left = [line for line in done.stdout.splitlines() if "missing date" not in line]
    assert (left, done.stderr) == ([], "")
    text = subprocess.run(
        [tool("mandoc"), "-T", "ascii", "docs/wagi.1"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    text = re.sub(rb".\x08", b"", text)
    for words in (b"wagi call [OPTIONS] [METHOD] PATH", b"EXIT STATUS", b"--shutdown-timeout"):
        assert words in text


def test_the_entry_that_a_spin_component_becomes(tmp_path: Path) -> None:
    """Both files of the page are valid, and serve the same."""
    page = (ROOT / "docs/spin.md").read_text()
    for name in ("spin.toml", "modules.toml"):
        (text,) = re.findall(rf"```toml title=\"converted/{name}\"\n(.*?)```", page, re.S)
        write_files(tmp_path, {name: text})
    write_files(tmp_path, {"hello.wasm": printing(TEXT_HEAD + "x"), "static/a.txt": ""})
    for name in ("spin.toml", "modules.toml"):
        done = run_wagi(tmp_path, "check", name)
        assert (done.returncode, done.stderr) == (0, ""), name
    (spin,) = read_route_map(tmp_path / "spin.toml").modules
    (converted,) = read_route_map(tmp_path / "modules.toml").modules
    assert spin.module == str(tmp_path / converted.module)
    for key in ("route", "environment", "allowed_hosts", "limits"):
        assert getattr(spin, key) == getattr(converted, key)


def test_options_that_the_pages_name_exist() -> None:
    """The options in the text of all pages are in the help of a command."""
    known = help_of() + "".join(map(help_of, command_names()))
    for path in [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]:
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
        for option in re.findall(r"`wagi [^`]*?(--[a-z][a-z-]+)", text):
            assert option in known, (path.name, option)
