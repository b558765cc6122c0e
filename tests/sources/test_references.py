"""Parsing of module references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.sources.errors import SourceError
from wagi.sources.references import (
    BindleReference,
    FileReference,
    ImageReference,
    WebReference,
    file_name,
    parse_reference,
)

pytestmark = pytest.mark.fast

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello.wasm", FileReference("hello.wasm")),
        ("a/b:c.wasm", FileReference("a/b:c.wasm")),
        ("file:///a%20b", FileReference("/a b", is_url=True)),
        ("FILE:/a", FileReference("/a", is_url=True)),
        ("oci:hello", ImageReference("docker.io", "library/hello", "latest")),
        ("oci:team/hello:1", ImageReference("docker.io", "team/hello", "1")),
        ("oci:docker.io/hello:1", ImageReference("docker.io", "library/hello", "1")),
        ("oci:localhost/hello:1", ImageReference("localhost", "hello", "1")),
        ("oci:localhost:5000/hello", ImageReference("localhost:5000", "hello", "latest")),
        ("oci://registry/a/b/c:1.0", ImageReference("registry", "a/b/c", "1.0")),
        ("oci://r.example:5000/a", ImageReference("r.example:5000", "a", "latest")),
        (f"oci://r.example/a@{DIGEST}", ImageReference("r.example", "a", "", DIGEST)),
        (f"oci://r.example/a:1@{DIGEST}", ImageReference("r.example", "a", "", DIGEST)),
        ("oci://[::1]:5000/a:1", ImageReference("[::1]:5000", "a", "1")),
        ("oci://r.example/a__b-c.d:x", ImageReference("r.example", "a__b-c.d", "x")),
        ("bindle:a.example/b/1.0.0", BindleReference("a.example/b/1.0.0")),
        ("bindle://a/1.0.0-rc.1+x", BindleReference("a/1.0.0-rc.1+x")),
        ("https://a.example/x", WebReference("https://a.example/x")),
    ],
)
def test_valid_references(text: str, expected: object) -> None:
    assert parse_reference(text) == expected


def test_a_title() -> None:
    found = parse_reference("oci://r.example/a:1#b c.wasm")
    assert isinstance(found, ImageReference)
    assert found.title == "b c.wasm"


@pytest.mark.parametrize(
    "text",
    ["oci:", "oci://", "oci://r.example", "oci://r.example/", "oci://r.example/A", "oci://r/a:",
     "oci://r.example/a//b", "oci://r.example/../b", "oci://r.example/a/", "oci://r example/a",
     "oci://user@r.example/a", "oci://r.example/a@sha512:00", "oci://r.example/a:b:c", "oci://r/-a",
     "bindle:", "bindle:a", "bindle:/1", "bindle:a/", "bindle:../1.0", "bindle:a/../1",
     "bindle:a/1?x", "http:", "https://", "http:///x", "file:x", "file://host/x", "s3://a/b"],
)  # fmt: skip
def test_invalid_references(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_reference(text)
    assert caught.value.exit_status == 2


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_source_error(text: str) -> None:
    for scheme in ("", "oci:", "oci://", "bindle:", "https://", "file:///"):
        try:
            reference = parse_reference(scheme + text)
        except SourceError:
            continue
        name = file_name(reference)
        assert "/" not in name
        assert "\0" not in name
        assert not name.startswith(".")
        assert name.endswith(".wasm")


def test_secrets_are_not_shown() -> None:
    reference = parse_reference("https://user:secret@a.example/x.wasm?token=secret#secret")
    assert str(reference) == "https://a.example/x.wasm"
    assert file_name(reference) == "x.wasm"
