"""Invoices of bindles: parsing, modules, and the files of handlers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.bindles import WASM, file, handler, invoice, parcel
from wagi.sources.errors import FetchError
from wagi.sources.invoices import Invoice, parse_invoice

pytestmark = pytest.mark.fast

NAME = "example.com/hello/1.0.0"
HANDLER = b"\0asm\x01\0\0\0"
HEX = hashlib.sha256(HANDLER).hexdigest()


def parse(*parcels: dict[str, Any], groups: Mapping[str, list[str]] | None = None) -> Invoice:
    return parse_invoice(NAME, invoice(NAME, list(parcels), groups).encode())


def files(*parcels: dict[str, Any], groups: Mapping[str, list[str]] | None = None) -> list[str]:
    """The files of the first parcel."""
    found = parse(*parcels, groups=groups)
    return sorted(found.files(found.parcel[0]))


def test_an_invoice_of_the_bindle_specification() -> None:
    found = parse_invoice(
        "example.com/weather/0.1.0",
        b"""bindleVersion = "1.0.0"

[bindle]
name = "example.com/weather"
version = "0.1.0"
description = "Weather forecast"
authors = ["A <a@example.com>"]

[annotations]
engineering_location = "building 9"

[[parcel]]
[parcel.label]
sha256 = "e1706ab0a39ac88094b6d54a3f5cdba41fe5a901d2051dd4da6b3f3ea7d5d5a7"
mediaType = "application/wasm"
name = "weather.wasm"
size = 1710256
[parcel.label.feature.wagi]
route = "/weather"
""",
    )
    module = found.module("")
    assert module.label.wagi == {"route": "/weather"}
    assert module.label.digest == f"sha256:{module.label.sha256}"
    assert found.files(module) == {}


def test_the_first_module_is_chosen() -> None:
    text = parcel("README", b"text")
    member = parcel("library.wasm", b"library", WASM, member_of=("libraries",))
    found = parse(text, member, handler(HANDLER, "/"), handler(b"other", "/other"))
    assert found.module("").label.name == "root.wasm"


def test_a_module_is_chosen_by_its_digest() -> None:
    member = parcel("library.wasm", HANDLER, WASM, member_of=("libraries",))
    assert parse(handler(b"other", "/"), member).module(HEX).label.name == "library.wasm"


@pytest.mark.parametrize(
    ("parcels", "chosen"),
    [
        ((), ""),
        ((parcel("a.wasm", HANDLER),), ""),  # the media type is text/plain
        ((parcel("a.wasm", HANDLER, WASM, member_of=("g",)),), ""),
        ((handler(HANDLER, "/"),), "0" * 64),
    ],
)
def test_a_bindle_without_the_module(parcels: tuple[dict[str, Any], ...], chosen: str) -> None:
    with pytest.raises(FetchError, match="no parcel is a module"):
        parse(*parcels).module(chosen)


SHA256 = f'sha256 = "{HEX}"'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "invalid invoice: not valid TOML"),
        (b"[bindle", "invalid invoice: not valid TOML"),
        (b"", "invalid invoice: required key 'bindle' is missing"),
        (b'bindle = "a"', "invalid invoice: bindle: "),
        (b'[bindle]\nname = "a"', "invalid invoice: required key 'bindle.version' is missing"),
        (b'[bindle]\nname = "a"\nversion = 1', "invalid invoice: bindle.version: "),
    ],
)
def test_an_invalid_invoice(content: bytes, message: str) -> None:
    with pytest.raises(FetchError) as error:
        parse_invoice(NAME, content)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("size = 1", "required key 'parcel.0.label.sha256' is missing"),
        (SHA256, "required key 'parcel.0.label.size' is missing"),
        (f"{SHA256}\nsize = -1", "parcel.0.label.size: expected 0 or more"),
        (
            'sha256 = "../../etc/passwd"\nsize = 1',
            "parcel.0.label.sha256: expected a string that matches",
        ),
        (
            f'sha256 = "{HEX.upper()}"\nsize = 1',
            "parcel.0.label.sha256: expected a string that matches",
        ),
        (f"{SHA256}\nsize = 1\nfeature = 1", "parcel.0.label.feature: "),
        (f"{SHA256}\nsize = 1\nfeature.wagi.route = 1", "parcel.0.label.feature.wagi.route: "),
    ],
)
def test_an_invalid_label(label: str, message: str) -> None:
    content = invoice(NAME, []) + f"[[parcel]]\n[parcel.label]\n{label}"
    with pytest.raises(FetchError) as error:
        parse_invoice(NAME, content.encode())
    assert f"invalid invoice: {message}" in str(error.value)


def test_the_invoice_of_another_bindle() -> None:
    with pytest.raises(FetchError, match=r"expected the bindle b/1\.0\.0, found example"):
        parse_invoice("b/1.0.0", invoice(NAME, []).encode())


def test_a_handler_gets_the_files_of_the_groups_that_it_requires() -> None:
    parcels = (
        handler(HANDLER, "/", "site"),
        file("index.html", b"a", "site"),
        file("css/site.css", b"b", "theme"),
        file("secret.txt", b"c", "admin"),
        parcel(
            "notes.txt", b"d", member_of=("site",)
        ),  # without the feature, it is not a file of the handler
    )
    groups = {"site": ["theme"], "theme": []}
    assert files(*parcels, groups=groups) == ["css/site.css", "index.html"]


def test_parcels_may_require_groups() -> None:
    page = {**file("index.html", b"a", "site"), "requires": ["theme"]}
    style = file("site.css", b"b", "theme")
    assert files(handler(HANDLER, "/", "site"), page, style) == ["index.html", "site.css"]


def test_a_group_that_is_required_twice_is_read_once() -> None:
    groups = {"a": ["c"], "b": ["c"], "c": []}
    parcels = handler(HANDLER, "/", "a", "b"), file("c.txt", b"c", "c")
    assert files(*parcels, groups=groups) == ["c.txt"]


def test_paths_are_normalized() -> None:
    parcels = handler(HANDLER, "/", "g"), file("./a//b.txt", b"a", "g")
    assert files(*parcels) == ["a/b.txt"]


@pytest.mark.parametrize(
    "path",
    ["", ".", "/etc/passwd", "../a", "a/../../b", "a/..", "a\\b", "a\0b", "a\nb", "x" * 1025],
)
def test_a_path_that_is_invalid(path: str) -> None:
    with pytest.raises(FetchError, match="invalid file name"):
        files(handler(HANDLER, "/", "g"), file(path, b"a", "g"))


@pytest.mark.parametrize(
    ("parcels", "groups", "message"),
    [
        ((), {}, "the required group 'g' does not exist"),
        ((), {"g": ["h"]}, "the required group 'h' does not exist"),
        ((), {"g": ["g"]}, "groups require each other: g → g"),
        ((), {"g": ["h"], "h": ["g"]}, "groups require each other: g → h → g"),
        (
            (file("a", b"1", "g"), file("./a", b"2", "g")),
            {},
            "two parcels have the file name 'a'",
        ),
        (
            (file("a", b"1", "g"), file("a/b", b"2", "g")),
            {},
            "'a' is both a file and the directory of 'a/b'",
        ),
    ],
)
def test_contradictory_files(
    parcels: tuple[dict[str, Any], ...], groups: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(FetchError) as error:
        files(handler(HANDLER, "/", "g"), *parcels, groups=groups)
    assert message in str(error.value)


def test_the_same_file_twice_is_one_file() -> None:
    parcels = file("a", b"1", "g"), file("a", b"1", "g")
    assert files(handler(HANDLER, "/", "g"), *parcels) == ["a"]


def test_unknown_keys() -> None:
    """Keys of the specification that wagi does not use are not reported."""
    found = parse_invoice(
        NAME,
        f"""bindleVersion = "1.0.0"
yanked = false
yanked_reason = "x"
yanked_signature = []
annotation = 1
[annotations]
anything = "x"
[bindle]
name = "example.com/hello"
version = "1.0.0"
authors = []
licence = "MIT"
[[group]]
name = "files"
required = true
satisfiedBy = "allOf"
[[parcel]]
[parcel.label]
{SHA256}
size = 1
media_type = "application/wasm"
origin = "x"
sha512 = "x"
signature = []
[parcel.label.feature.wagi]
anything = "x"
[parcel.conditions]
member_of = ["files"]
""".encode(),
    )
    assert list(found.unknown_keys()) == [
        "unknown key 'annotation' is ignored: did you mean 'annotations'?",
        "unknown key 'bindle.licence' is ignored: known keys: authors, description, name, version",
        "unknown key 'parcel.0.label.media_type' is ignored: did you mean 'mediaType'?",
        "unknown key 'parcel.0.conditions.member_of' is ignored: did you mean 'memberOf'?",
    ]
