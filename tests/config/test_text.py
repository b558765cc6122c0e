"""Handwritten text files, and suggestions for files that do not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from wagi.config.text import read_text, suggest_file
from wagi.errors import ConfigurationError

pytestmark = pytest.mark.fast


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "modules.toml"
    path.write_bytes("\ufeffa = '\ufeff'".encode())
    assert read_text(path) == "a = '\ufeff'"


def test_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "modules.toml"
    path.write_bytes("\ufeffa = 1".encode("utf-16-le"))
    with pytest.raises(ConfigurationError, match="1: expected UTF-8 text, found other bytes"):
        read_text(path)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("helo.wasm", "hello.wasm"),
        ("hello.wat", "hello.wasm"),
        ("modul.toml", "modules.toml"),
        ("b.wasm", ""),  # extensions do not count as similar
        ("hello.toml", ""),
        ("absent/hello.wasm", ""),
        ("\0/hello.wasm", ""),
    ],
)
def test_suggestions(tmp_path: Path, name: str, suggestion: str) -> None:
    for existing in ("hello.wasm", "a.wasm", "modules.toml"):
        (tmp_path / existing).touch()
    expected = f": did you mean {suggestion!r}?" if suggestion else ""
    assert suggest_file(tmp_path / name) == expected


def test_the_message_about_a_missing_modules_toml(tmp_path: Path) -> None:
    (tmp_path / "modules.toml").touch()
    with pytest.raises(ConfigurationError, match=r"-c\): did you mean 'modules.toml'\?"):
        read_text(tmp_path / "module.toml")
