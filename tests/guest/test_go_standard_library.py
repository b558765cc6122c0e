"""Go's tests of its standard library pass in the gateway, as they do in wasmtime.

Excluded tests are listed here with the reason. All others have to pass, or to skip themselves: Go
skips tests of processes, users, signals and permissions, which WASI does not have.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.server import serving, write_files
from tests.support.toolchains import go_root, go_tests

NOT_RUN: dict[str, dict[str, str]] = {
    "os": {
        # As in `wasmtime run` with the same volumes.
        "TestDevNullFile": "expects a device, and a volume has none: here it is an empty file",
        # `RemoveAll` keeps one folder per level open.
        "TestLongPath": "opens more than the 128 files that a guest may have (docs/security.md)",
    },
    # net is simulated on wasip1: all connections are in memory.
    "net/http": {},
}
LEAST_PASSED = {"os": 120, "net/http": 400}
"""Minimum number of tests that pass; fewer means that most were skipped."""


def messages_of(lines: list[str], failed: list[str]) -> list[str]:
    """Extract the output of failed tests from a verbose run.

    In it, a line names the test that prints the following lines.
    """
    shown = []
    current = ""
    for line in lines:
        if match := re.match(r"=== (?:RUN|CONT|NAME)\s+(\S+)", line):
            current = match[1]
        elif current in failed and not line.lstrip().startswith(("--- PASS", "=== PAUSE")):
            shown.append(f"{current}: {line}")
    return shown


@pytest.mark.parametrize("package", NOT_RUN)
def test_go_standard_library_tests_pass(tmp_path: Path, package: str) -> None:
    """The test binary is a CGI handler: a file that is added to the package prints the header."""
    root = go_root()
    files = {"dev/null": "", "tmp/keep": ""}
    # Files that the tests expect in GOROOT, which some packages of Go lack.
    files |= {f"go/{name}": f"{name}\n" for name in ("go.env", "LICENSE", "CONTRIBUTING.md")}
    # The parent folders of the sources exist, too: net/http checks each part of a path.
    files[f"{str(root.parent).lstrip('/')}/keep"] = ""
    write_files(tmp_path / "scratch", files)
    skipped = "|".join(NOT_RUN[package]) or "none"
    manifest = f"""
[[module]]
route = "/tests"
module = "{go_tests(package)}"
argv = "go.test -test.short -test.v -test.skip=^({skipped})$"
timeout = 300
cpu_timeout = 0
memory_limit = "1GiB"
[module.environment]
GOROOT = "/go"
PWD = "{root}/src/{package}"
TMPDIR = "/tmp"
# Some tests forget to close files. Go closes them when it collects garbage: often enough for the
# 128 files that a guest may have open.
GOGC = "10"
[module.volumes]
"/" = "scratch"
"{root}" = {{path = "{root}", readonly = true}}
"""
    with serving(tmp_path, manifest) as server:
        response = server.get("/tests", timeout=300)
        log = server.log
    assert response.status == 200, log
    lines = response.body.decode(errors="replace").splitlines()
    outcomes = re.compile(r"\s*--- (PASS|FAIL|SKIP): (\S+)")
    found = [match.groups() for match in map(outcomes.match, lines) if match]
    failed = [name for outcome, name in found if outcome == "FAIL"]
    assert failed == [], "\n".join([str(failed), *messages_of(lines, failed)])
    assert lines[-1] == "PASS", "\n".join([*lines[-200:], log[-2000:]])
    assert "exited with status" not in log
    passed = [name for outcome, name in found if outcome == "PASS" and "/" not in name]
    print(f"{package}: {len(passed)} tests passed")
    assert len(passed) >= LEAST_PASSED[package]
