"""The file of --cache: the format of the original Wagi is accepted, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from wagi.errors import ConfigurationError
from wagi.guest.capi.cache_config import wasmtime_cache_file
from wagi.guest.capi.engine import Engine, Memory

pytestmark = pytest.mark.fast


def convert(folder: Path, text: str) -> str | None:
    path = folder / "cache.toml"
    path.write_bytes(text.encode())
    with wasmtime_cache_file(path) as file:
        return None if file is None else file.read_bytes().decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[cache]\nenabled = true\ndirectory = '/x'\n", "[cache]\n\ndirectory = '/x'\n"),
        ("[cache]\n  enabled=true # on\n", "[cache]\n\n"),
        ("cache.enabled = true\n", "\n"),
        ("\ufeff[cache]\nenabled = true\n", "[cache]\n\n"),
        ("\ufeff[cache]\n", "[cache]\n"),
        ("[cache]\nenabled = false\n", None),
        ("[cache]\nenabled = 1\n", "[cache]\nenabled = 1\n"),  # wasmtime reports it
        ("[cache]\n", "[cache]\n"),
        ("[cache\n", "[cache\n"),
    ],
)
def test_conversion(tmp_path: Path, text: str, expected: str | None) -> None:
    assert convert(tmp_path, text) == expected


def test_a_valid_file_is_used_directly(tmp_path: Path) -> None:
    path = tmp_path / "cache.toml"
    path.write_text("[cache]\n")
    with wasmtime_cache_file(path) as file:
        assert file == path


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_wasmtime_accepts_the_documented_file(tmp_path: Path, mark: str) -> None:
    """The file in the documentation of the original."""
    path = tmp_path / "cache.toml"
    path.write_text(f'{mark}[cache]\nenabled = true\ndirectory = "{tmp_path / "x"}"\n', "utf-8")
    Engine(Memory.ON_DEMAND, cache_config=path, isolated=True, compiled=False)


def test_messages_name_the_users_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.toml"
    path.write_text("[cache]\nenabled = true\nnonsense = 1\n")
    with pytest.raises(ConfigurationError) as caught:
        Engine(Memory.ON_DEMAND, cache_config=path, isolated=True, compiled=False)
    assert str(caught.value).startswith(f"{path}: ")
    assert "wagi-cache-config" not in str(caught.value)
