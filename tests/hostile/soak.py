"""Soak test: well-behaved, slow, trapping, flooding and spinning guests under load.

    python -m tests.hostile.soak --seconds 600

prints the server's resident memory and open descriptors over time. Every successful response is
compared byte for byte.
"""

from __future__ import annotations

import argparse
import http.client
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.server import Server, serving
from tests.support.wat import SPIN, TEXT_HEAD, Program

MIB = 1024 * 1024
PAGE = "0123456789abcdef" * 2048
ECHO = """(loop $l (local.set $i (call $read))
  (if (local.get $i) (then
    (call $write (i32.const 1) (i32.const 4096) (local.get $i)) (br $l))))"""
MODULES: dict[str, str | bytes] = {
    "page.wat": Program().write(TEXT_HEAD + PAGE).wat(),
    "echo.wat": Program().write(TEXT_HEAD).code(ECHO).wat(),
    "slow.wat": Program().write(TEXT_HEAD + "begin\n").sleep(300).write("end\n").wat(),
    "late.wat": Program().sleep(3_600_000).wat(),
    "trap.wat": Program().trap().wat(),
    "trap-late.wat": Program().write(TEXT_HEAD + "part").sleep(20).trap().wat(),
    "flood.wat": Program().write(TEXT_HEAD).write("x" * 60_000).forever().wat(),
    "head.wat": Program().write("X: " + "y" * 60_000 + "\n").forever().wat(),
    "stderr.wat": Program().write("spam\n" * 10_000, fd=2).write(TEXT_HEAD + "ok").wat(),
    "spin.wat": Program().code(SPIN).wat(),
    "grow.wat": Program()
    .code("(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))")
    .write(TEXT_HEAD + "full")
    .wat(),
}
LIMITS = {
    "late": "timeout = 0.5",
    "spin": "timeout = 0.5",
    "flood": "timeout = 1",
    "stderr": 'stderr_limit = "4KiB"',
    "grow": 'memory_limit = "8MiB"',
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name}"\nmodule = "{name}.wat"\n{LIMITS.get(name, "")}\n'
    for name in (file.removesuffix(".wat") for file in MODULES)
)


@dataclass
class Report:
    """The result of a soak test.

    Attributes:
        outcomes: Number of correct (NAME) and incorrect (``NAME, wrong``) responses per client.
        wrong: Descriptions of failures.
        samples: Seconds since the start, resident bytes and open descriptors.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def after_warm_up(self) -> list[tuple[float, int, int]]:
        """Return the samples of the last four fifths of the run."""
        end = self.samples[-1][0]
        return [sample for sample in self.samples if sample[0] > end / 5]


def ask(server: Server, path: str, body: bytes | None = None) -> tuple[int, bytes | None]:
    """Send a request; return the status and the body, None if it was truncated."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    try:
        connection.request("GET" if body is None else "POST", path, body)
        response = connection.getresponse()
        try:
            return response.status, response.read()
        except (http.client.IncompleteRead, ConnectionError):
            return response.status, None
    finally:
        connection.close()


def disconnect(server: Server, path: str) -> bool:
    """Send a request and disconnect while it runs."""
    with server.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        time.sleep(random.uniform(0, 0.2))
    return True


def _exact(path: str, status: int, text: str) -> Callable[[Server], bool]:
    return lambda server: ask(server, path) == (status, text.encode())


def _fails(path: str, status: int) -> Callable[[Server], bool]:
    return lambda server: ask(server, path)[0] == status


def _truncated(path: str) -> Callable[[Server], bool]:
    return lambda server: ask(server, path) == (200, None)


def _echo(server: Server) -> bool:
    body = random.randbytes(random.randrange(1, 300_000))
    return ask(server, "/echo", body) == (200, body)


def _disconnects(path: str) -> Callable[[Server], bool]:
    return lambda server: disconnect(server, path)


# Each client's request, the number of such clients, and the pause between requests (seconds).
CLIENTS: dict[str, tuple[Callable[[Server], bool], int, float]] = {
    "page": (_exact("/page", 200, PAGE), 3, 0.002),
    "echo": (_echo, 2, 0.002),
    "slow": (_exact("/slow", 200, "begin\nend\n"), 8, 0),
    "grow": (_exact("/grow", 200, "full"), 1, 0.05),
    "stderr": (_exact("/stderr", 200, "ok"), 1, 0.2),
    "late": (_fails("/late", 504), 8, 0),
    "spin": (_fails("/spin", 504), 3, 0.2),
    "trap": (_fails("/trap", 500), 1, 0.05),
    "trap-late": (_truncated("/trap-late"), 1, 0.05),
    "head": (_fails("/head", 500), 1, 0.05),
    "flood": (_truncated("/flood"), 1, 0.5),
    "disconnect from a flood": (_disconnects("/flood"), 2, 0.1),
    "disconnect from a sleep": (_disconnects("/slow"), 2, 0.1),
    "disconnect from a loop": (_disconnects("/spin"), 1, 0.3),
}


def settled(server: Server, wanted: int) -> int:
    """Wait until an idle server has at most ``wanted`` descriptors; return their number."""
    deadline = time.monotonic() + 2
    while server.open_files() > wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return server.open_files()


def soak(seconds: float, folder: Path, on_sample: Callable[[str], None]) -> Report:
    """Run the soak test.

    Args:
        seconds: Duration.
        folder: The server's folder.
        on_sample: Called with a line to print for each sample.
    """
    report = Report()
    stop = threading.Event()
    options = ("--access-log", "off", "--log-dir", str(folder / "logs"), "--log-size", "1MiB")
    with serving(folder, MANIFEST, *options, modules=MODULES) as server:

        def client(name: str) -> None:
            act, _, rest = CLIENTS[name]
            while not stop.is_set():
                try:
                    good = act(server)
                except OSError as error:
                    good = False
                    report.wrong.append(f"{name}: {error!r}")
                report.outcomes[name if good else f"{name}, wrong"] += 1
                stop.wait(rest)

        threads = [
            threading.Thread(target=client, args=(name,))
            for name, (_, count, _) in CLIENTS.items()
            for _ in range(count)
        ]
        for act, _, _ in CLIENTS.values():
            act(server)  # the engine opens a file for each module on its first run
        idle = settled(server, 0)
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while (passed := time.monotonic() - began) < seconds:
            stop.wait(max(0.5, seconds / 60))
            report.samples.append((passed, server.rss(), server.open_files()))
            passed, rss, files = report.samples[-1]
            on_sample(f"{passed:6.0f} s   {rss / MIB:6.1f} MiB   {files:4d} descriptors")
        stop.set()
        for thread in threads:
            thread.join()
        left = settled(server, idle)
        on_sample(
            f"   end     {server.rss() / MIB:6.1f} MiB   {left:4d} descriptors, {idle} before"
        )
        if left > idle:
            report.wrong.append(f"{left - idle} descriptors were leaked")
        assert server.stop() == 0
    report.wrong += [name for name in report.outcomes if name.endswith("wrong")]
    return report


def main() -> None:
    """Run the soak test and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    with tempfile.TemporaryDirectory() as folder:
        report = soak(parser.parse_args().seconds, Path(folder), print)
    for name, count in sorted(report.outcomes.items()):
        print(f"{name:20} {count:8d}")
    sizes = [rss / MIB for _, rss, _ in report.after_warm_up()]
    print(f"resident after warm-up: {min(sizes):.1f} to {max(sizes):.1f} MiB")
    raise SystemExit("\n".join(report.wrong) or 0)


if __name__ == "__main__":
    main()
