"""Line numbers of keys in TOML files."""

from __future__ import annotations

import pytest

from wagi.config.validation import KeyPath
from wagi.routemap.lines import toml_lines

pytestmark = pytest.mark.fast

TEXT = '''# comment
top = """
[[module]]
route = "not a key"
"""
[defaults]
timeout = 1  # [[module]]
environment = {A = "[", B = ']'}

[[module]]
route = "/a"
"quoted key" = 1
argv = [
  "x = 1",
]
[[module]]
route = '/b#'
volumes."/data" = "x"
[module.environment]
DEEP = "1"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("defaults",), 6),
        (("defaults", "timeout"), 7),
        (("defaults", "environment", "A"), 8),
        (("module",), 10),
        (("module", 0), 10),
        (("module", 0, "route"), 11),
        (("module", 0, "quoted key"), 12),
        (("module", 0, "argv", 0), 13),
        (("module", 1, "route"), 17),
        (("module", 1, "volumes", "/data"), 18),
        (("module", 1, "missing"), 16),
        (("unknown",), 1),
    ],
)
def test_lines(path: KeyPath, line: int) -> None:
    assert toml_lines(TEXT).line(path) == line
