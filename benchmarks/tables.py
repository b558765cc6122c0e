"""What is measured: each function prints one table, and returns its figures."""

from __future__ import annotations

import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import guest_cost, programs, servers
from benchmarks.load import Load, Result, interleaved
from wagi.guest.binary import leb

MIB = 1024 * 1024


@dataclass(frozen=True)
class Effort:
    """How long to measure: ``rounds`` of ``seconds`` for each figure."""

    rounds: int
    seconds: int


Figures = dict[str, float]


def throughput(effort: Effort) -> Figures:
    """Requests per second at 64 connections with one worker, against a bare aiohttp handler."""
    with served() as (wagi, routes), ExitStack() as stack:
        bare = stack.enter_context(servers.bare())
        parsing = stack.enter_context(servers.bare("parsing"))
        loads = {
            "bare aiohttp handler": Load(bare.url),
            "the same, variables built, CGI parsed": Load(parsing.url),
        }
        for name, route in routes.items():
            if name.startswith(("hello", "environment")):
                loads[name] = Load(wagi.url + route)
        hello = programs.compiled(programs.HELLO_C)
        small = programs.small_stack(
            programs.HELLO_C, Path(stack.enter_context(tempfile.TemporaryDirectory())) / "s.wasm"
        )
        for name, module in (("hello in C", hello), ("hello in C, 32 KiB of stack", small)):
            running = stack.enter_context(servers.shimmed(module))
            loads[f"{name}, by a compiled shim"] = Load(running.url)
        loads["echo of 1 KiB in C"] = Load(wagi.url + routes["echo in C"], body=1024)
        loads["echo of 1 MiB in C"] = Load(wagi.url + routes["echo in C"], 8, body=MIB)
        return print_rates(throughput, interleaved(loads, effort.rounds, effort.seconds))


def guest(effort: Effort) -> Figures:
    """CPU time of one guest in a loop, without a server, to the C API alone."""
    figures: Figures = {}
    head(guest, "| | µs | ratio |", "| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        paths = programs.handlers(Path(name))
        for kind in ("hello in WAT", "hello in C", "hello in C, 32 KiB of stack"):
            found = guest_cost.measure(paths[kind], effort.rounds + 2)
            base = next(iter(found.values()))
            for way, microseconds in found.items():
                figures[f"{kind}: {way}"] = microseconds
                print(f"| {kind}: {way} | {microseconds:.1f} | {microseconds / base:.2f} |")
    return figures


def alternatives(effort: Effort) -> Figures:
    """What a user could take instead, at 16 connections, against the C hello of wagi."""
    with served() as (wagi, routes), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        module = programs.compiled(programs.HELLO_C)
        node = stack.enter_context(servers.node_wasi(module))
        native = programs.native(programs.HELLO_C, folder / "native.cgi")
        loads = {
            "C hello on wagi, one worker": Load(wagi.url + routes["hello in C"], 16),
            "node's WASI behind its http server": Load(node.url, 16),
            "native C under nginx and fcgiwrap": Load(
                stack.enter_context(servers.fcgiwrap(native, 2)).url, 16
            ),
        }
        if command := programs.wasmtime_command(folder):
            script = programs.wasmtime_script(command, module, folder)
            loads["wasmtime under nginx and fcgiwrap"] = Load(
                stack.enter_context(servers.fcgiwrap(script, 2)).url, 16
            )
            component = Path(__file__).parent / "hello.component.wat"
            loads["wasmtime serve, a component"] = Load(
                stack.enter_context(servers.wasmtime_serve(command, component)).url, 16
            )
        return print_rates(alternatives, interleaved(loads, effort.rounds, effort.seconds))


def connections(effort: Effort) -> Figures:
    """The C hello at 1 to 256 connections, with one worker and with two."""
    figures: Figures = {}
    with served() as (one, routes), served(workers=2) as (two, _), servers.bare() as bare:
        loads = {}
        for count in (1, 16, 64, 256):
            loads[f"bare aiohttp handler, {count} connections"] = Load(bare.url, count)
            for workers, server in ((1, one), (2, two)):
                name = f"{workers} worker{'s' * (workers > 1)}, {count} connections"
                loads[name] = Load(server.url + routes["hello in C"], count)
        results = interleaved(loads, effort.rounds, effort.seconds)
        figures = print_rates(connections, results)
        for count in (16, 64, 256):
            ratio = results[f"2 workers, {count} connections"].rate
            ratio /= results[f"1 worker, {count} connections"].rate
            figures[f"two workers to one, {count} connections"] = ratio
            print(f"| two workers to one, {count} connections | | {ratio:.2f} | | |")
        # What there is to be had: cores of a virtual machine need not be cores.
        figures["two busy processes to one"] = ratio = parallel_capacity()
        print(f"| two busy processes to one, without any server | | {ratio:.2f} | | |")
        for name, result in results.items():
            figures[f"p99 of {name}"] = result.p99
    return figures


def hogs(effort: Effort) -> Figures:
    """The C hello alone, and beside 8 endless loops in the same worker."""
    with served() as (wagi, routes):
        load = {"alone, 8 connections": Load(wagi.url + routes["hello in C"], 8)}
        alone = interleaved(load, effort.rounds, effort.seconds)
        for _ in range(8):
            threading.Thread(
                target=_ask, args=(wagi.url + routes["endless loop"],), daemon=True
            ).start()
        time.sleep(0.5)
        load = {"beside 8 endless loops": next(iter(load.values()))}
        beside = interleaved(load, effort.rounds, effort.seconds)
        figures = print_rates(hogs, alone | beside)
        ratio = beside["beside 8 endless loops"].p99 / alone["alone, 8 connections"].p99
        print(f"| p99 beside them to p99 alone | | {ratio:.1f} | | |")
    return figures | {"p99 ratio": ratio}


def start(effort: Effort) -> Figures:
    """Seconds from the command to the first answer, against importing the packages alone."""
    importing = []
    for _ in range(effort.rounds):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "import wagi.cli.check, wagi.cli.compile, wagi.cli.serve"],
            check=True,
            cwd=servers.ROOT,
        )
        importing.append(time.perf_counter() - began)
    rows = {"importing the packages": statistics.median(importing)}
    hello = programs.compiled(programs.HELLO_C).read_bytes()
    for count in (1, 100):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            text = ""
            for number in range(count):
                # A custom section makes it a module of its own.
                section = bytes([0, 9, 4]) + b"name" + number.to_bytes(4, "big")
                (folder / f"{number}.wasm").write_bytes(hello + section)
                text += f'[[module]]\nroute = "/{number}"\nmodule = "{number}.wasm"\n'
            (folder / "modules.toml").write_text(text)
            plural = "s" * (count > 1)
            rows[f"{count} module{plural}, cold"] = _first_answer(folder)
            warm = [_first_answer(folder) for _ in range(effort.rounds)]
            rows[f"{count} module{plural}, warm"] = statistics.median(warm)
    base = rows["importing the packages"]
    head(start, "| | seconds | ratio |", "| --- | ---: | ---: |")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.3f} | {seconds / base:.2f} |")
    return rows


