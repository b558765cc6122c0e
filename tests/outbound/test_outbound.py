"""Outbound HTTP, driven by handlers that real compilers built for its ABI."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.server import Server, run_wagi, serving, write_files
from tests.support.tls import certificate_of
from tests.support.toolchains import EXAMPLES, HANDLERS, compiled, native_c_library
from tests.support.upstream import Upstream, upstream
from tests.support.wat import TEXT_HEAD, printing

pytestmark = pytest.mark.xdist_group("outbound")
SUPPORT = Path(__file__).parents[1] / "support"


def entry(route: str, hosts: list[str], module: str = "outbound.wasm", **keys: str) -> str:
    rules = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return (
        f'[[module]]\nroute = "{route}"\nmodule = "{module}"\n'
        f"allowed_hosts = {json.dumps(hosts)}\n{rules}"
    )


@pytest.fixture(scope="module")
def backend() -> Iterator[Upstream]:
    with upstream() as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, backend: Upstream) -> Iterator[Server]:
    port = backend.port
    manifest = "".join(
        (
            entry("/any", ["127.0.0.1"]),
            entry("/rust", ["127.0.0.1"], "rust.wasm"),
            entry("/none", []),
            entry("/all", ["insecure:allow-all"]),
            entry("/local", [f"http://localhost:{port}"]),
            entry("/other-port", [f"http://127.0.0.1:{port + 1}"]),
            entry("/https", [f"https://127.0.0.1:{port}"]),
            entry("/name", ["localhost", "rebind.example"]),
            entry("/two", ["127.0.0.1"], http_max_concurrency="2"),
            entry("/hurried", ["127.0.0.1"], http_timeout="0.5"),
            entry("/short", ["127.0.0.1"], timeout="1", http_timeout="0"),
            entry("/small", ["127.0.0.1"], http_response_limit='"10KiB"'),
            '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n',
        )
    )
    modules: dict[str, str | bytes] = {
        "outbound.wasm": compiled(HANDLERS / "outbound.c").read_bytes(),
        "rust.wasm": compiled(EXAMPLES / "rust/ask.rs").read_bytes(),
        "hello.wat": printing(TEXT_HEAD + "hello"),
    }
    folder = tmp_path_factory.mktemp("outbound")
    with serving(folder, manifest, modules=modules) as running:
        yield running


def ask(
    server: Server,
    path: str,
    url: str,
    method: str = "GET",
    headers: str = "",
    body: str = "",
) -> str:
    """Have a handler send a request; return its report."""
    request = f"{method}\n{url}\n{headers}\n{body}".encode()
    answer = server.post(path, request)
    assert answer.status == 200, answer.text
    return answer.text


def echoed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.partition("body\n")[2].partition("\nend ")[0])
    return found


def test_request_and_response(server: Server, backend: Upstream) -> None:
    """Method, URL, headers and body of the request; status, headers and body of the response."""
    url = f"http://127.0.0.1:{backend.port}/echo?a=%20b"
    text = ask(server, "/any?all", url, "POST", "x-one:1\nX-Two: zwei ü\n", "the body")
    assert text.startswith("req 0\nstatus 200\nheaders 0\n")
    assert "Content-Type:text/plain\n" in text
    assert "X-Twice:a\n" in text
    assert "X-Twice:b\n" in text
    assert text.endswith("close 0\n")
    seen = echoed(text)
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/echo?a=%20b", "the body")
    assert headers["x-one"] == "1"
    assert headers["x-two"].encode("latin-1").decode() == "zwei ü"
    assert headers["host"] == f"127.0.0.1:{backend.port}"
    assert headers["user-agent"].startswith("wagi/")
    assert "accept-encoding" not in headers
    assert "content-type" not in headers


def test_a_rust_handler(server: Server, backend: Upstream) -> None:
    answer = server.get(f"/rust?http://127.0.0.1:{backend.port}/echo")
    assert answer.status == 200
    assert ["x-from", "rust"] in json.loads(answer.text)["headers"]
    assert server.get(f"/rust?http://127.0.0.1:{backend.port}/status&code=404").status == 502
    answer = server.get(f"/rust?http://127.0.0.1:{backend.port}/status?code=404")
    assert (answer.status, answer.text) == (404, "said so")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "get"])
def test_methods(server: Server, backend: Upstream, method: str) -> None:
    text = ask(server, "/any", f"http://127.0.0.1:{backend.port}/echo", method)
    assert text.startswith("req 0\nstatus 200\n")
    if method != "HEAD":
        assert echoed(text)["method"] == method.upper()


def test_headers(server: Server, backend: Upstream) -> None:
    """Header names are case-insensitive; a guest cannot set headers that redirect the request."""
    url = f"http://127.0.0.1:{backend.port}/echo"
    assert "header 0 text/plain\n" in ask(server, "/any?get=cOnTeNt-TyPe", url)
    assert "header 0 a\n" in ask(server, "/any?get=x-twice", url)
    assert "header 5 \n" in ask(server, "/any?get=x-none", url)
    text = ask(
        server, "/any", url, headers="Host:evil\nContent-Length:5\nConnection:upgrade\nTE:x\n"
    )
    headers = dict(echoed(text)["headers"])
    assert headers["Host"] == f"127.0.0.1:{backend.port}"
    assert headers.keys() & {"te", "TE", "connection", "Content-Length"} == set()


def test_reading_a_body_in_pieces(server: Server, backend: Upstream) -> None:
    """body_read continues where it stopped, for any size of buffer."""
    url = f"http://127.0.0.1:{backend.port}/large?n=300000"
    for room in ("7000", "1", "1000000"):
        size = "300000" if room != "1" else "2000"
        text = ask(server, f"/any?count&room={room}", url.replace("300000", size))
        assert f"\nend 0 {size}\n" in text


@pytest.mark.parametrize(
    ("bad", "numbers"),
    [
        ("handle", [1, 1, 1, 1]),
        ("closed", [0, 1]),
        ("pointers", [3] * 10),
        ("utf8", [6, 6, 6]),
        ("room", [4, 4, 5, 0]),
    ],
)
def test_bad_calls(server: Server, backend: Upstream, bad: str, numbers: list[int]) -> None:
    text = ask(server, f"/any?bad={bad}", f"http://127.0.0.1:{backend.port}/echo")
    assert [int(line) for line in re.findall(r"^\d+$", text, re.M)] == numbers


@pytest.mark.parametrize(
    ("url", "method", "headers", "number"),
    [
        ("nonsense", "GET", "", 10),
        ("", "GET", "", 10),
        ("ftp://127.0.0.1/", "GET", "", 10),
        ("file:///etc/passwd", "GET", "", 10),
        ("http://", "GET", "", 10),
        ("http://127.0.0.1:99999/", "GET", "", 10),
        ("http://127.0.0.1:PORT/", "G ET", "", 8),
        ("http://127.0.0.1:PORT/", "", "", 8),
        ("http://127.0.0.1:PORT/", "CONNECT", "", 8),
        ("http://127.0.0.1:PORT/", "GET", "no colon\n", 9),
        ("http://127.0.0.1:PORT/", "GET", "bad name:x\n", 9),
        ("http://127.0.0.1:PORT/", "GET", "a:b\rX-Injected: c\n", 9),
        ("http://127.0.0.1:PORT/nonsense", "GET", "", 11),
        ("http://127.0.0.1:1/", "GET", "", 11),
    ],
)  # fmt: skip
def test_bad_requests(
    server: Server, backend: Upstream, url: str, method: str, headers: str, number: int
) -> None:
    url = url.replace("PORT", str(backend.port))
    assert ask(server, "/any", url, method, headers) == f"req {number}\n"


def test_a_url_cannot_inject_headers(server: Server, backend: Upstream) -> None:
    url = f"http://127.0.0.1:{backend.port}/echo?a b\rX-Injected:c"
    text = ask(server, "/any", url)
    if text != "req 10\n":
        assert "X-Injected" not in dict(echoed(text)["headers"])


@pytest.mark.parametrize(
    ("path", "url", "number"),
    [
        ("/none", "http://127.0.0.1:PORT/", 7),
        ("/any", "http://127.0.0.2:PORT/", 7),
        ("/any", "http://localhost:PORT/", 7),
        ("/all", "http://127.0.0.1:PORT/", 7),
        ("/all", "http://localhost:PORT/", 7),
        ("/all", "http://[::1]:PORT/", 7),
        ("/all", "http://0.0.0.0:PORT/", 7),
        ("/all", "http://127.1:PORT/", 7),
        ("/all", "http://2130706433:PORT/", 7),
        ("/all", "http://0x7f000001:PORT/", 7),
        ("/all", "http://[::ffff:127.0.0.1]:PORT/", 7),
        ("/all", "http://169.254.169.254/latest/meta-data", 7),
        ("/local", "http://localhost:PORT/", 0),
        ("/local", "http://LOCALHOST:PORT/", 0),
        ("/local", "http://127.0.0.1:PORT/", 7),
        ("/local", "http://127.0.0.1@localhost:PORT/", 0),
        ("/local", "http://localhost@127.0.0.1:PORT/", 7),
        ("/other-port", "http://127.0.0.1:PORT/", 7),
        ("/https", "http://127.0.0.1:PORT/", 7),
        ("/https", "https://127.0.0.1:PORT/", 11),
    ],
)
def test_allowed_destinations(
    server: Server, backend: Upstream, path: str, url: str, number: int
) -> None:
    """By scheme, host and port; private addresses must be listed even with allow-all."""
    before = len(backend.requests)
    text = ask(server, path, url.replace("PORT", str(backend.port)))
    # The client does not recognize some spellings of an address, and they do not resolve as names.
    expected = ("req 7\n", "req 10\n", "req 11\n") if number == 7 else (f"req {number}\n",)
    assert text.startswith(expected)
    assert (len(backend.requests) > before) == (number == 0)


def test_an_untrusted_certificate(tmp_path: Path) -> None:
    """The request fails, and the log has the reason."""
    with upstream(certificate_of(tmp_path / "tls")) as found:
        url = f"https://127.0.0.1:{found.port}"
        modules = {"outbound.wasm": compiled(HANDLERS / "outbound.c").read_bytes()}
        with serving(tmp_path, entry("/tls", [url]), modules=modules) as server:
            assert ask(server, "/tls", f"{url}/").startswith("req 11\n")
            server.wait_for_log(rf"outbound HTTP: {url}: .*certificate verify failed")
        assert found.requests == []


def test_the_log_has_the_reason(server: Server, backend: Upstream) -> None:
    ask(server, "/none", f"http://127.0.0.1:{backend.port}/")
    ask(server, "/other-port", f"http://127.0.0.1:{backend.port}/")
    ask(server, "/all", f"http://localhost:{backend.port}/")
    server.wait_for_log(
        r"\[[0-9a-f]+-\d+\] POST /none, route /none, module outbound.wasm: outbound HTTP: the"
        r" handler has no allowed_hosts"
    )
    server.wait_for_log(rf"http://127.0.0.1:{backend.port} is not in allowed_hosts")
    server.wait_for_log(
        "localhost resolves to (127.0.0.1|::1), which is not a public address: add it"
    )


def test_redirects(server: Server, backend: Upstream) -> None:
    """They are followed, with methods as in browsers and curl; at most ten, without loops."""
    base = f"http://127.0.0.1:{backend.port}"
    for code, method, expected in (
        (301, "GET", "GET"), (302, "POST", "GET"), (303, "PUT", "GET"), (307, "POST", "POST"),
        (308, "PUT", "PUT"), (302, "PUT", "PUT"),
    ):  # fmt: skip
        url = f"{base}/redirect?code={code}&to=/echo"
        seen = echoed(ask(server, "/any", url, method, "x-kept:1\ncontent-type:a/b\n", "body"))
        assert (seen["method"], seen["body"]) == (expected, "body" if expected == method else "")
        names = {name.lower() for name, _ in seen["headers"]}
        assert "x-kept" in names
        assert ("content-type" in names) == (expected == method)
    twice = quote("/redirect?to=%2Fecho", safe="")
    assert "status 200" in ask(server, "/any", f"{base}/redirect?to={twice}")
    assert ask(server, "/any", f"{base}/loop") == "req 11\n"
    assert backend.requests[-11:] == ["GET /loop"] * 11


def test_every_redirect_is_checked(server: Server, backend: Upstream) -> None:
    to = quote(f"http://127.0.0.2:{backend.port}/echo", safe="")
    url = f"http://127.0.0.1:{backend.port}/redirect?to={to}"
    assert ask(server, "/any", url) == "req 7\n"
    to = quote("file:///etc/passwd", safe="")
    assert ask(server, "/any", f"http://127.0.0.1:{backend.port}/redirect?to={to}") == "req 10\n"
    to = quote(f"http://127.0.0.1:{backend.port}/echo", safe="")
    url = f"http://localhost:{backend.port}/redirect?to={to}"
    assert ask(server, "/local", url) == "req 7\n"


def test_credentials_do_not_cross_origins(tmp_path: Path, backend: Upstream) -> None:
    manifest = entry("/", ["127.0.0.1", "127.0.0.2"])
    modules: dict[str, str | bytes] = {
        "outbound.wasm": compiled(HANDLERS / "outbound.c").read_bytes()
    }
    headers = "Authorization:Bearer x\nCookie:a=b\nX-Kept:1\n"
    with serving(tmp_path, manifest, modules=modules) as server:
        for host, kept in (("127.0.0.1", True), ("127.0.0.2", False)):
            to = quote(f"http://{host}:{backend.port}/echo", safe="")
            url = f"http://127.0.0.1:{backend.port}/redirect?to={to}"
            names = {
                n.lower() for n, _ in echoed(ask(server, "/", url, headers=headers))["headers"]
            }
            assert "x-kept" in names
            assert ({"authorization", "cookie"} <= names) == kept
            assert ("authorization" in names) == kept


def test_dns_rebinding(tmp_path: Path, backend: Upstream) -> None:
    """The address that was checked is used: one lookup per connection."""
    library = native_c_library(SUPPORT / "names.c")
    modules: dict[str, str | bytes] = {
        "outbound.wasm": compiled(HANDLERS / "outbound.c").read_bytes()
    }
    manifest = entry("/", ["rebind.test", "127.0.0.2"])
    url = f"http://rebind.test:{backend.port}/echo"
    for answers, expected in (
        ("127.0.0.2\n127.0.0.1\n127.0.0.1\n", "127.0.0.2"),
        ("127.0.0.1\n127.0.0.2\n127.0.0.2\n", None),
    ):
        names = tmp_path / "names"
        names.write_text(answers)
        environment = {"LD_PRELOAD": str(library), "NAMES_FILE": str(names)}
        with serving(tmp_path, manifest, modules=modules, environment=environment) as server:
            text = ask(server, "/", url)
        assert Path(f"{names}.log").read_text() == "rebind.test\n"
        Path(f"{names}.log").unlink()
        if expected:
            assert echoed(text)["address"] == expected
        else:
            assert text == "req 7\n"


# Limits


def test_http_max_concurrency(server: Server, backend: Upstream) -> None:
    """Exceeding it is error 13."""
    url = f"http://127.0.0.1:{backend.port}/large?n=100"
    assert ask(server, "/two?hold=4", url) == "req 0\nreq 0\nreq 13\nreq 13\n"
    assert ask(server, "/any?hold=8", url).startswith("req 0\n" * 8 + "status 200")
    assert ask(server, "/any?hold=9", url).endswith("req 13\n")


def test_a_response_that_is_too_large(server: Server, backend: Upstream) -> None:
    url = f"http://127.0.0.1:{backend.port}/large?n="
    assert "\nend 0 10240\n" in ask(server, "/small?count", url + "10240")
    text = ask(server, "/small?count&room=1000", url + "10241")
    assert re.search(r"\nend 12 \d+\nclose 0\n", text)
    server.wait_for_log(r"the response has more than 10240 bytes \(http_response_limit\)")


def test_a_response_that_takes_too_long(server: Server, backend: Upstream) -> None:
    started = time.monotonic()
    assert ask(server, "/hurried", f"http://127.0.0.1:{backend.port}/slow?s=30") == "req 11\n"
    text = ask(server, "/hurried?count", f"http://127.0.0.1:{backend.port}/trickle")
    assert re.search(r"\nend 12 \d+\n", text)
    assert time.monotonic() - started < 10


def test_a_truncated_response(server: Server, backend: Upstream) -> None:
    """The guest gets an error, whether or not it has read the preceding data."""
    text = ask(server, "/any", f"http://127.0.0.1:{backend.port}/cut")
    assert re.search(r"\nend 12 [04]\nclose 0\n", text)


@pytest.mark.parametrize("path", ["slow?s=30", "trickle"])
def test_the_timeout_applies_while_waiting(server: Server, backend: Upstream, path: str) -> None:
    """The guest's timeout includes the time that it waits for a server."""
    started = time.monotonic()
    url = f"http://127.0.0.1:{backend.port}/{path}"
    answer = server.post("/short?count", f"GET\n{url}\n\n".encode())
    assert answer.status == 504
    assert time.monotonic() - started < 5


