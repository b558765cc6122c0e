"""What is fuzzed. Each target takes bytes and raises if a promise is broken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from fuzz.preview2 import preview2 as preview2
from tests.support.core_runs import check_script
from tests.support.core_scripts import from_bytes
from wagi.cgi.environment import RouteVariables
from wagi.cgi.response import BadResponse, ResponseHead, ResponseParser
from wagi.config.values import HostPort
from wagi.gateway.admission import Share
from wagi.gateway.answering import answer, reject
from wagi.gateway.concurrency import WorkerLimits
from wagi.gateway.gateway import Gateway
from wagi.gateway.route import Route
from wagi.guest.binary import MalformedModuleError
from wagi.guest.budget import unlimited_account
from wagi.guest.component.core_module import CoreModule
from wagi.guest.component.description import describe_component
from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.flattening import flatten
from wagi.guest.component.graph import read_component
from wagi.guest.component.interfaces import PREVIEW_1
from wagi.guest.component.items import CoreModuleCode
from wagi.guest.component.reader import Budget
from wagi.guest.demand import MemoryDemand
from wagi.guest.engine import Runtime
from wagi.guest.guest import Guest
from wagi.guest.handler import Handler, Preopen
from wagi.guest.module import parse
from wagi.guest.outcome import Outcome, Trap
from wagi.http.body import BodyLimits
from wagi.http.errors import HTTPError
from wagi.http.forwarded import TrustedProxies
from wagi.http.head import Head
from wagi.http.options import HeadLimits, HttpOptions
from wagi.http.parser import Data, RequestParser
from wagi.http.server import HttpServer
from wagi.http.spool import SpoolSpace
from wagi.limits import Limits
from wagi.observe.module_log import ModuleLogs
from wagi.routing import RoutePattern, RouteTable

PAGE = 65536
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LINE_ENDS = (b"\n", b"\r\n", b"\r\r\n")
_NOT_PASSED_ON = (b"status", b"content-length", b"transfer-encoding", b"connection")
_TOO_LARGE = "500 The handler's header block is too large (header_limit)."
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEADER_LIMIT = 1024


@cache
def _runtime() -> Runtime:
    return Runtime(guests=100)


def _load(wat: str, preopens: tuple[Preopen, ...] = ()) -> Handler:
    limits = Limits(memory_limit=4 * PAGE)
    return (
        _runtime()
        .load(parse("fuzz.wat", wat.encode(), limits.memory_limit))
        .handler("_start", limits, preopens)
    )


# The response parser


def response(data: bytes) -> None:
    """A guest's output: the same answer however it is cut, and nothing that HTTP forbids."""
    cut, output = data[0] if data else 0, data[1:]
    whole = _parse([output])
    size = cut % 7 + 1
    assert _parse([output[i : i + size] for i in range(0, len(output), size)]) == whole
    assert _parse(output.splitlines(keepends=True)) == whole
    if output and not output.startswith((b"\r", b"\n")):
        # An empty first line is skipped, whatever ends it.
        for first in _LINE_ENDS:
            assert _parse([first, output], _HEADER_LIMIT + len(first)) == whole
    if isinstance(whole, str):
        return
    head, body = whole
    block = output[: len(output) - len(body)]
    # The header limit is exact, and the answer depends on nothing behind the block.
    assert block + body == output
    assert _parse([output], len(block)) == whole
    assert _parse([output], len(block) - 1) == _parse([block], len(block) - 1) == _TOO_LARGE
    assert _parse([block[:-1], block[-1:]], len(block)) == (head, b"")
    assert 200 <= head.status <= 599
    assert head.content_length is None or head.content_length >= 0
    assert len(head.warnings) <= 11
    for name, value in head.headers:
        assert _TOKEN.fullmatch(name), name
        assert not _CONTROL.search(value), value
        assert value == value.strip()
        assert name.lower() not in _NOT_PASSED_ON
        assert name in block, name
        assert value in block, value


