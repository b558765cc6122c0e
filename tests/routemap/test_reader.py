"""The format of a route map is chosen by the name of its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.route_maps import POD
from wagi.errors import ConfigurationError
from wagi.routemap.location import Location
from wagi.routemap.reader import read_route_map


@pytest.mark.parametrize("suffix", [".wasm", ".wat"])
def test_a_module_responds_to_every_path(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"hello{suffix}"
    path.write_text("")
    found = read_route_map(path)
    (entry,) = found.modules
    assert (entry.route, entry.module, found.folder) == ("/...", path.name, tmp_path)
    assert entry.location("module") == found.location == Location(path)


def test_a_module_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no such file: .*hello\.wasm"):
        read_route_map(tmp_path / "hello.wasm")


@pytest.mark.parametrize("name", ["pod.yaml", "pod.yml"])
def test_a_pod(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(POD)
    assert len(read_route_map(tmp_path / name).modules) == 2


def test_any_other_name_is_a_modules_toml(tmp_path: Path) -> None:
    (tmp_path / "routes").write_text('[[module]]\nroute = "/"\nmodule = "a.wasm"\n')
    assert [entry.route for entry in read_route_map(tmp_path / "routes").modules] == ["/"]


@pytest.mark.parametrize(
    ("name", "language"),
    [("hello.rs", "Rust"), ("main.go", "Go"), ("a.c", "C"), ("app.py", "Python"), ("x.ts", "T")],
)
def test_source_code_is_not_a_route_map(tmp_path: Path, name: str, language: str) -> None:
    (tmp_path / name).write_text("fn main() {}\n")
    with pytest.raises(ConfigurationError) as caught:
        read_route_map(tmp_path / name)
    message = str(caught.value)
    assert f"{name} is {language}" in message
    assert "source code: compile it to WebAssembly (wasm32-wasip1)" in message
    assert "`wagi new`" in message


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.com/hello.wasm",
        "http://example.com/a/b.toml",
        "oci:registry.example/hello:1",
        "oci://registry.example/hello:1",
    ],
)
def test_a_reference_is_not_a_file(reference: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a file: name it") as found:
        read_route_map(Path(reference))
    assert str(found.value).startswith(reference.replace("oci://", "oci:"))
