"""A short run of the fuzz targets: the corpus, and inputs derived from it.

``python -m fuzz`` is the long run, guided by coverage.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import targets
from tests.support.toolchains import require_core

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
NAMES = ["response", "parser", "request", "hostcalls", "core", "component", "preview2"]
EXAMPLES = {"core": 100, "component": 1000, "preview2": 500}
"""Number of inputs per target, if not 2,000."""
SEEDS = {name: [path.read_bytes() for path in sorted((CORPUS / name).iterdir())] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus(name: str) -> None:
    assert len(SEEDS[name]) >= 20
    if name == "core":
        require_core()
    for data in SEEDS[name]:
        getattr(targets, name)(data)


edits = st.lists(
    st.tuples(
        st.integers(0, 4096),
        st.integers(0, 8),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"\r\n", b"\n", b"\0", b":", b" ", b"..", b"%2e", b"\xff" * 4]),
        ),
    ),
    max_size=4,
)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_derived_from_the_corpus(name: str) -> None:
    """Two inputs joined, and pieces of them replaced."""
    if name == "core":
        require_core()
    examples = EXAMPLES.get(name, 2000)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(SEEDS[name]), st.sampled_from(SEEDS[name]), st.booleans(), edits)
    def run(first: bytes, second: bytes, join: bool, changes: list[tuple[int, int, bytes]]) -> None:
        data = first + second[1:] if join else first
        for at, length, replacement in changes:
            at %= len(data) + 1
            data = data[:at] + replacement + data[at + length :]
        getattr(targets, name)(data)

    run()
