"""Errors of the command line show the line of the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import run_wagi, write_files
from tests.support.wat import HELLO

POD = """apiVersion: v1
kind: Pod
metadata:
  name: x
  annotations:
    alpha.wagi.krustlet.dev/modules: '{"a": {"route": "/a"}}'
spec:
  containers:
    - name: a
      image: localhost:1/a:1
      imagePullPolicy: Sometimes
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "modules.toml",
            '[[module]]\nrout = "/"\nmodule = "m.wat"\n',
            "error: modules.toml:1: required key 'route' is missing\n"
            "1 | [[module]]\n  | ^^^^^^^^^^\n"
            "error: modules.toml:2: unknown key 'rout': did you mean 'route'?\n"
            '2 | rout = "/"\n  | ^^^^\n',
        ),
        (
            "modules.toml",
            '[[module]]\nroute = "/"\nmodule = "m.wat"\n\ttimeout = "\\u001b[31m日本"  # 日\n',
            "error: modules.toml:4: timeout: expected seconds as a number, found"
            " '\\x1b[31m日本'\n"
            '4 |     timeout = "\\u001b[31m日本"  # 日\n  |               ^^^^^^^^^^^^^^^^\n',
        ),
        (
            "modules.toml",
            '[[module]]\nroute = "/"\nmodule = "m.wat"\nvolumes = {"/a" = {path = "no"}}\n',
            "error: modules.toml:4: volumes: the directory FOLDER/no of '/a' does not exist\n"
            '4 | volumes = {"/a" = {path = "no"}}\n  |           ^^^^^^^^^^^^^^^^^^^^^^\n',
        ),
        (
            "modules.toml",
            '[[module]]\nroute = "/"\nmodule = "m.wat\n',
            "error: modules.toml:3: not valid TOML: Illegal character '\\n' (column 16)\n"
            '3 | module = "m.wat\n  |                ^\n',
        ),
        (
            "pod.yaml",
            POD,
            "error: pod.yaml:11: container 'a': imagePullPolicy: expected 'Always',"
            " 'IfNotPresent' or 'Never', found 'Sometimes'\n"
            "11 |       imagePullPolicy: Sometimes\n   |                        ^^^^^^^^^\n",
        ),
        (
            "pod.yaml",
            "kind: Pod\na: b: c\n",
            "error: pod.yaml:2: not valid YAML: mapping values are not allowed here\n"
            "2 | a: b: c\n  |     ^\n",
        ),
    ],
    ids=["key", "value", "inline", "toml", "pod", "yaml"],
)
def test_configuration_errors(tmp_path: Path, name: str, text: str, expected: str) -> None:
    """The first line of each is as editors parse it."""
    write_files(tmp_path, {name: text, "m.wat": HELLO})
    done = run_wagi(tmp_path, "check", name)
    assert done.returncode == 2
    assert done.stderr == expected.replace("FOLDER", str(tmp_path))


def test_recorded_cases(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.toml": '[request]\ntarget = "/"\n[response]\nstatus = "ok"\n'})
    done = run_wagi(tmp_path, "test", "a.toml")
    assert done.returncode == 2
    assert done.stderr == (
        "error: a.toml:4: response.status: expected a whole number, found 'ok'\n"
        '4 | status = "ok"\n  |          ^^^^\n'
    )


def test_long_lines_are_clipped(tmp_path: Path) -> None:
    text = (
        f'[[module]]\nroute = "/"\nenvironment = {{A = "{"x" * 500}", B = 3}}\nmodule = "m.wat"\n'
    )
    write_files(tmp_path, {"modules.toml": text, "m.wat": HELLO})
    done = run_wagi(tmp_path, "check", environment={"COLUMNS": "60"})
    _, source, marker = done.stderr.splitlines()
    assert len(source) <= 60
    assert source[marker.index("^")] == "3"


def test_a_file_that_cannot_be_read_twice(tmp_path: Path) -> None:
    """A pipe: its lines are those that were read the first time."""
    done = run_wagi(tmp_path, "check", "/dev/stdin")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
