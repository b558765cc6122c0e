"""CONTRIBUTING.md, the Makefile, continuous integration and the hooks name the same commands."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.support.server import ROOT

pytestmark = pytest.mark.fast

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
CI = (ROOT / ".ci/run").read_text()
TARGETS = re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)
EXPECTED = {"lint", "types", "fast", "test", "docs", "bench"}


def test_the_makefile_has_the_usual_targets() -> None:
    assert set(TARGETS) >= EXPECTED
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony.split() == TARGETS


def test_every_target_of_contributing_exists() -> None:
    named = set(" ".join(re.findall(r"`make ([a-z ]+)`", CONTRIBUTING)).split())
    assert named >= EXPECTED
    assert named <= set(TARGETS)


def test_continuous_integration_uses_the_makefile() -> None:
    """The workflow does not repeat commands of the Makefile."""
    (called,) = re.findall(r"^make ([a-z ]+)$", CI, re.MULTILINE)
    assert {"lint", "types"} <= set(called.split()) <= set(TARGETS)
    assert not re.search(r"^\s*(ruff|mypy)\b", CI, re.MULTILINE)


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "README.md"])
def test_every_link_leads_to_a_file(name: str) -> None:
    text = (ROOT / name).read_text()
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_path_of_the_makefile_exists() -> None:
    named = re.findall(r"\b(?:tests|docs|benchmarks)/[\w./]+", MAKEFILE)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_hooks_need_no_download() -> None:
    """They run the same tools as `make lint types`."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (repository,) = hooks["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    for hook in repository["hooks"]:
        tool = re.sub(r"^python | --force-exclude$", "", hook["entry"])
        assert f"$(PYTHON) {tool}" in MAKEFILE