def memory(_effort: Effort) -> Figures:
    """Resident memory of a worker: idle, and with sleeping C guests."""
    rows: Figures = {}
    with served() as (wagi, routes):
        route = routes["sleep in C"]
        (worker,) = children(wagi.pid)
        _ask(wagi.url + routes["hello in C"])
        rows["idle worker"] = idle = resident(worker)
        with ExitStack() as stack:
            running = 0
            for count in (1, 100, 1000):
                for _ in range(count - running):
                    parts = urlsplit(wagi.url)
                    assert parts.hostname
                    assert parts.port
                    connection = stack.enter_context(socket.socket())
                    connection.connect((parts.hostname, parts.port))
                    connection.sendall(f"GET {route} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                running = count
                time.sleep(3)
                rows[f"{count} sleeping C guest{'s' * (count > 1)}"] = resident(worker)
    head(memory, "| | MiB | over idle |", "| --- | ---: | ---: |")
    for name, size in rows.items():
        print(f"| {name} | {size / MIB:.1f} | {(size - idle) / MIB:.1f} |")
    return rows


def growth(effort: Effort) -> Figures:
    """Requests per second as things grow, to the smallest of each kind."""
    figures: Figures = {}
    with ExitStack() as stack:
        hello = programs.compiled(programs.HELLO_C)

        def site(text: str, **files: bytes) -> servers.Running:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / "hello.wasm").write_bytes(hello.read_bytes())
            for name, content in files.items():
                (folder / f"{name}.wasm").write_bytes(content)
            (folder / "modules.toml").write_text(text)
            return stack.enter_context(servers.wagi(folder))

        def entry(route: str, extra: str = "", module: str = "hello") -> str:
            return f'[[module]]\nroute = "{route}"\nmodule = "{module}.wasm"\n{extra}\n'

        def measure(kind: str, loads: dict[str, Load]) -> None:
            results = interleaved(loads, effort.rounds, effort.seconds)
            base = next(iter(results.values())).rate
            for name, result in results.items():
                figures[name] = result.rate / base
                print(f"| {name} | {result.rate:.0f} | {result.rate / base:.2f} |")

        head(growth, "| | requests/s | ratio |", "| --- | ---: | ---: |")
        loads = {}
        for count in (10, 100, 1000, 10_000):
            running = site("".join(entry(f"/api/{number}/...") for number in range(count)))
            targets = tuple(f"/api/{count * i // 10}/item" for i in range(10))
            loads[f"{count} routes"] = Load(running.url, targets=targets)
        measure("routes", loads)
        plain = site(entry("/"))
        measure("headers", {f"{n} headers": Load(plain.url, headers=n) for n in (1, 10, 50, 100)})
        loads = {}
        for count in (0, 100, 1000):
            pairs = ", ".join(f'VARIABLE_{number} = "{"x" * 100}"' for number in range(count))
            running = site(entry("/", f"environment = {{{pairs}}}"))
            loads[f"{count} variables of 100 bytes"] = Load(running.url)
        measure("environment", loads)
        loads = {}
        for size in (0, 1, 10):
            data = b"".join(b"%08d" % i for i in range(size * MIB // 8))
            section = leb(len(data) + 5) + b"\x04data" + data
            content = hello.read_bytes() + b"\x00" + section
            running = site(entry("/", module="big"), big=content)
            loads[f"a module of {len(content) / MIB:.2f} MiB"] = Load(running.url)
        measure("module", loads)
    return figures


def streams(effort: Effort) -> Figures:
    """Large bodies: MiB per second, against an aiohttp handler that does the same."""
    rows: Figures = {}
    with served() as (wagi, routes), servers.bare("streaming") as bare:
        jobs: dict[str, Callable[[], float]] = {
            "100 MiB out of aiohttp": lambda: _download(bare.url + "/"),
            "100 MiB out of a C guest": lambda: _download(wagi.url + routes["100 MiB in C"]),
            "1 GiB through aiohttp": lambda: _echo(bare.url + "/"),
            "1 GiB through a C guest": lambda: _echo(wagi.url + routes["echo in C"]),
        }
        found: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(effort.rounds):
            for name, job in jobs.items():
                found[name].append(job())
        rows = {name: statistics.median(rates) for name, rates in found.items()}
    head(streams, "| | MiB/s | ratio |", "| --- | ---: | ---: |")
    base = 0.0
    for name, rate in rows.items():
        base = rate if "aiohttp" in name else base
        print(f"| {name} | {rate:.0f} | {rate / base:.2f} |")
    return rows


# What the tables stand on


@contextmanager
def served(workers: int = 1) -> Iterator[tuple[servers.Running, dict[str, str]]]:
    """wagi with all handlers, and their routes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        routes = programs.manifest(folder, programs.handlers(folder))
        with servers.wagi(folder, workers) as running:
            yield running, routes


def parallel_capacity() -> float:
    """How much two busy processes get done, to one."""
    count = "import time; n, end = 0, time.time() + 2\nwhile time.time() < end: n += 1\nprint(n)"

    def done(processes: int) -> int:
        started = [
            subprocess.Popen([sys.executable, "-c", count], stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        return sum(int(process.communicate()[0]) for process in started)

    return done(2) / done(1)


def print_rates(table: Callable[[Effort], Figures], results: dict[str, Result]) -> Figures:
    """Print a table of requests per second; the rates."""
    head(table, "| | requests/s | ratio | median | p99 |", "| --- | ---: | ---: | ---: | ---: |")
    base = next(iter(results.values())).rate
    for name, result in results.items():
        print(
            f"| {name} | {result.rate:,.0f} | {result.rate / base:.3f} |"
            f" {result.median:.2f} ms | {result.p99:.2f} ms |",
            flush=True,
        )
    return {name: result.rate for name, result in results.items()}


def head(table: Callable[[Effort], Figures], *lines: str) -> None:
    """Print what a table is, and its head."""
    print(f"\n**{table.__name__}**: {table.__doc__}\n", *lines, sep="\n", flush=True)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> int:
    """The resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _ask(url: str) -> None:
    parts = urlsplit(url)
    with suppress(OSError):  # an endless loop is ended with its server
        connection = http.client.HTTPConnection(parts.netloc, timeout=600)
        connection.request("GET", parts.path)
        connection.getresponse().read()


def _first_answer(folder: Path) -> float:
    began = time.perf_counter()
    with servers.wagi(folder) as running:
        _ask(running.url + "/0")
        return time.perf_counter() - began


def _download(url: str) -> float:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=600)
    began = time.perf_counter()
    connection.request("GET", parts.path)
    response = connection.getresponse()
    size = 0
    while piece := response.read(256 * 1024):
        size += len(piece)
    return size / MIB / (time.perf_counter() - began)


def _echo(url: str, size: int = 1024 * MIB) -> float:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    piece = bytes(256 * 1024)
    with socket.create_connection((parts.hostname, parts.port)) as connection:

        def send() -> None:
            for _ in range(size // len(piece)):
                connection.sendall(piece)

        began = time.perf_counter()
        connection.sendall(
            f"POST {parts.path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        sender = threading.Thread(target=send)
        sender.start()
        received = 0
        buffer = bytearray(256 * 1024)
        while count := connection.recv_into(buffer):
            received += count
        sender.join()
        assert received > size, received
        return size / MIB / (time.perf_counter() - began)


TABLES = (throughput, guest, alternatives, connections, hogs, start, memory, growth, streams)
