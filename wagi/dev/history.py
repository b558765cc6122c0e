"""What the dev page shows: finished and running requests, routes and problems."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from typing import Any

_ENTRIES_MAX = 200
_ENTRIES_SIZE_MAX = 16 * 1024 * 1024  # bytes of all entries
_QUEUE_MAX = 1000  # events that wait for one browser


class History:
    """Collects the events of all workers, and sends them to the open pages.

    Args:
        map_options: The options that select the route map, for commands such as ``wagi call``.

    Attributes:
        url: Where the server listens; empty until a worker has started.
    """

    def __init__(self, map_options: Sequence[str] = ()) -> None:
        self.url = ""
        self._project = json.dumps({"type": "project", "options": list(map_options)})
        self._routes = ""
        self._problem = ""
        self._snapshots = ""
        self._entries: dict[str, str] = {}  # finished requests by key, the oldest first
        self._size = 0
        self._running: dict[Hashable, list[dict[str, Any]]] = {}  # by worker
        self._pages: set[asyncio.Queue[str | None]] = set()

    def add(self, worker: Hashable, line: bytes) -> None:
        """Add an event of a worker: a JSON object."""
        text = line.decode().rstrip()
        event = json.loads(text)
        match event["type"]:
            case "routes":
                self._routes, self.url = text, event["url"]
                self._send(text)
            case "running":
                self._running[worker] = event["requests"]
                self._send(self._running_event())
            case "exchange":
                self._add_entry(event["key"], text)
                self._send(text)
                self._finish(worker, event["key"])

    def remove_worker(self, worker: Hashable) -> None:
        """Record that the running requests of a worker have failed: it has died."""
        requests = self._running.pop(worker, [])
        for request in requests:
            self._add_entry(request["key"], text := json.dumps(_lost(request)))
            self._send(text)
        if requests:
            self._send(self._running_event())

    def set_problem(self, problem: str) -> None:
        """Show why the last load or build failed; an empty string if it did not."""
        event = json.dumps({"type": "problem", "text": problem})
        if event != self._problem:
            self._problem = event
            self._send(event)

    def set_snapshots(self, states: Mapping[str, str]) -> None:
        """Show the states of snapshots that are not in use, by the routes of entries."""
        event = json.dumps({"type": "snapshots", "states": states})
        if event != self._snapshots:
            self._snapshots = event
            self._send(event)

    def clear(self) -> None:
        """Remove all finished requests."""
        self._entries.clear()
        self._size = 0
        self._send(self._listed_event())

    def entry(self, key: str) -> dict[str, Any] | None:
        """The record of a finished request; None if it is not listed any more."""
        text = self._entries.get(key)
        return None if text is None else json.loads(text)

    def worker_of(self, key: str) -> Hashable | None:
        """The worker that is answering a request; None if it is not running any more."""
        for worker, requests in self._running.items():
            if any(request["key"] == key for request in requests):
                return worker
        return None

    async def events(self) -> AsyncIterator[str]:
        """All events so far, then each new one. It ends if its reader is too slow."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(_QUEUE_MAX)
        self._pages.add(queue)
        try:
            listed, running = self._listed_event(), self._running_event()
            state = (
                listed,
                self._project,
                self._routes,
                self._problem,
                self._snapshots,
                *self._entries.values(),
                running,
            )
            for event in filter(None, state):
                yield event
            while (next_event := await queue.get()) is not None:
                yield next_event
        finally:
            self._pages.discard(queue)

    def _add_entry(self, key: str, text: str) -> None:
        self._entries[key] = text
        self._size += len(text)
        while len(self._entries) > _ENTRIES_MAX or self._size > _ENTRIES_SIZE_MAX:
            oldest = next(iter(self._entries))
            self._size -= len(self._entries.pop(oldest))

    def _finish(self, worker: Hashable, key: str) -> None:
        requests = self._running.get(worker, [])
        left = [request for request in requests if request["key"] != key]
        if len(left) < len(requests):
            self._running[worker] = left
            self._send(self._running_event())

    def _listed_event(self) -> str:
        """Which finished requests there are: a page that connects again may show others."""
        return json.dumps({"type": "listed", "keys": list(self._entries)})

    def _running_event(self) -> str:
        requests = [request for listed in self._running.values() for request in listed]
        requests.sort(key=lambda request: request["received"])
        return json.dumps({"type": "running", "requests": requests})

    def _send(self, event: str) -> None:
        for queue in list(self._pages):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:  # the page connects again, and gets the current state
                self._pages.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)


def _lost(request: dict[str, Any]) -> dict[str, Any]:
    """The record of a running request whose worker has died."""
    failure = {
        "cause": "the worker process died before it answered",
        "details": [],
        "frames": [],
        "library_frames": [],
        "hint": "the log of the server has the reason",
    }
    return {
        **request,
        "type": "exchange",
        "status": 0,
        "module": "",
        "ms": (time.time() - request["received"]) * 1000,
        "headers": [],
        "failure": failure,
        "guest": None,
    }
