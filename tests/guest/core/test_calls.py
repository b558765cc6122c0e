"""The C of the compiled core under AddressSanitizer and UndefinedBehaviorSanitizer; see
``calls_driver.c``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sanitizers import CORE, GUESTS, build, run
from wagi.guest.capi.store_fields import StoreFields

DRIVER = Path(__file__).with_name("calls_driver.c")
SOURCES = [CORE / f"{name}.c" for name in ("api", "calls", "clock", "memory", "store")]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the core is for Linux only")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("core") / "drive"
    build(output, DRIVER, *SOURCES)
    return output


def test_random_guests(driver: Path) -> None:
    """Host calls do not access memory beyond that of their guest."""
    assert run([str(driver), "1", str(GUESTS)]) == f"{GUESTS} guests\n"


def test_sanitizer_detects_accesses_beyond_a_memory(driver: Path, tmp_path: Path) -> None:
    """The driver fails if the check of pointers is off by one."""
    calls = (CORE / "calls.c").read_text()
    check = "pointer <= span->size - length"
    assert calls.count(check) == 1
    wrong = tmp_path / "calls.c"
    wrong.write_text(calls.replace(check, f"{check} + 1"))
    output = tmp_path / "drive"
    build(output, DRIVER, wrong, *(path for path in SOURCES if path.name != "calls.c"))
    done = subprocess.run(
        [str(output), "1", str(GUESTS)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode != 0
    assert "ERROR: AddressSanitizer" in done.stderr


def test_layout_of_fields(driver: Path) -> None:
    """``store_t`` begins with the fields of ``StoreFields``."""
    layout = dict(line.split() for line in run([str(driver), "--layout"]).splitlines())
    fields = [field[0] for field in StoreFields._fields_]
    assert layout == {name: str(getattr(StoreFields, name).offset) for name in fields}
