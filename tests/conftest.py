"""Configuration of the whole suite: Hypothesis, xdist, and what ``pytest -m fast`` skips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.support.scheduling import FileScheduling

_FAST_EXAMPLES = 25
"""Inputs for each property in ``pytest -m fast``; the whole suite takes Hypothesis' default."""

# No limits of time: they fail on a busy machine.
settings.register_profile("full", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", settings.get_profile("full"), max_examples=_FAST_EXAMPLES)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if _only_fast(config) else "full")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip files without a fast test: importing all of them takes longer than the fast tests."""
    if not _only_fast(config) or collection_path.suffix != ".py":
        return None
    return "mark.fast" not in collection_path.read_text(encoding="utf-8") or None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling | None:
    from tests.support.scheduling import FileScheduling

    return FileScheduling(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # in a process of pytest-xdist
        from tests.support.scheduling import sort_by_duration

        sort_by_duration(items)


def _only_fast(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "fast")
