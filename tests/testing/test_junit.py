"""Reports in the format of JUnit."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from wagi.testing.junit import Result, junit_report

pytestmark = pytest.mark.fast


def test_a_report() -> None:
    results = [
        Result(Path("cases/deep/one.toml"), 0.25, stderr=b"hello\n"),
        Result(Path("two.toml"), 0.5, ["-a", "+\x1b[1m<&\ufffe"], b"\xff\0"),
    ]
    root = ElementTree.fromstring(junit_report(results))
    (suite,) = root
    totals = {"tests": "2", "failures": "1", "errors": "0", "time": "0.750"}
    assert root.attrib == totals
    assert suite.attrib == {"name": "wagi test", **totals}
    one, two = suite
    assert one.attrib == {
        "classname": "cases.deep", "name": "one", "file": "cases/deep/one.toml", "time": "0.250",
    }  # fmt: skip
    assert one.find("failure") is None
    assert one.findtext("system-err") == "hello"
    assert two.attrib["classname"] == "cases"
    assert two.findtext("failure") == "-a\n+\\x1b[1m<&\\ufffe"
    assert two.findtext("system-err") == "\\xff\\x00"
