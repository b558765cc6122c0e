"""The C that builds environments under AddressSanitizer and UndefinedBehaviorSanitizer; see
``environment_driver.c``. tests/gateway/test_variables.py compares its results with Python's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.sanitizers import CORE, GUESTS, build, run

DRIVER = Path(__file__).with_name("environment_driver.c")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the core is for Linux only")


def test_random_requests(tmp_path: Path) -> None:
    """Building variables does not access memory beyond the texts and the buffer."""
    driver = tmp_path / "drive"
    build(driver, DRIVER, CORE / "environment.c")
    built, _, requests, _ = run([str(driver), "1", str(GUESTS)]).split()
    assert int(requests) == GUESTS
    assert GUESTS // 10 < int(built) < GUESTS
