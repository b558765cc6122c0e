"""The gateway with its guests run by the compiled shim: what the next lever would bring.

An experiment: it serves one module that reads nothing and ends in its first slice.

    python -m benchmarks.shimmed hello.wasm
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.guest_cost import load_shim, prepare
from wagi.config.values import HostPort
from wagi.gateway import cycle
from wagi.gateway.concurrency import WorkerLimits
from wagi.gateway.gateway import Gateway
from wagi.guest.artefacts import Artefacts
from wagi.guest.budget import unlimited_account
from wagi.guest.engine import Runtime, parse
from wagi.guest.handler import Handler
from wagi.guest.outcome import Outcome, Returned
from wagi.guest.wasi.context import WaitReason
from wagi.guest.wasi.streams import Stdin, Stdout
from wagi.http.body import BodyLimits
from wagi.http.connection import HttpOptions
from wagi.http.forwarded import TrustedProxies
from wagi.http.parser import HeadLimits
from wagi.http.server import HttpServer
from wagi.loading import plan, read_route_map, table
from wagi.observe.access_log import AccessLog
from wagi.observe.module_log import ModuleLogs
from wagi.sources.modules import Fetched


async def _main(module: Path, content: bytes, folder: Path) -> None:
    logs = ModuleLogs(folder, 1024**2)
    store = Artefacts(folder / "artefacts", 1024**3)
    runtime = Runtime(store)
    planned = plan(read_route_map(module), [Fetched(content, "")], {}, logs, runtime, 0)
    paths = {route.spec.key: store.find(route.spec.key) for route in planned.routes}
    artefacts = {key: path for key, path in paths.items() if path}
    limits = WorkerLimits(0, {}, [])
    routes = table(planned, artefacts, logs, runtime, limits)
    ((_, route),) = routes
    shim = load_shim(folder / "shim.so")
    engine = route.handler.pre.engine
    prepared = prepare(engine, parse(module.name, content, 1).wasm, shim)
    arguments = (ctypes.c_void_p(engine.address), ctypes.c_void_p(prepared.address))
    run, output, peek = shim.shim_run, shim.shim_output(), ctypes.string_at

    class Guest:
        """One call runs all of it."""

        def __init__(self, _handler: Handler, *_rest: Any) -> None:
            self.stdin, self.stdout = Stdin(), Stdout(1 << 30)
            self.wait, self.cpu_seconds = WaitReason(), 0.0
            self.outcome: Outcome | None = None

        def step(self) -> bool:
            self.stdout.write(peek(output, run(*arguments)))
            self.outcome = Returned()
            return True

        def close(self) -> None:
            """It is."""

    cycle.Guest = Guest  # type: ignore[misc, assignment]
    gateway = Gateway(
        routes,
        HostPort("localhost", 3000),
        BodyLimits(0, 0, 0),
        1000,
        unlimited_account(),
        limits,
        AccessLog("off", None),
    )
    gc.collect()
    gc.freeze()
    options = HttpOptions(HeadLimits(8192, 65536), 10, 75, 10_000, TrustedProxies())
    http = HttpServer(partial(cycle.answer, gateway), partial(cycle.reject, gateway), options)
    server = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        path = Path(sys.argv[1])
        asyncio.run(_main(path, path.read_bytes(), Path(name)))
