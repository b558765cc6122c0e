"""What is measured: each function measures the rows of one table, which its docstring describes."""

from __future__ import annotations

import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import plot, programs, servers
from benchmarks.load import Effort, Load, measure, open_requests
from benchmarks.machine import (
    AVAILABLE,
    ROOT,
    descendants,
    parallel_capacity,
    pinned,
    resident,
    server_cores,
)
from benchmarks.report import Row, Rows, Table, compared, grown, spread
from tests.support.toolchains import compiled
from wagi.guest.binary import leb

MIB = 1024 * 1024
GREEDY_GUESTS, SLEEPING_GUESTS = 32, 1000
CHROME = (
    ("Connection", "keep-alive"),
    ("sec-ch-ua", '"Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"'),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", '"Linux"'),
    ("Upgrade-Insecure-Requests", "1"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/142.0.0.0 Safari/537.36",
    ),
    (
        "Accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
        "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
    ),
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-User", "?1"),
    ("Sec-Fetch-Dest", "document"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-US,en;q=0.9"),
)
"""What Chrome sends besides Host when an address is typed in."""


def throughput(effort: Effort) -> Rows:
    """One worker, 64 connections, relative to a bare aiohttp handler. Chrome's headers are 13
    fields besides Host; the access log is in its default format and goes to a file; all rows
    without one have it off."""
    c, small = "hello in C", "hello in C, 32 KiB of stack"
    kinds = ("hello in WAT", c, small, "hello in Rust", "environment dump in Rust", "hello in Go")
    with ExitStack() as stack:
        folder, paths = stack.enter_context(site(*kinds))
        bare = stack.enter_context(servers.bare())
        parsing = stack.enter_context(servers.bare("parsing"))
        wagi = stack.enter_context(servers.wagi(folder))
        logging = stack.enter_context(servers.wagi(folder, access_log="text"))
        python = stack.enter_context(servers.wagi(folder, core="off"))
        loads = {
            "bare aiohttp handler": Load(bare),
            "the same, Chrome's headers": Load(bare, headers=CHROME),
            "the same, variables built, CGI parsed": Load(parsing),
            **{kind: Load(wagi, paths[kind]) for kind in kinds},
        }
        hello = Load(wagi, paths[c])
        loads |= {
            f"{c}, Chrome's headers": replace(hello, headers=CHROME),
            f"{c}, access log": replace(hello, server=logging),
            f"{c}, access log, Chrome's headers": Load(logging, paths[c], headers=CHROME),
            f"{c}, WAGI_CORE=off": Load(python, paths[c]),
            f"{small}, WAGI_CORE=off": Load(python, paths[small]),
        }
        return compared(measure(loads, effort))


def bodies(effort: Effort) -> Rows:
    """Bodies, one worker: an echo of POST requests, and 10 MiB of output, each relative to an
    aiohttp handler that does the same. 1 KiB is measured at 64 connections, 1 MiB at 8 and 10 MiB
    at 4, as requests that are not finished at the end are not counted."""
    rows: Rows = {}
    with ExitStack() as stack:
        folder, paths = stack.enter_context(site("echo in C", "10 MiB in C"))
        wagi = stack.enter_context(servers.wagi(folder))
        echo = stack.enter_context(servers.bare("echo"))
        streaming = stack.enter_context(servers.bare("streaming"))
        for name, size, count in (("1 KiB", 1024, 64), ("1 MiB", MIB, 8)):
            loads = {
                f"echo of {name} in aiohttp": Load(echo, "/", count, size),
                f"echo of {name} in C": Load(wagi, paths["echo in C"], count, size),
            }
            rows |= compared(measure(loads, effort))
        loads = {
            "10 MiB out of aiohttp": Load(streaming, connections=4),
            "10 MiB out of C": Load(wagi, paths["10 MiB in C"], connections=4),
        }
        return rows | compared(measure(loads, effort))


def wasmtime(effort: Effort) -> Rows:
    """64 connections, relative to `wasmtime serve` with a WAT component that
    prints the same line, on the same core, or on the same two with two workers. Two cores are
    shared with the load generator."""
    rows: Rows = {}
    kinds = ("hello in WAT", "hello in C", "hello in C, 32 KiB of stack")
    with site(*kinds) as (folder, paths):
        command = programs.wasmtime_command(folder)
        for cores in range(1, min(len(AVAILABLE), 2) + 1):
            label = f"{cores} core{'s' * (cores > 1)}"
            with (
                servers.wasmtime_serve(command, cores) as serve,
                servers.wagi(folder, workers=cores) as wagi,
            ):
                loads = {f"wasmtime serve, {label}": Load(serve)}
                loads |= {f"{kind}, {label}": Load(wagi, paths[kind]) for kind in kinds}
                rows |= compared(measure(loads, effort))
    return rows


def components(effort: Effort) -> Rows:
    """Handlers of wasi:http: a hello, and an echo of POST requests, on one core, 16 connections
    (4 for 1 MiB), relative to `wasmtime serve` with the same component on the same core."""
    rows: Rows = {}
    for language, build in programs.COMPONENTS.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            component = folder / "handler.wasm"
            shutil.copy(build(), component)
            (folder / "modules.toml").write_text(programs.entry("/...", component.name))
            command = programs.wasmtime_command(folder)
            serve = stack.enter_context(servers.wasmtime_serve(command, component=component))
            wagi = stack.enter_context(servers.wagi(folder))
            for label, path, count, size in (
                ("hello", "/hello", 16, 0),
                ("echo of 1 KiB", "/echo", 16, 1024),
                ("echo of 1 MiB", "/echo", 4, MIB),
            ):
                loads = {
                    f"{label} in {language}, wasmtime serve": Load(serve, path, count, size),
                    f"{label} in {language}": Load(wagi, path, count, size),
                }
                rows |= compared(measure(loads, effort))
    return rows


def alternatives(effort: Effort) -> Rows:
    """What else runs a program for each request, on one core, 16 connections, relative to the C
    hello of wagi with one worker. There is no CPU time, as that of the programs that fcgiwrap runs
    is lost: it has the kernel reap them."""
    with ExitStack() as stack:
        folder, paths = stack.enter_context(site("hello in C"))
        folder.chmod(0o755)  # fcgiwrap's programs run as another user
        module = compiled(programs.HELLO_C)
        native = programs.native(programs.HELLO_C, folder / "native.cgi")
        command = programs.wasmtime_command(folder)
        script = programs.wasmtime_script(command, module, folder)
        found = {
            "hello in C on wagi": stack.enter_context(servers.wagi(folder)),
            "node's WASI behind its http server": stack.enter_context(
                servers.node_wasi(module, folder)
            ),
            "native C under nginx and fcgiwrap": stack.enter_context(
                servers.fcgiwrap(native, folder)
            ),
            "wasmtime run under nginx and fcgiwrap": stack.enter_context(
                servers.fcgiwrap(script, folder)
            ),
        }
        path = paths["hello in C"]
        loads = {name: Load(server, path, connections=16) for name, server in found.items()}
        return rates(compared(measure(loads, effort)))


def connections(effort: Effort) -> Rows:
    """The C hello with one worker and with two, relative to a bare aiohttp handler with as many
    connections. "Two workers to one" leaves out the load generator, which shares the cores of two
    workers: it is twice the CPU time of a request with one worker to that with two. The last row
    is what two busy processes get done without any server, relative to one."""
    with ExitStack() as stack:
        folder, paths = stack.enter_context(site("hello in C"))
        found = (
            stack.enter_context(servers.bare()),
            stack.enter_context(servers.wagi(folder)),
            stack.enter_context(servers.wagi(folder, workers=2)),
        )
        loads = {
            plot.row_name(series, count): Load(server, paths["hello in C"], count)
            for count in plot.COUNTS
            for series, server in zip(plot.SERIES, found, strict=True)
        }
        results = measure(loads, effort)
    rows: Rows = {}
    two_to_one: Rows = {}
    for count in plot.COUNTS:
        names = [plot.row_name(series, count) for series in plot.SERIES]
        rows |= compared({name: results[name] for name in names})
        _, one, two = (results[name] for name in names)
        ratios = [2 * a.cpu / b.cpu for a, b in zip(one, two, strict=True)]
        if count > 1:
            two_to_one[f"two workers to one, {count} connections"] = spread("CPU ratio", ratios)
    return rows | two_to_one | {"two busy processes to one": {"rate ratio": parallel_capacity()}}


def fairness(effort: Effort) -> Rows:
    """The C hello at 8 connections with one worker, alone, and beside 8 endless loops in the same
    worker."""
    with site("hello in C", "endless loop") as (folder, paths), servers.wagi(folder) as wagi:
        hello = Load(wagi, paths["hello in C"], connections=8)
        loads = {"alone": hello, "beside": replace(hello, beside=paths["endless loop"])}
        results = measure(loads, effort)
    rows = rates(compared(results))
    pairs = zip(results["alone"], results["beside"], strict=True)
    ratios = [beside.p99 / alone.p99 for alone, beside in pairs]
    return {
        "alone": rows["alone"],
        "beside 8 endless loops": rows["beside"] | spread("p99 ratio", ratios),
    }


def start(effort: Effort) -> Rows:
    """Seconds from the command to the first answer, relative to importing the packages that the
    gateway cannot do without: `python -c "import aiohttp, wasmtime, pydantic"`. A warm start finds
    the modules of the cold one before it compiled."""
    base = "importing the packages"
    found: dict[str, list[float]] = {}
    hello = compiled(programs.HELLO_C).read_bytes()
    for _ in range(effort.rounds):
        began = time.perf_counter()
        with pinned(server_cores(1)):
            subprocess.run([sys.executable, "-c", "import aiohttp, wasmtime, pydantic"], check=True)
        found.setdefault(base, []).append(time.perf_counter() - began)
        for count in (1, 100):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                text = ""
                for number in range(count):
                    # The padding makes it a module of its own.
                    content = padded(hello, number.to_bytes(8, "big"))
                    (folder / f"{number}.wasm").write_bytes(content)
                    text += programs.entry(f"/{number}", f"{number}.wasm")
                (folder / "modules.toml").write_text(text)
                for state in ("cold", "warm"):
                    row = f"{count} module{'s' * (count > 1)}, {state}"
                    found.setdefault(row, []).append(first_answer(folder))
    return {
        name: {
            "seconds": statistics.median(seconds),
            "ratio": statistics.median(s / b for s, b in zip(seconds, found[base], strict=True)),
        }
        for name, seconds in found.items()
    }


def memory(_effort: Effort) -> Rows:
    """Resident memory of one worker: idle; after guests that each touch all of their 244 MiB and
    run one after the other; and while guests in C sleep, and after they have been cancelled. A
    second is left for what has ended to be freed."""
    rows: Rows = {}

    def row(worker: int, idle: int) -> Row:
        size = resident(worker)
        return {"MiB": size / MIB, "MiB over idle": (size - idle) / MIB, "ratio": size / idle}

    with site("hello in C", "244 MiB in C", "sleep in C") as (folder, paths):
        with worker_of(folder, paths["hello in C"]) as (server, worker, idle):
            rows["idle"] = row(worker, idle)
            for _ in range(GREEDY_GUESTS):
                answer(server.url + paths["244 MiB in C"])
            time.sleep(1)
            rows[f"after {GREEDY_GUESTS} guests of 244 MiB"] = row(worker, idle)
        for count in (1, 100, SLEEPING_GUESTS):
            guests = f"{count:,} sleeping guest{'s' * (count > 1)}"
            with worker_of(folder, paths["hello in C"]) as (server, worker, idle):
                with open_requests(server.url + paths["sleep in C"], count) as sockets:
                    for connection in sockets:  # the head of the response: the guest is running
                        head = connection.recv(1024)
                        assert head.startswith(b"HTTP/1.1 200"), head
                    rows[guests] = row(worker, idle)
                time.sleep(1)
                rows[f"after {guests}"] = row(worker, idle)
    return rows


def guest(effort: Effort) -> Rows:
    """CPU time of one guest in a loop without a server: through wasmtime's C API alone, as wagi
    runs it, and as it runs it without its compiled core; relative to the first."""
    rows: Rows = {}
    with tempfile.TemporaryDirectory() as name:
        for kind in ("hello in WAT", "hello in C, 32 KiB of stack", "hello in C"):
            module = programs.BUILDERS[kind](Path(name))
            found: dict[str, list[float]] = {}
            for _ in range(effort.rounds):
                for label, core in (
                    (", wagi", {}),
                    (", wagi, WAGI_CORE=off", {"WAGI_CORE": "off"}),
                ):
                    cost = json_of("benchmarks.guest_cost", module, core)
                    if not core:
                        found.setdefault(", C API alone", []).append(cost["C API"])
                    found.setdefault(label, []).append(cost["wagi"])
            floor = next(iter(found.values()))
            for label, costs in found.items():
                ratios = [cost / base for base, cost in zip(floor, costs, strict=True)]
                rows[kind + label] = {"CPU µs": statistics.median(costs)} | spread("cost", ratios)
    return rows


def stages(effort: Effort) -> Rows:
    """Wall time of the steps of one request, a hello in C, in a worker without sockets; the last
    row has all of it. What is missing to `throughput` is the work of the kernel and of the event
    loop for sockets, and colder caches."""
    with tempfile.TemporaryDirectory() as name:
        module = programs.BUILDERS["hello in C"](Path(name))
        rounds = [json_of("benchmarks.stages", module, {}) for _ in range(effort.rounds)]
    whole = statistics.median(found["all"] for found in rounds)
    rows: Rows = {}
    for step in rounds[0]:
        cost = statistics.median(found[step] for found in rounds)
        rows[step] = {"µs": cost, "ratio": cost / whole}
    return rows


def growth(effort: Effort) -> Rows:
    """How the CPU time of a request grows, relative to the first row of each kind: the C hello
    (for bodies, the C echo at 8 connections) with one worker and 64 connections where a row does
    not say otherwise.
    `µs for each more` is by route, header, variable, KiB of the body or of the module, worker or
    connection."""
    rows: Rows = {}
    with ExitStack() as stack:
        hello = compiled(programs.HELLO_C).read_bytes()

        def serve(text: str, content: bytes = hello, workers: int = 1) -> servers.Running:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / "hello.wasm").write_bytes(content)
            (folder / "modules.toml").write_text(text)
            return stack.enter_context(servers.wagi(folder, workers=workers))

        def add(loads: dict[tuple[int, str], Load]) -> None:
            found = measure({name: load for (_, name), load in loads.items()}, effort)
            rows.update(grown({(number, name): found[name] for number, name in loads}))

        plain = serve(programs.entry("/", "hello.wasm"))
        loads = {}
        for count in (10, 100, 1000, 10_000):
            routes = [programs.entry(f"/api/{i}/...", "hello.wasm") for i in range(count)]
            some = tuple(f"/api/{count * i // 10}/item" for i in range(10))
            loads[count, f"{count:,} routes"] = Load(serve("".join(routes)), paths=some)
        add(loads)
        headers = tuple((f"X-Header-{i}", f"value of header {i}") for i in range(100))
        add({(n, f"{n} headers"): Load(plain, headers=headers[:n]) for n in (10, 30, 60, 100)})
        loads = {}
        for count in (0, 10, 100, 1000):
            pairs = ", ".join(f'VARIABLE_{i} = "{"x" * 100}"' for i in range(count))
            text = programs.entry("/", "hello.wasm", f"environment = {{{pairs}}}")
            loads[count, f"{count:,} variables of 100 bytes"] = Load(serve(text))
        add(loads)
        folder, paths = stack.enter_context(site("echo in C"))
        echo = Load(stack.enter_context(servers.wagi(folder)), paths["echo in C"], connections=8)
        sizes = (1, 16, 64, 256, 1024)
        add({(n, f"a body of {n:,} KiB, echoed"): replace(echo, body=n * 1024) for n in sizes})
        loads = {}
        for size in (0, 1, 4, 16):
            data = b"".join(b"%08d" % i for i in range(size * MIB // 8))
            content = padded(hello, data)
            kib = len(content) // 1024
            server = serve(programs.entry("/", "hello.wasm"), content)
            loads[kib, f"a module of {kib / 1024:.1f} MiB"] = Load(server)
        add(loads)
        loads = {}
        for count in (1, 2, 4):
            server = serve(programs.entry("/", "hello.wasm"), workers=count)
            loads[count, f"{count} worker{'s' * (count > 1)}"] = Load(server)
        add(loads)
        counts = (1, 8, 64, 512)
        add({(n, f"{n} connection{'s' * (n > 1)}"): Load(plain, connections=n) for n in counts})
    return rows


# What the tables are made with


@contextmanager
def site(*names: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with a modules.toml of some handlers, and the path of each."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name), programs.site(Path(name), names)


@contextmanager
def worker_of(folder: Path, path: str) -> Iterator[tuple[servers.Running, int, int]]:
    """A server that has answered once, the process of its worker, and its resident memory."""
    # An entry that holds four fifths of the slots or of the memory gets no more.
    options = ("--max-concurrency", str(2 * SLEEPING_GUESTS), "--memory-budget", "0")
    with servers.wagi(folder, *options) as server:
        answer(server.url + path)
        (worker,) = descendants(server.pid)
        yield server, worker, resident(worker)


def answer(url: str) -> None:
    """Make a request and read its response."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request("GET", parts.path)
    response = connection.getresponse()
    response.read()
    assert response.status == 200, f"{url}: {response.status}"
    connection.close()


def first_answer(folder: Path) -> float:
    """Seconds from the start of a server to the answer of its first route."""
    began = time.perf_counter()
    with servers.wagi(folder) as server:
        answer(server.url + "/0")
        return time.perf_counter() - began


def json_of(script: str, module: Path, environment: dict[str, str]) -> dict[str, float]:
    """What a script prints in a process of its own."""
    with pinned(server_cores(1)):
        done = subprocess.run(
            [sys.executable, "-m", script, str(module)],
            cwd=ROOT,
            env={**servers.ENVIRONMENT, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
    costs: dict[str, float] = json.loads(done.stdout)
    return costs


def rates(rows: Rows) -> Rows:
    """The rows without what is about CPU time."""
    columns = ("requests/s", "rate ratio", "median ms", "p99 ms")
    return {name: {column: row[column] for column in columns} for name, row in rows.items()}


def padded(wasm: bytes, data: bytes) -> bytes:
    """A module with a custom section that has some bytes."""
    return wasm + b"\0" + leb(len(data) + 5) + b"\x04data" + data


TABLES = {
    table.name: table
    for table in map(
        Table,
        (
            throughput,
            bodies,
            wasmtime,
            components,
            connections,
            fairness,
            start,
            memory,
            guest,
            stages,
            growth,
            alternatives,
        ),
    )
}
