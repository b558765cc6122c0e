"""``--log-format json``: every line that a server writes is an object, with the same names."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import ONE_WORKER, Server, run_wagi, serving
from tests.support.wat import HELLO, SPIN, TEXT_HEAD, Program

JSON = ("--log-format", "json")
NOISY = b'\x1b[31mred\x7f \xff "quoted" {}\nsecond\n'
MODULES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "noisy.wat": Program().write(NOISY, fd=2).write(TEXT_HEAD).wat(),
    "trap.wat": Program().write(TEXT_HEAD).code("unreachable").wat(),
    "spin.wat": Program().code(SPIN).wat(),
    "exit.wat": Program().write(TEXT_HEAD).exit(3).wat(),
}
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name.removesuffix(".wat")}"\nmodule = "{name}"\n'
    for name in MODULES
    if name != "spin.wat"
)
MANIFEST += '[[module]]\nroute = "/spin"\nmodule = "spin.wat"\ncpu_timeout = 0.2\n'
MANIFEST += "max_concurrency = 1\nqueue_timeout = 5\n"


def records(log: str | list[str]) -> list[dict[str, Any]]:
    lines = log.splitlines() if isinstance(log, str) else log
    return [json.loads(line) for line in lines]


def find(log: str | list[str], **fields: object) -> dict[str, Any]:
    """The record with some fields."""
    found = [record for record in records(log) if fields.items() <= record.items()]
    assert len(found) == 1, (fields, log)
    return found[0]


def test_every_line_is_an_object(tmp_path: Path) -> None:
    """From the start over requests and a reload to the end, on both streams."""
    with serving(tmp_path, MANIFEST, *JSON, "--workers", "2", modules=MODULES) as server:
        for name in ("hello", "noisy", "trap", "spin", "exit", "missing"):
            server.get(f"/{name}")
        server.wait_for_access('"target": "/missing"')
        (tmp_path / "modules.toml").write_text("[[module]]\nroute = 1\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("modules.toml:2")
        (tmp_path / "modules.toml").write_text(MANIFEST)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("reloaded")
        assert server.stop() == 0
    log, access = records(server.log), records(server.access_log)
    for record in (*log, *access):
        assert record["time"] > 1.7e9
        assert record["level"] in ("info", "warning", "error")
        assert record["message"]
    assert {record["logger"] for record in log} == {"wagi", "wagi.stderr"}
    assert {record["logger"] for record in access} == {"wagi.access"}
    assert len(access) == 6
    find(server.log, url=server.url)
    find(server.log, message="route /hello -> hello.wat", route="/hello", module="hello.wat")


def test_stderr_of_a_handler(tmp_path: Path) -> None:
    """Each line is a record with the request; the module's own log keeps the bytes."""
    logs = tmp_path / "logs"
    with serving(tmp_path, MANIFEST, *JSON, "--log-dir", str(logs), modules=MODULES) as server:
        server.get("/noisy")
        access = find(server.wait_for_access("/noisy"), target="/noisy")
        log = server.wait_for_log("second")
        server.stop()
    first, second = (item for item in records(log) if item["logger"] == "wagi.stderr")
    assert first["message"] == '\x1b[31mred\\x7f \\xff "quoted" {}'
    assert second["message"] == "second"
    for record in (first, second):
        assert (record["route"], record["module"]) == ("/noisy", "noisy.wat")
        assert record["id"] == access["id"]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", log)
    (path,) = logs.glob("*/module.stderr")
    assert path.read_bytes() == NOISY


def test_a_failed_request(tmp_path: Path) -> None:
    """The reason, with the outcome, the time in the queue and the memory of the guest."""
    with serving(tmp_path, MANIFEST, *JSON, modules=MODULES) as server:
        assert server.get("/trap?x").status == 500
        assert server.get("/spin").status == 504
        log = server.wait_for_log("cpu_timeout")
        access = server.wait_for_access("/spin")
        server.stop()
    trap = find(log, target="/trap?x")
    assert trap["message"].startswith("answered 500: ")
    assert (trap["level"], trap["status"], trap["outcome"]) == ("error", 500, "trap")
    assert (trap["route"], trap["module"]) == ("/trap", "trap.wat")
    assert trap["memory_bytes"] % 65536 == 0
    assert trap["memory_bytes"] > 0
    assert trap["queue_ms"] == 0
    assert "trace_id" not in trap
    spin = find(access, target="/spin")
    assert (spin["outcome"], spin["status"], spin["module"]) == ("cpu_timeout", 504, "spin.wat")
    assert spin["cpu_ms"] >= 200
    assert spin["memory_bytes"] > 0
    assert find(log, target="/spin")["id"] == spin["id"]


def test_time_in_the_queue(tmp_path: Path) -> None:
    """Of the second of two requests to a route with one slot."""
    with serving(tmp_path, MANIFEST, *JSON, *ONE_WORKER, modules=MODULES) as server:
        _get_twice(server, "/spin")
        server.wait_for_access('(?s)"target": "/spin".*"target": "/spin"')
        first, second = sorted(records(server.access_log), key=lambda item: item["queue_ms"])
    assert first["queue_ms"] == 0
    assert second["queue_ms"] >= 100


def _get_twice(server: Server, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    with server.connect() as one, server.connect() as other:
        one.sendall(request)
        other.sendall(request)
        for connection in (one, other):
            while connection.recv(65536):
                pass


@pytest.mark.parametrize(
    ("options", "log_is_json", "access_is_json"),
    [
        ((), False, False),
        (("--log-format", "json"), True, True),
        (("--log-format", "json", "--access-log", "text"), True, False),
        (("--log-format", "text", "--access-log", "json"), False, True),
    ],
)
def test_the_access_log_follows(
    tmp_path: Path, options: tuple[str, ...], log_is_json: bool, access_is_json: bool
) -> None:
    """Unless it has a format of its own."""
    with serving(tmp_path, MANIFEST, *options, modules=MODULES) as server:
        server.get("/hello")
        access = server.wait_for_access("/hello")
    assert server.log.startswith("{") == log_is_json
    assert access.startswith("{") == access_is_json


def test_the_variables(tmp_path: Path) -> None:
    environment = {"WAGI_LOG_FORMAT": "json", "WAGI_ACCESS_LOG": "off"}
    with serving(tmp_path, MANIFEST, modules=MODULES, environment=environment) as server:
        server.get("/hello")
        server.stop()
    assert records(server.log)
    assert server.access_log == []


def test_errors_of_the_configuration_are_text(tmp_path: Path) -> None:
    """They are for the terminal of the person who starts the server."""
    (tmp_path / "modules.toml").write_text("[[module]]\nroute = 1\n")
    result = run_wagi(tmp_path, "serve", *JSON)
    assert result.returncode == 2
    assert result.stderr.startswith("error: modules.toml:")
    result = run_wagi(tmp_path, "serve", "--log-format", "xml")
    assert result.returncode == 2
    assert "--log-format: " in result.stderr


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    """A line with lone surrogates would be rejected by strict parsers: a way to hide requests."""
    with serving(tmp_path, MANIFEST, *JSON, modules=MODULES) as server:
        head = b"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\x80\r\nConnection: close\r\n\r\n"
        assert server.raw(head).startswith(b"HTTP/1.1 404")
        access = server.wait_for_access("HTTP/1.1")
        server.stop()
    assert "\\ud" not in access
    assert find(access, target="/a")["user_agent"] == "\\xff\\x80"
