"""Where the time of a request goes within a worker, without sockets.

python -m benchmarks.stages MODULE   prints microseconds of each step as JSON
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tests.http.channels import MemoryTransport
from wagi import assembly
from wagi.config.settings import Settings
from wagi.gateway.answering import answer, reject
from wagi.gateway.concurrency import single_worker
from wagi.gateway.cycle import RequestCycle
from wagi.gateway.gateway import Gateway
from wagi.guest.budget import MemoryBudget
from wagi.http.connection import Connection
from wagi.http.parser import RequestParser
from wagi.http.server import HttpServer
from wagi.observe.module_log import ModuleLogs

_CONNECTIONS = 16
_COUNT = 20_000
_MAX_PASSES = 10_000  # of the event loop; nearly always two
_REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\r\n"
_STEPS: dict[tuple[type, str], str] = {
    (RequestParser, "next_event"): "parse the head",
    (RequestCycle, "__init__"): "make its record",
    (RequestCycle, "_find_route"): "find the route",
    (RequestCycle, "_build_environment"): "make variables and arguments",
    (RequestCycle, "_try_admit"): "admit the guest",
    (RequestCycle, "_start_guest"): "make the guest",
    (RequestCycle, "_step"): "run the guest",
    (RequestCycle, "_finish"): "make the response",
    (RequestCycle, "close"): "free the guest, complete the record",
}
"""The methods that are timed, none of which is called by another one; and what they do."""


def main(module: Path) -> dict[str, float]:
    """Microseconds of wall time of each step, and of all of a request."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        route_map = folder / "modules.toml"
        route_map.write_text(f'[[module]]\nroute = "/"\nmodule = "{module}"\n')
        settings = Settings(listen="127.0.0.1:0", workers=1)
        kept = stack.enter_context(assembly.stores(settings))
        plan = assembly.load(settings, route_map, kept, folder, lambda text: None)
        artefacts = {
            key: kept.artefacts.find(key) for route in plan.handlers for key in route.spec.artefacts
        }
        logs = ModuleLogs(folder, settings.log_size)
        stack.callback(logs.close)
        account = MemoryBudget(settings.memory_budget_size, workers=1).open_account()
        assert account is not None
        limits = stack.enter_context(single_worker(plan.limited_entries))
        gateway = assembly.make_gateway(
            settings,
            plan,
            {key: path for key, path in artefacts.items() if path},
            logs,
            account,
            limits,
            lambda exchange: None,
        )
        return asyncio.run(_measure(gateway, settings))


async def _measure(gateway: Gateway, settings: Settings) -> dict[str, float]:
    server = HttpServer(
        partial(answer, gateway), partial(reject, gateway), assembly.http_options(settings)
    )
    connections = [server() for _ in range(_CONNECTIONS)]
    transports = [MemoryTransport() for _ in connections]
    for connection, transport in zip(connections, transports, strict=True):
        connection.connection_made(transport)
    await _serve(connections, transports, _COUNT // 10)
    gc.collect()
    gc.freeze()
    seconds: defaultdict[str, float] = defaultdict(float)
    for (owner, method), step in _STEPS.items():
        setattr(owner, method, _timed(getattr(owner, method), step, seconds))
    total = await _serve(connections, transports, _COUNT)
    within, without = _timer_cost()
    steps = {step: (seconds[step] / _COUNT - within) * 1e6 for step in _STEPS.values()}
    whole = (total - len(_STEPS) * (within + without)) * 1e6
    steps["connection, event loop, all between"] = whole - sum(steps.values())
    return steps | {"all": whole}


async def _serve(
    connections: list[Connection], transports: list[MemoryTransport], count: int
) -> float:
    """Answer requests on all connections in turn. Returns: the seconds that one took."""
    began = time.perf_counter()
    for _ in range(count // len(connections)):
        for connection in connections:
            connection.data_received(_REQUEST)
        for _ in range(_MAX_PASSES):
            await asyncio.sleep(0)
            if all(transport.written for transport in transports):
                break
        for transport in transports:
            assert transport.written.startswith(b"HTTP/1.1 200")
            transport.written = b""
    return (time.perf_counter() - began) / count


def _timed(
    method: Callable[..., Any], step: str, seconds: defaultdict[str, float]
) -> Callable[..., Any]:
    """A method that adds the time of its calls, which do not wait, to those of a step."""

    if asyncio.iscoroutinefunction(method):

        async def timed_coroutine(*arguments: Any) -> Any:
            began = time.perf_counter()
            result = await method(*arguments)
            seconds[step] += time.perf_counter() - began
            return result

        return timed_coroutine

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        result = method(*arguments)
        seconds[step] += time.perf_counter() - began
        return result

    return timed


def _timer_cost() -> tuple[float, float]:
    """Seconds that a timer adds to what it measures, and besides."""
    seconds: defaultdict[str, float] = defaultdict(float)
    timed = _timed(lambda: None, "nothing", seconds)
    began = time.perf_counter()
    for _ in range(_COUNT):
        timed()
    whole = (time.perf_counter() - began) / _COUNT
    within = seconds["nothing"] / _COUNT
    return within, whole - within


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]).absolute())))
