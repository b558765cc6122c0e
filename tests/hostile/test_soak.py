"""A short soak test; ``python -m tests.hostile.soak`` is the long version."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.soak import CLIENTS, MIB, soak


def test_a_short_soak(tmp_path: Path) -> None:
    """Every response is byte-exact, memory does not grow, and no descriptor is leaked."""
    report = soak(15, tmp_path, print)
    assert not report.wrong
    assert set(report.outcomes) == set(CLIENTS)
    sizes = [rss for _, rss, _ in report.after_warm_up()]
    assert max(sizes) - min(sizes) < 64 * MIB
