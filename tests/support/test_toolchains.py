"""Missing or outdated tools skip a test with a reason, or fail it if all are required."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import toolchains
from tests.support.toolchains import tool

pytestmark = pytest.mark.fast

Install = Callable[[str, str, str], str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put programs on PATH that only print a version."""
    folders: list[str] = []

    def install(name: str, output: str, folder: str) -> str:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{output}'\n")
        path.chmod(0o755)
        if str(path.parent) not in folders:
            folders.append(str(path.parent))
        monkeypatch.setenv("PATH", ":".join(folders))
        return str(path)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchains, "_SCRIPTS", str(tmp_path))
    monkeypatch.delenv("WAGI_TEST_REQUIRE", raising=False)
    return install


OUTDATED = [
    ("go", "go version go1.19.8 linux/amd64", "is 1.19.8: go 1.24 is required"),
    ("go", "go version go1.9 linux/amd64", "is 1.9: go 1.24 is required"),
    ("go", "", "is broken: go 1.24 is required"),
    ("node", "v18.19.0", "is 18.19.0: node 20 is required"),
    ("npm", "9.2.0", "is 9.2.0: npm 10 is required"),
]


@pytest.mark.parametrize(("name", "output", "reason"), OUTDATED)
def test_an_outdated_tool_is_skipped(install: Install, name: str, output: str, reason: str) -> None:
    path = install(name, output, "bin")
    with pytest.raises(pytest.skip.Exception) as skipped:
        tool(name)
    assert str(skipped.value) == f"{path} {reason}"


@pytest.mark.parametrize(("name", "output", "reason"), OUTDATED)
def test_an_outdated_tool_fails_if_all_are_required(
    install: Install, monkeypatch: pytest.MonkeyPatch, name: str, output: str, reason: str
) -> None:
    monkeypatch.setenv("WAGI_TEST_REQUIRE", "all")
    path = install(name, output, "bin")
    with pytest.raises(pytest.fail.Exception) as failed:
        tool(name)
    assert str(failed.value) == f"required: {path} {reason}"


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("go", "go version go1.24 linux/amd64"),
        ("go", "go version devel go1.27-0123abc Mon linux/amd64"),
        ("node", "v20.0.0"),
        ("npm", "10.8.2"),
        ("wrk", "no version at all"),
    ],
)
def test_a_recent_tool_is_used(install: Install, name: str, output: str) -> None:
    path = install(name, output, "bin")
    assert tool(name) == path


def test_a_newer_tool_behind_an_outdated_one_is_used(install: Install) -> None:
    install("go", "go version go1.19.8 linux/amd64", "first")
    path = install("go", "go version go1.25.1 linux/amd64", "second")
    assert tool("go") == path


def test_a_missing_tool_is_skipped(install: Install) -> None:
    with pytest.raises(pytest.skip.Exception, match="wagi-has-no-such-tool is not installed"):
        tool("wagi-has-no-such-tool")
