"""The index spaces of a component; hostile bytes are an error, never an exception."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.components import COMMAND, component
from wagi.guest.binary import MalformedModuleError, leb
from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.graph import read_component

pytestmark = pytest.mark.fast

HEADER = b"\0asm\x0d\0\x01\0"


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + leb(len(content)) + content


def test_imports_exports_and_producers() -> None:
    custom = section(0, b"\x09producers\x00")
    found = read_component(component(COMMAND) + custom)
    assert found.imports == ["wasi:cli/exit@0.2.0", "wasi:random/random@0.2.3"]
    assert list(found.exports) == ["wasi:cli/run@0.2.0"]
    assert found.producers == b"\0"
    assert len(found.modules) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0asm\x01\0\0\0", "not a component of version 1"),
        (HEADER + b"\x07", "unexpected end of a section"),
        (HEADER + b"\x07\x05\0", "truncated"),
        (HEADER + section(7, b"\x00\x00"), "a section is longer than its content"),
        (HEADER + section(8, b"\x01\x01\0\x05\0"), "an index is out of range: 5 of 0"),
        (HEADER + section(8, b"\x01\x00\0\x05\0\0"), "an index is out of range: 5 of 0"),
        (HEADER + section(2, b"\x01\0\x07\0"), "an index is out of range: 7 of 0"),
        (HEADER + section(2, b"\x01\x02"), "unknown kind of core instance: 2"),
        (HEADER + section(5, b"\x01\x02"), "unknown kind of instance: 2"),
        (HEADER + section(5, b"\x01\0\x07\0"), "an index is out of range: 7 of 0"),
        (HEADER + section(6, b"\x01\x01\0\x07\x01a"), "an index is out of range: 7 of 0"),
        (HEADER + section(11, b"\x01\0\x01a\x01\x07\0"), "an index is out of range: 7 of 0"),
        (HEADER + section(2, b"\xff\xff\xff\xff\x0f"), "unexpected end of a section"),
    ],
)
def test_invalid_components(content: bytes, message: str) -> None:
    with pytest.raises(MalformedModuleError, match=message):
        read_component(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "(component (component $c (core module)) (instance (instantiate $c)))",
            "is composed of several components (wac, spin compose, WASI-Virt)",
        ),
        (
            '(component (import "f" (func $f)) (core func (canon lower (func $f) async)))',
            "uses WASI preview 3 (asynchronous functions)",
        ),
        ("(component (core func (canon backpressure.inc)))", "uses WASI preview 3"),
        (
            '(component (import "f" (func $f)) (core func'
            " (canon lower (func $f) string-encoding=utf16)))",
            "uses strings that are not UTF-8",
        ),
    ],
)
def test_parts_that_are_not_supported(text: str, message: str) -> None:
    with pytest.raises(UnsupportedComponentError, match=re.escape(message)):
        read_component(component(text))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_malformed(content: bytes) -> None:
    with contextlib.suppress(MalformedModuleError, UnsupportedComponentError):
        read_component(HEADER + content)
