"""wagi serve --dev: the page that shows requests and their handlers, in a real browser."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from tests.dev.conftest import Dev, can_connect, entry, text_of
from tests.support.browser import Page
from tests.support.nginx import free_port
from tests.support.server import ROOT, run_wagi, serving, write_files
from tests.support.wat import TEXT_HEAD, printing

pytestmark = pytest.mark.xdist_group("dev")
HTML = [("Accept", "text/html,*/*;q=0.8")]


# Requests


def test_requests_appear_immediately(dev: Dev, page: Page) -> None:
    """With the time of day, and details that can be opened with the keyboard alone."""
    dev.server.get("/shop/cart?item=1")
    page.wait("document.querySelectorAll('#requests > details').length == 1")
    summary = text_of(page, "document.querySelector('#requests summary')")
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /shop/cart\?item=1 → 200 [\d.]+ ms", summary)
    page.tab_to("e.tagName == 'SUMMARY'")
    page.press("Enter")
    page.wait("document.querySelector('#requests details').children.length > 1")
    text = text_of(page, "document.querySelector('#requests details')")
    assert "Route: /shop/... · Module: shop.wasm · Request id: " in text
    assert "looking at /cart" in text  # without the escape sequences of a terminal
    assert "QUERY_STRING=item=1" in text
    assert "End: returned" in text


def test_output_of_guests_is_escaped(dev: Dev, page: Page) -> None:
    dev.server.get("/shop/markup?<img>", headers=[("X-Markup", "<img src=x>")])
    found = entry(page, "markup?<img>")
    text = text_of(page, found)
    assert "<script>window.evil = 1</script>hello" in text
    assert "X-Markup: <img src=x>" in text
    assert page.evaluate("window.evil") is None
    assert page.evaluate("document.querySelectorAll('#requests img').length") == 0


def test_a_request_body_is_shown(dev: Dev, page: Page) -> None:
    dev.server.post("/mirror/x", "name=Ünal".encode())
    text = text_of(page, entry(page, "POST /mirror/x"))
    assert "Request body\nname=Ünal\n" in text


def test_long_streams_are_shown_in_part(dev: Dev, page: Page) -> None:
    dev.server.post("/mirror/long", b"y" * 70_000)
    dev.server.get("/large")
    text = text_of(page, entry(page, "/mirror/long"))
    assert "Request body (the first 65536 of 70000 bytes)\nyyy" in text
    assert "stdout (the first 65536 of 100026 bytes)\n" in text_of(page, entry(page, "/large"))


def test_requests_are_filtered_and_cleared(dev: Dev, page: Page) -> None:
    visible = "[...document.querySelectorAll('#requests > details')].filter(e => !e.hidden)"
    for path in ("/hello", "/hello?two", "/nowhere"):
        dev.server.get(path)
    page.wait(f"{visible}.length == 3")
    page.tab_to("e.id == 'filter'")
    page.type("get two")
    page.wait(f"{visible}.length == 1")
    assert "/hello?two" in text_of(page, f"{visible}[0]")
    assert text_of(page, "document.getElementById('count')") == "1 of 3 requests"
    dev.server.get("/hello?two&new")
    page.wait(f"{visible}.length == 2")
    page.evaluate("document.getElementById('filter').value = ''")
    page.tab_to("e.id == 'failures'")
    page.press("Space")
    page.wait(f"{visible}.length == 1")
    assert "/nowhere → 404" in text_of(page, f"{visible}[0]")
    page.press("Space")
    page.wait(f"{visible}.length == 4")
    page.tab_to("e.id == 'clear'")
    page.press("Enter")
    page.wait(f"{visible}.length == 0")
    page.open(f"{dev.url}/")
    page.wait("document.getElementById('state').textContent == 'live'")
    page.wait("document.querySelectorAll('#routes tr').length > 0")
    assert page.evaluate(f"{visible}.length") == 0


# Failures


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/noblank", 500, "its output begins with 'Content-Type: text/plain\\nHello\\n'"),
        ("/silent", 500, "exited with status 4"),
        ("/busy", 504, "CPU time limit of 0.2 s (cpu_timeout)"),
        ("/shop/x?trap", 500, "unreachable"),
        ("/nowhere", 404, "No route matches this path"),
        ("/hello/../x", 400, "segment"),
    ],
)
def test_a_failure_has_its_reason(
    dev: Dev, page: Page, path: str, status: int, reason: str
) -> None:
    assert dev.server.get(path).status == status
    found = entry(page, f"{path} → {status}")
    assert reason in text_of(page, f"{found}.querySelector('.failure')")
    assert page.evaluate(f"{found}.querySelector('summary .why').textContent")


def test_a_request_that_is_not_http_has_its_reason(dev: Dev, page: Page) -> None:
    dev.server.raw(b"nonsense\r\n\r\n")
    assert "not valid HTTP" in text_of(page, f"{entry(page, '400')}.querySelector('.failure')")


def test_a_disconnected_client_is_a_failure(dev: Dev, page: Page) -> None:
    with dev.server.connect() as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100)
    found = entry(page, "/slow → ")
    assert "the client closed the connection" in text_of(page, f"{found}.querySelector('.failure')")


@pytest.mark.parametrize(
    ("path", "warning"),
    [
        ("/exits", "exited with status 3"),
        ("/cut", "5 bytes before its Content-Length"),
    ],
)
def test_warnings_are_shown(dev: Dev, page: Page, path: str, warning: str) -> None:
    dev.server.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert warning in text_of(page, f"{entry(page, path)}.querySelector('.failure')")


def test_the_line_of_a_trap_comes_first(dev: Dev, page: Page) -> None:
    dev.server.get("/shop/cart?trap")
    text = text_of(page, entry(page, "cart?trap"))
    assert (
        text.index("shop.c:6:") < text.index("looking at /cart") < text.index("QUERY_STRING=trap")
    )
    assert "End: trap" in text


def test_backtraces_have_files_and_lines(dev: Dev) -> None:
    """For modules with debug information."""
    dev.server.get("/shop/x?trap")
    dev.server.wait_for_log(r"shop\.c:6:\d+")


# Error pages


def test_an_error_page_links_to_the_entry_of_the_request(dev: Dev, page: Page) -> None:
    """Browsers get HTML; the link opens the entry on the dev page."""
    url = f"http://127.0.0.1:{dev.server.port}/noblank"
    dev.server.get("/hello")
    page.open(url)
    page.wait("document.contentType == 'text/html' && document.links.length == 1")
    assert "500 Internal Server Error" in text_of(page, "document.body")
    assert "its output begins with" in text_of(page, "document.body")
    assert page.evaluate("document.links[0].href").startswith(f"{dev.url}/#")
    page.evaluate("document.links[0].click()")
    page.wait("document.querySelector('#requests details[open]')?.children.length > 1")
    opened = "document.querySelectorAll('#requests details[open]')"
    assert page.evaluate(f"{opened}.length") == 1
    assert "/noblank → 500" in text_of(page, f"{opened}[0]")


def test_the_error_page_of_other_clients_is_text(dev: Dev) -> None:
    """It has the reason, the output of the guest, and its variables."""
    text = dev.server.get("/shop/cart?trap").text
    assert text.startswith("500 Internal Server Error\n\nThe handler failed.\n\nRequest id: ")
    assert re.search(r"(?s)\nWhy:\n    .*shop\.c:6:", text)
    assert "looking" in text
    assert re.search(r"\n +route +/shop/\.\.\.\n +module +shop\.wasm\n", text)
    assert "  QUERY_STRING=trap\n" in text
    assert f"\nMore: {dev.url}/#" in text
    assert "Why" not in dev.server.get("/nowhere").text


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[::1", ""])
@pytest.mark.parametrize("accept", [[], HTML])
def test_error_details_require_a_loopback_host(
    dev: Dev, host: str, accept: list[tuple[str, str]]
) -> None:
    """Another site may have pointed its own host name here (DNS rebinding)."""
    answer = dev.server.get("/shop/cart?trap", headers=[("Host", host), *accept])
    assert answer.status in (400, 500)
    assert "Why" not in answer.text
    assert "QUERY_STRING" not in answer.text
    assert str(dev.port) not in answer.text


def test_error_pages_reveal_nothing_in_production(tmp_path: Path) -> None:
    modules: dict[str, str | bytes] = {"m.wat": printing("Content-Type: text/plain\nsecret")}
    manifest = '[[module]]\nroute = "/"\nmodule = "m.wat"\n'
    with serving(tmp_path, manifest, modules=modules) as server:
        answer = server.get("/", headers=HTML)
        assert answer.status == 500
        assert answer.header("Content-Type") == "text/html; charset=utf-8"
        assert answer.header("Vary") == "Accept"
        assert "<h1>500 Internal Server Error</h1>" in answer.text
        assert answer.text.count("<p>") == 2  # the message and the request id
        assert not re.search("secret|m.wat|<a |<pre", answer.text)


# Reloads


def test_a_failed_reload_is_shown_and_the_history_is_kept(dev: Dev, page: Page) -> None:
    """Each problem on its own line."""
    dev.server.get("/hello")
    page.wait("document.querySelectorAll('#requests > details').length == 1")
    good = (dev.folder / "modules.toml").read_text()
    write_files(dev.folder, {"modules.toml": f"{good}\nodd = 1\nstrange = 2\n"})
    problem = "document.getElementById('problem')"
    page.wait(f"!{problem}.hidden && {problem}.innerText.includes('strange')", 30)
    lines = text_of(page, "document.getElementById('problem-text')").splitlines()
    assert [
        re.sub(r"\d+", "N", line).partition(" key")[0] for line in lines if "toml:" in line
    ] == [
        "modules.toml:N: unknown",
        "modules.toml:N: unknown",
    ]
    assert dev.server.get("/hello", headers=HTML).text == "hi"
    answer = dev.server.get("/nowhere", headers=HTML).text
    assert "<h2>Failed to load</h2>" in answer
    write_files(dev.folder, {"modules.toml": good})
    page.wait(f"{problem}.hidden", 30)
    page.wait("document.querySelectorAll('#requests > details').length == 3")


# The process


@pytest.mark.parametrize("host", ["0.0.0.0:3001", ":3001", "10.0.0.1:3001", "127.0.0.1"])
def test_it_listens_on_loopback_only(folder: Path, host: str) -> None:
    done = run_wagi(folder, "serve", "--dev", "--dev-listen", host)
    assert done.returncode == 2
    assert "--dev-listen: expected a port of 127.0.0.1, localhost or [::1]" in done.stderr


def test_no_dev_page_without_dev(tmp_path: Path) -> None:
    modules: dict[str, str | bytes] = {"hello.wat": printing(TEXT_HEAD + "hi")}
    manifest = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
    port = free_port()
    options = ("--watch", "--dev-listen", f"127.0.0.1:{port}")
    with serving(tmp_path, manifest, *options, modules=modules):
        assert not can_connect(port)


def test_the_page_ends_with_the_server(folder: Path) -> None:
    port = free_port()
    options = ("--dev", "--dev-listen", f"127.0.0.1:{port}")
    for how in (signal.SIGTERM, signal.SIGKILL):
        with serving(folder, None, *options) as server:
            assert can_connect(port)
            server.stop(how)
        deadline = time.monotonic() + 10
        while can_connect(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_screenshot_in_the_docs_exists() -> None:
    assert (ROOT / "docs/dev-page.png").read_bytes().startswith(b"\x89PNG")