def test_a_disconnect_ends_the_outbound_request(server: Server, backend: Upstream) -> None:
    backend.gone.clear()
    body = f"GET\nhttp://127.0.0.1:{backend.port}/trickle\n\n".encode()
    with server.connect() as connection:
        connection.sendall(
            b"POST /any?count HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        deadline = time.monotonic() + 10
        while "GET /trickle" not in backend.requests[-1:] and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
    deadline = time.monotonic() + 10
    while "/trickle" not in backend.gone:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_waiting_does_not_block_others(server: Server, backend: Upstream) -> None:
    """While twenty guests wait for a slow server, others are served; later all get responses."""
    url = f"http://127.0.0.1:{backend.port}/slow?s=2"
    with ThreadPoolExecutor(20) as pool:
        started = time.monotonic()
        waiting = [pool.submit(ask, server, "/any", url) for _ in range(20)]
        time.sleep(0.5)
        for _ in range(20):
            assert server.get("/hello").text == "hello"
        assert time.monotonic() - started < 1.9
        assert all("at last" in item.result() for item in waiting)
        assert time.monotonic() - started < 10


def test_waiting_is_not_limited_by_a_pool(server: Server, backend: Upstream) -> None:
    """While 150 guests of an entry wait for a slow server, one more reaches a fast one."""
    slow = f"http://127.0.0.1:{backend.port}/slow?s=4"
    with ThreadPoolExecutor(150) as pool:
        waiting = [pool.submit(ask, server, "/any", slow) for _ in range(150)]
        deadline = time.monotonic() + 30
        while sum("/slow?s=4" in item for item in backend.requests) < 150:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert "status 200" in ask(server, "/any", f"http://127.0.0.1:{backend.port}/echo")
        assert all("at last" in item.result() for item in waiting)


def test_a_shutdown_waits_for_outbound_requests(tmp_path: Path, backend: Upstream) -> None:
    modules: dict[str, str | bytes] = {
        "outbound.wasm": compiled(HANDLERS / "outbound.c").read_bytes()
    }
    answers: list[str] = []
    url = f"http://127.0.0.1:{backend.port}/slow?s=1"
    with serving(tmp_path, entry("/", ["127.0.0.1"]), modules=modules) as server:
        thread = Thread(target=lambda: answers.append(ask(server, "/", url)))
        thread.start()
        time.sleep(0.4)
        assert server.stop() == 0
        thread.join()
        assert "at last" in answers[0]
        assert "nclosed" not in server.log
        assert "never retrieved" not in server.log


def test_an_invalid_allowed_host(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"m.wat": printing("x"), "modules.toml": entry("/", ["ftp://x"], "m.wat")}
    )
    done = run_wagi(tmp_path, "check")
    assert done.returncode == 2
    assert "modules.toml:4: allowed_hosts: 'ftp://x': expected https://HOST" in done.stderr


def test_slow_name_lookups_do_not_block_others(tmp_path: Path, backend: Upstream) -> None:
    """Neither guests that look up other names, nor the shutdown."""
    library = native_c_library(SUPPORT / "names.c")
    modules: dict[str, str | bytes] = {
        "outbound.wasm": compiled(HANDLERS / "outbound.c").read_bytes()
    }
    (tmp_path / "names").write_text("slow\n" * 20)
    environment = {"LD_PRELOAD": str(library), "NAMES_FILE": str(tmp_path / "names")}
    manifest = entry("/", ["slow.test", "127.0.0.1", "localhost"], timeout="60")
    options = ("--shutdown-timeout", "1")
    with serving(tmp_path, manifest, *options, modules=modules, environment=environment) as server:
        with ThreadPoolExecutor(12) as pool:
            body = b"GET\nhttp://slow.test/\n\n"
            waiting = [pool.submit(server.post, "/", body) for _ in range(12)]
            time.sleep(0.5)
            started = time.monotonic()
            assert "status 200" in ask(server, "/", f"http://localhost:{backend.port}/echo")
            assert time.monotonic() - started < 3
            assert server.stop(seconds=20) == 0
            for item in waiting:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    item.result()
        assert time.monotonic() - started < 20
