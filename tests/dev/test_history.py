"""What the dev page collects from the workers, and sends to browsers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from wagi.dev import history as module
from wagi.dev.history import History

pytestmark = pytest.mark.fast


def line(**event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"


def exchange(key: str, text: str = "") -> bytes:
    return line(type="exchange", key=key, text=text)


def running(*keys: str) -> bytes:
    requests = [{"key": key, "received": 1.0} for key in keys]
    return line(type="running", requests=requests)


def state(history: History) -> list[dict[str, Any]]:
    """What a browser receives that opens the page now."""

    async def collect() -> list[dict[str, Any]]:
        found = []
        async for event in history.events():
            found.append(json.loads(event))
            if found[-1]["type"] == "running":  # the last part of the state
                return found
        raise AssertionError

    return asyncio.run(collect())


def keys(history: History) -> list[str]:
    return [event["key"] for event in state(history) if event["type"] == "exchange"]


def running_keys(history: History) -> list[str]:
    return [request["key"] for request in state(history)[-1]["requests"]]


def test_a_new_browser_receives_the_state() -> None:
    history = History()
    history.add(1, line(type="routes", url="http://localhost:3000", routes=[]))
    history.set_problem("broken")
    history.set_snapshots({"/": "snapshot being made"})
    history.add(1, exchange("1-1"))
    history.add(1, running("1-2"))
    assert history.url == "http://localhost:3000"
    types = [event["type"] for event in state(history)]
    assert types == ["listed", "project", "routes", "problem", "snapshots", "exchange", "running"]
    assert state(history)[0]["keys"] == ["1-1"]


def test_the_oldest_entries_are_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their number, and by their size."""
    monkeypatch.setattr(module, "_ENTRIES_MAX", 2)
    history = History()
    for number in range(3):
        history.add(1, exchange(f"1-{number}"))
    assert keys(history) == ["1-1", "1-2"]
    monkeypatch.setattr(module, "_ENTRIES_SIZE_MAX", 1000)
    history.add(1, exchange("1-3", "x" * 980))
    assert keys(history) == []
    history.add(1, exchange("1-4"))
    assert keys(history) == ["1-4"]


def test_a_finished_request_is_not_running() -> None:
    history = History()
    history.add(1, running("1-1", "1-2"))
    history.add(2, running("2-1"))
    assert history.worker_of("2-1") == 2
    history.add(1, exchange("1-1"))
    assert running_keys(history) == ["1-2", "2-1"]
    assert history.worker_of("1-1") is None


def test_the_running_requests_of_a_worker_that_has_died_are_failures() -> None:
    history = History()
    history.add(1, running("1-1"))
    history.add(2, running("2-1"))
    history.remove_worker(1)
    assert running_keys(history) == ["2-1"]
    entry = history.entry("1-1")
    assert entry is not None
    assert entry["status"] == 0
    assert entry["failure"]["cause"] == "the worker process died before it answered"


def test_cleared_entries_are_gone() -> None:
    history = History()
    history.add(1, exchange("1-1"))
    assert history.entry("1-1") == {"type": "exchange", "key": "1-1", "text": ""}
    history.clear()
    assert history.entry("1-1") is None
    assert keys(history) == []


def test_events_of_a_browser_that_does_not_keep_up_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It connects again and receives the state."""
    monkeypatch.setattr(module, "_QUEUE_MAX", 3)

    async def read() -> list[str]:
        history = History()
        events = history.events()
        found = [json.loads(await anext(events))["type"]]
        for number in range(5):
            history.add(1, exchange(f"1-{number}"))
        return [*found, *[json.loads(event)["type"] async for event in events]]

    assert asyncio.run(read()) == ["listed", "project", "running", "exchange", "exchange"]
