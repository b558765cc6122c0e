"""Damaged components: an error, or a core module as it is described, never another exception."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.targets import component as check
from tests.support.components import COMMAND, HANDLER, LIBRARIES, component

SAMPLES = [component(text) for text in (COMMAND, HANDLER, LIBRARIES)]


@pytest.mark.parametrize("wasm", SAMPLES)
def test_every_truncation_is_an_error(wasm: bytes) -> None:
    for size in range(len(wasm)):
        check(wasm[:size])


@pytest.mark.parametrize("wasm", SAMPLES)
def test_every_changed_byte_is_handled(wasm: bytes) -> None:
    """Each byte with values that change counts, indices, kinds and the length of integers."""
    for at in range(len(wasm)):
        for value in (0xFF, wasm[at] ^ 1):
            check(wasm[:at] + bytes([value]) + wasm[at + 1 :])


edits = st.lists(
    st.tuples(st.integers(0, 4096), st.integers(0, 16), st.binary(max_size=12)), max_size=6
)


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(SAMPLES), edits)
def test_mutations_are_handled(wasm: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    for at, length, replacement in changes:
        at %= len(wasm) + 1
        wasm = wasm[:at] + replacement + wasm[at + length :]
    check(wasm)
