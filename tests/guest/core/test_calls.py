"""The C of the compiled core under AddressSanitizer and UndefinedBehaviorSanitizer; see
``calls_driver.c``."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.support.toolchains import missing, tool
from wagi.guest import core
from wagi.guest.capi.store_fields import StoreFields

GUESTS = int(os.environ.get("WAGI_CORE_GUESTS", "20000"))
DRIVER = Path(__file__).with_name("calls_driver.c")
CORE = Path(core.__file__).parent
SOURCES = [CORE / f"{name}.c" for name in ("api", "calls", "clock", "memory", "store")]
FLAGS = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{CORE}"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the core is for Linux only")


@cache
def compiler() -> str:
    """A C compiler with sanitizers."""
    found = tool("cc")
    done = subprocess.run(
        [found, *SANITIZERS, "-xc", "-", "-o", os.devnull],
        input="int main(void) { return 0; }",
        capture_output=True,
        text=True,
        check=False,
    )
    return found if done.returncode == 0 else missing(f"cc with {SANITIZERS[0]}: {done.stderr}")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("core") / "drive"
    sources = [DRIVER, *SOURCES]
    run(
        [
            compiler(),
            *FLAGS,
            *SANITIZERS,
            *map(str, sources),
            "-o",
            str(output),
            "-ldl",
            "-lpthread",
        ]
    )
    return output


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


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
    sources = [DRIVER, wrong, *(path for path in SOURCES if path.name != "calls.c")]
    output = tmp_path / "drive"
    run(
        [
            compiler(),
            *FLAGS,
            *SANITIZERS,
            *map(str, sources),
            "-o",
            str(output),
            "-ldl",
            "-lpthread",
        ]
    )
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