def _parse(
    pieces: list[bytes], header_limit: int = _HEADER_LIMIT
) -> tuple[ResponseHead, bytes] | str:
    parser = ResponseParser(header_limit)
    body = b""
    try:
        for piece in pieces:
            parser.feed(piece)
            if parser.head() is not None:
                body += parser.take_body()
        head = parser.end()
    except BadResponse as error:
        return f"{error.status} {error.reason}"
    return head, body + parser.take_body()


# The request parser


def parser(data: bytes) -> None:
    """Bytes of a client: the same requests however they are cut, and no other exception."""
    size, data = (data[0] if data else 0) % 64 + 1, data[1:]
    whole = _requests([data])
    assert _requests([data[at : at + size] for at in range(0, len(data), size)]) == whole


def _requests(pieces: list[bytes]) -> list[object]:
    """Heads, whole bodies, and the status of the error at the end, if there is one."""
    requests = RequestParser(HeadLimits(1000, 4000))
    found: list[object] = []
    body = b""
    for piece in pieces:
        requests.feed(piece)
        try:
            while (event := requests.next_event()) is not None:
                match event:
                    case Head():
                        found.append((event.method, event.target, event.raw_headers))
                        body = b""
                    case Data(more, is_last):
                        body += more
                        if is_last:
                            found.append(body)
        except HTTPError as error:
            return [*found, error.status]
    return found


# The reader of components


def component(data: bytes) -> None:
    """Bytes of a component: an error, or a core module as it is described."""
    with contextlib.suppress(MalformedModuleError):
        describe_component(data)
    try:
        flat = flatten(data, read_component(data))
    except (MalformedModuleError, UnsupportedComponentError):
        return
    module = CoreModule(flat.wasm, CoreModuleCode(0, 0, len(flat.wasm)), Budget())
    assert [(item.module, item.name) for item in module.imports] == list(flat.imports)
    assert {flat.entry, *flat.initializers} <= module.exports.keys()
    assert {*flat.allocators} <= module.exports.keys()
    for interface, _ in flat.imports:
        assert interface == PREVIEW_1 or interface.startswith("wasi:"), interface
        assert "@" not in interface, interface


# The path of a request: from the bytes of a connection through gateway and guest, and back


