"""Reports in the XML format of JUnit, which CI systems display."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from wagi.observe.text import one_line


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a case.

    Attributes:
        path: The file of the case.
        seconds: How long the request took.
        differences: The lines of the diff; empty if the case has passed.
        stderr: What the guest wrote to stderr.
    """

    path: Path
    seconds: float
    differences: Sequence[str] = ()
    stderr: bytes = b""


def junit_report(results: Sequence[Result]) -> bytes:
    """Format a report with a test case for each result."""
    failures = str(sum(bool(result.differences) for result in results))
    seconds = f"{sum(result.seconds for result in results):.3f}"
    totals = {"tests": str(len(results)), "failures": failures, "errors": "0", "time": seconds}
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "wagi test", **totals})
    for result in results:
        path = _printable(os.fsdecode(result.path))
        folder, name = os.path.split(path)
        attributes = {
            "classname": folder.strip("./").replace("/", ".") or "cases",
            "name": name.removesuffix(".toml"),
            "file": path,
            "time": f"{result.seconds:.3f}",
        }
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if result.differences:
            failure = ElementTree.SubElement(case, "failure", {"message": "the response differs"})
            failure.text = "\n".join(map(_printable, result.differences))
        if result.stderr:
            lines = result.stderr.decode("utf-8", "backslashreplace").splitlines()
            ElementTree.SubElement(case, "system-err").text = "\n".join(map(_printable, lines))
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return content + b"\n"


def _printable(text: str) -> str:
    """Escape characters that XML 1.0 does not allow."""
    return one_line(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
