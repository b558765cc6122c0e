"""The errors of loads and builds, which all processes of a service share."""

from __future__ import annotations

from pathlib import Path

import pytest

from wagi.dev.problems import Problems

pytestmark = pytest.mark.fast


def test_a_load_does_not_hide_the_error_of_a_build(tmp_path: Path) -> None:
    problems = Problems(tmp_path)
    assert problems.read() == ""
    problems.report_build("the build failed with status 1: make\nmain.c:1: error")
    problems.report_load("modules.toml:3: no such file\nmodules.toml:4: no such file")
    assert Problems(tmp_path).read() == (
        "the build failed with status 1: make\nmain.c:1: error\n"
        "modules.toml:3: no such file\nmodules.toml:4: no such file"
    )
    problems.report_load("")
    assert problems.read() == "the build failed with status 1: make\nmain.c:1: error"
    problems.report_build("")
    assert problems.read() == ""


def test_the_end_of_the_service_is_not_an_error(tmp_path: Path) -> None:
    problems = Problems(tmp_path / "removed")
    problems.report_load("error")
    assert problems.read() == ""