class _Transport(asyncio.Transport):
    """A connection in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def writelines(self, pieces: Any) -> None:
        self.sent += b"".join(bytes(piece) for piece in pieces)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 1), "sockname": ("127.0.0.1", 80)}.get(name, default)

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


# Prints its variables, one on each line, so that what reached it can be looked at.
_ENVIRONMENT = (Path(__file__).parents[1] / "examples/wat/environment.wat").read_text()


class _Server:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        logging.getLogger("wagi").setLevel(logging.CRITICAL)
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        logs = ModuleLogs(Path("/nonexistent"), 1024)
        route_limits = Limits(
            max_queue=10,
            queue_timeout=1,
            timeout=5,
            cpu_timeout=5,
            body_limit=100_000,
            environment_limit=100_000,
            header_limit=4096,
            stderr_limit=1000,
        )
        share = Share(None, route_limits, MemoryDemand(PAGE, 4 * PAGE))
        routes = []
        for text in ("/exact", "/tree/...", "/tree/deep/...", "/"):
            pattern = RoutePattern.parse(text)
            variables = RouteVariables.prepare(pattern.script_name, text, {"CONFIGURED": "yes"})
            argv = "fixed ${SCRIPT_NAME} ${ARGS}"
            handler = _load(_ENVIRONMENT)
            log = logs.of(text, "environment")
            entry = "modules.toml:1"
            route = Route(pattern, handler, variables, argv, route_limits, entry, share, log, None)
            routes.append((pattern, route))
        self.exchanges: list[Any] = []
        gateway = Gateway(
            RouteTable(routes),
            HostPort("default.example", 80),
            BodyLimits(100_000, SpoolSpace(1_000_000), 0),
            10,
            unlimited_account(),
            WorkerLimits(0, {}, []),
            self.exchanges.append,
        )
        limits = HttpOptions(HeadLimits(1000, 4000), 10, 10, 10, TrustedProxies())
        self.http = HttpServer(partial(answer, gateway), partial(reject, gateway), limits)

    async def exchange(self, data: bytes, size: int) -> bytes:
        """Everything that comes back for bytes that arrive in pieces of a size."""
        self.exchanges.clear()
        transport = _Transport()
        connection: Any = self.http()
        connection.connection_made(transport)
        await asyncio.sleep(0)
        for start in range(0, len(data), size):
            if transport.closed:
                break
            connection.data_received(data[start : start + size])
            await asyncio.sleep(0)
        quiet, seen = 0, b""
        while not transport.closed and quiet < 50:  # passes of the loop without another byte
            await asyncio.sleep(0)
            quiet = quiet + 1 if transport.sent == seen else 0
            seen = transport.sent
        connection.connection_lost(None)
        await asyncio.sleep(0)
        return transport.sent


@cache
def _server() -> _Server:
    return _Server()


def request(data: bytes) -> None:
    """Bytes of a client: an HTTP answer each time, no mistake of ours, and clean variables."""
    server = _server()
    size = (data[0] if data else 0) * 16 + 1
    sent = server.loop.run_until_complete(server.exchange(data[1:], size))
    for status, body in _responses(sent):
        assert status in (200, 400, 404, 408, 413, 414, 431, 501, 503, 505), status
        if status == 200 and body.startswith(b"GATEWAY_INTERFACE"):
            _check_variables(body)
    for exchange in server.exchanges:
        assert exchange.status in (200, 400, 404, 408, 413, 414, 431, 499, 501, 503, 505), exchange


def _responses(sent: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(sent):
        if sent[at:].startswith(_CONTINUE):
            at += len(_CONTINUE)
            continue
        found = re.match(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n", sent[at:])
        assert found, sent[at : at + 200]
        length = re.search(rb"(?mi)^content-length: (\d+)\r$", found[2])
        start = at + found.end()
        at = len(sent) if length is None else start + int(length[1])
        if at > len(sent) or sent[start:].startswith(b"HTTP/1."):
            at = start  # the answer to HEAD has no body
        yield int(found[1]), sent[start:at]


def _check_variables(body: bytes) -> None:
    names = [line.partition("=")[0] for line in body.decode().split("\n") if line]
    assert "HTTP_PROXY" not in names
    assert "HTTP_AUTHORIZATION" not in names
    assert names.count("PATH_INFO") == names.count("REMOTE_ADDR") == 1


# The host calls

_CALLS = {
    "fd_write": "IIII",
    "fd_read": "IIII",
    "poll_oneoff": "IIII",
    "random_get": "II",
    "args_sizes_get": "II",
    "args_get": "II",
    "environ_sizes_get": "II",
    "environ_get": "II",
    "fd_close": "I",
    "fd_renumber": "II",
    "clock_time_get": "IQI",
    "fd_fdstat_get": "II",
    "fd_prestat_get": "II",
    "fd_prestat_dir_name": "III",
    "fd_pread": "IIIQI",
    "fd_pwrite": "IIIQI",
    "fd_seek": "IQII",
    "fd_readdir": "IIIQI",
    "fd_filestat_get": "II",
    "path_open": "IIIIIQQII",
    "path_filestat_get": "IIIII",
    "path_readlink": "IIIIII",
    "path_symlink": "IIIII",
}
_AT = 60_000
_MARKER = b"NEIGHBOU"


def _caller(name: str) -> str:
    """Reads its first page from stdin, calls with the numbers at its end, prints what it has."""
    types = {"I": "i32", "Q": "i64"}
    kinds = [types[kind] for kind in _CALLS[name]]
    numbers = " ".join(f"({kind}.load (i32.const {_AT + 8 * i}))" for i, kind in enumerate(kinds))
    return f"""(module
      (import "wasi_snapshot_preview1" "fd_read" (func $in (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $out (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "{name}" (func $f (param {" ".join(kinds)}) (result i32)))
      (memory (export "memory") 1 2)
      (func $do (param $write i32) (param $at i32) (param $length i32)
        (i32.store (i32.const 65400) (local.get $at))
        (i32.store (i32.const 65404) (local.get $length))
        (if (local.get $write)
          (then (drop (call $out
            (i32.const 1) (i32.const 65400) (i32.const 1) (i32.const 65408))))
          (else (drop (call $in
            (i32.const 0) (i32.const 65400) (i32.const 1) (i32.const 65408))))))
      (func (export "_start") (local $errno i32)
        (call $do (i32.const 0) (i32.const {_AT}) (i32.const 128))
        (call $do (i32.const 0) (i32.const 0) (i32.const {_AT}))
        (local.set $errno (call $f {numbers}))
        (i32.store (i32.const 65392) (local.get $errno))
        (call $do (i32.const 1) (i32.const 0) (i32.const 65536))))"""


_SLEEPER = f"""(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $p (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "_start") (local $at i32)
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (local.set $at (i32.const 256))
    (loop $l (i64.store (local.get $at) (i64.const {int.from_bytes(_MARKER, "little")}))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $l (i32.lt_u (local.get $at) (i32.const {4 * PAGE}))))
    (drop (call $p (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"""


@cache
def _callers() -> tuple[list[Handler], list[Guest]]:
    sleeper = _load(_SLEEPER)
    neighbors = [Guest(sleeper, b"", b"", lambda data: None) for _ in range(20)]
    for guest in neighbors:
        assert not guest.step()
    for guest in neighbors[::2]:
        guest.close()  # the fuzzed guest gets a slot between two of them
    preopens = (Preopen(_volume().name, "/data"),)
    return [_load(_caller(name), preopens) for name in _CALLS], neighbors[1::2]


@cache
def _volume() -> tempfile.TemporaryDirectory[str]:
    """A directory for the guests: descriptor 3. What they make of it stays until the end."""
    volume = tempfile.TemporaryDirectory(prefix="wagi-fuzz-volume-")
    for name in ("file", "directory/file"):
        path = Path(volume.name, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("0123456789" * 100)
    Path(volume.name, "link").symlink_to("directory/file")
    Path(volume.name, "out").symlink_to("../../../etc/passwd")
    return volume


def hostcalls(data: bytes) -> None:
    """Numbers and a memory: an errno or a trap of WASI's, and no byte of a neighbor."""
    handlers, _ = _callers()
    handler = handlers[(data[0] if data else 0) % len(handlers)]
    printed: list[bytes] = []
    argv, environment = b"a\0" + b"b" * 50 + b"\0", b"A=1\0B=" + b"c" * 50 + b"\0"
    guest = Guest(handler, argv, environment, printed.append)
    try:
        guest.feed(data[1:129].ljust(128, b"\0") + data[129:])
        guest.end_input()
        for _ in range(10_000):
            ended = guest.step()
            printed.append(guest.take_output())
            if ended or guest.wait.wake_at is not None:
                break
        else:
            raise AssertionError("it goes on and on")
        output = b"".join(printed)
        assert _MARKER not in output or _MARKER in data
        end: Outcome | None = guest.outcome
        if isinstance(end, Trap):
            # wasmtime's own functions end a guest that breaks WASI's rules; ours answer.
            assert re.search("wasi_snapshot_preview1::|Pointer ", str(end)), end
            assert "host call failed" not in end.cause, end
        elif ended:
            assert int.from_bytes(output[-144:-140], "little") < 77, output[-144:-140]
    finally:
        guest.close()


def core(data: bytes) -> None:
    """A script of host calls: the same with the compiled core and with the calls in Python."""
    check_script(from_bytes(data))
