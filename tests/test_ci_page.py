"""docs/ci.md: the steps of its recipes work in a project of ``wagi new``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.server import ROOT
from tests.support.shell import BLOCK, environment_with

PAGE = (ROOT / "docs/ci.md").read_text()
FILES = {name: text for _, name, text in BLOCK.findall(PAGE) if name}
INSTALLING = re.compile(r"(sudo )?(apt-get|rustup|pip) ")
"""Steps that install what the machine of the test has already."""


def github_steps() -> list[str]:
    steps = yaml.safe_load(FILES[".github/workflows/test.yml"])["jobs"]["test"]["steps"]
    return [step["run"] for step in steps if "run" in step]


def gitlab_steps() -> list[str]:
    steps: list[str] = yaml.safe_load(FILES[".gitlab-ci.yml"])["test"]["script"]
    return steps


@pytest.mark.parametrize("steps", [github_steps(), gitlab_steps()], ids=["github", "gitlab"])
def test_the_steps_of_a_recipe(tmp_path: Path, steps: list[str]) -> None:
    environment = environment_with(tmp_path, "rust")

    def run(command: str, folder: Path) -> None:
        done = subprocess.run(
            ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    run("wagi new hello --lang rust", tmp_path)
    executed = [step for step in steps if not INSTALLING.match(step)]
    for step in executed:
        run(step, tmp_path / "hello")
    assert [step.split()[0] for step in executed] == ["wagi", "wagi", "pytest"]


def test_both_recipes_install_what_they_run() -> None:
    for steps in (github_steps(), gitlab_steps()):
        assert any("pip install -r requirements.txt" in step for step in steps)
        assert any("target add wasm32-wasip1" in step for step in steps)
    assert FILES["requirements.txt"] == "wagi\npytest\n"
