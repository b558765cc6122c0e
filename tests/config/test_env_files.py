"""Env files: the variables they set, and the lines of mistakes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from wagi.config.env_files import configured_variables
from wagi.config.settings import Settings
from wagi.errors import ConfigurationError

pytestmark = pytest.mark.fast


def read(folder: Path, text: str) -> dict[str, str]:
    path = folder / "x.env"
    path.write_bytes(text.encode())
    return configured_variables(Settings(env_file=[path]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n# comment\n\n", {}),
        ("A=1\nexport B = 2 # two\r\nA=3\n", {"A": "3", "B": "2"}),
        ("A=\"b c\"\nB='d e'\nC=", {"A": "b c", "B": "d e", "C": ""}),
        ('A="1\n2"\nB=3', {"A": "1\n2", "B": "3"}),
        ("A='1\n\n# 2\n'\nB=3", {"A": "1\n\n# 2\n", "B": "3"}),
        ('A="1\\n2"', {"A": "1\n2"}),
        ("A=`date`\nB=`a b`", {"A": "`date`", "B": "`a b`"}),
        ("HOME2=${HOME}$HOME", {"HOME2": "${HOME}$HOME"}),
        ("\ufeffA=1", {"A": "1"}),
        ("\ufeff# comment\nA=1", {"A": "1"}),
    ],
)
def test_variables(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, expected: dict[str, str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert read(tmp_path, text) == expected
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("A=1\n\n  \nnonsense\nB=2", 4, "nonsense"),
        ("A", 1, "A"),
        ("A=1\r\n\r\nB C=2", 3, "B C=2"),
        ('A=1\nB="never closed\nC=2', 2, 'B="never closed'),
        ("A='1\n2' 3", 1, "A='1"),
        ("A=1\n=2", 2, "=2"),
        ("A=`1\n2`", 2, "2`"),
    ],
)
def test_mistakes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, line: int, found: str
) -> None:
    with pytest.raises(ConfigurationError) as caught, caplog.at_level(logging.DEBUG):
        read(tmp_path, text)
    message = f"x.env:{line}: --env-file: expected KEY=VALUE, found {found!r}"
    assert str(caught.value).endswith(message)
    assert not caplog.records
