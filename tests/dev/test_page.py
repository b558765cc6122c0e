"""wagi serve --dev: the page that shows requests and their handlers, in a real browser."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Page, browser
from tests.support.nginx import free_port
from tests.support.server import ROOT, Server, run_wagi, serving, write_files
from tests.support.toolchains import python_module
from tests.support.wat import TEXT_HEAD, printing

pytestmark = pytest.mark.xdist_group("dev")
SOURCE = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void look(const char *query) {
    if (strcmp(query, "trap") == 0) __builtin_trap();
}

int main(void) {
    fprintf(stderr, "looking at %s\\n", getenv("PATH_INFO"));
    look(getenv("QUERY_STRING"));
    printf("Content-Type: text/html\\n\\n<script>window.evil = 1</script>hello\\n");
    return 0;
}
"""
MANIFEST = (
    '[[module]]\nroute = "/shop/..."\nmodule = "shop.wasm"\n'
    '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dev")
    write_files(
        folder,
        {"shop.c": SOURCE, "modules.toml": MANIFEST, "hello.wat": printing(TEXT_HEAD + "hi")},
    )
    zig = [sys.executable, "-m", python_module("ziglang"), "cc", "-target", "wasm32-wasi"]
    subprocess.run([*zig, "-g", "-O0", "shop.c", "-o", "shop.wasm"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def dev(folder: Path) -> Iterator[tuple[Server, int]]:
    port = free_port()
    options = ("--dev", "--dev-listen", f"127.0.0.1:{port}")
    with serving(folder, None, *options) as server:
        assert f"dev page on http://127.0.0.1:{port}\n" in server.log
        yield server, port


@pytest.fixture(scope="module")
def page(dev: tuple[Server, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        page.resize(1100, 800)
        page.open(f"http://127.0.0.1:{dev[1]}/")
        page.wait("document.getElementById('state').textContent == 'live'")
        yield page


def test_backtraces_have_files_and_lines(dev: tuple[Server, int]) -> None:
    """For modules with debug information."""
    dev[0].get("/shop/x?trap")
    dev[0].wait_for_log(r"look\n +at \S*/shop\.c:6:\d+\n")


def test_error_pages_have_details(dev: tuple[Server, int]) -> None:
    """They have the backtrace, the guest's stderr and its variables."""
    text = dev[0].get("/shop/cart?trap").text
    assert text.startswith("500 Internal Server Error\n\nThe handler failed.\n\nRequest id: ")
    assert re.search(r"(?s)\nWhy: trap: .*shop\.c:6:", text)
    assert "\nstderr:\n    looking at /cart\n" in text
    assert re.search(r"\nroute +/shop/\.\.\.\nmodule +shop\.wasm\n", text)
    assert "\n  QUERY_STRING=trap\n" in text
    assert "Why" not in dev[0].get("/nowhere").text


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "[::1", ""])
def test_error_details_require_a_loopback_host(dev: tuple[Server, int], host: str) -> None:
    """Another site may have pointed its own host name here (DNS rebinding)."""
    answer = dev[0].get("/shop/cart?trap", headers=[("Host", host)])
    assert answer.status in (400, 500)
    assert "Why" not in answer.text
    assert "QUERY_STRING" not in answer.text


def test_the_page(dev: tuple[Server, int], page: Page, folder: Path) -> None:
    """Requests appear immediately, with details; the page is usable with the keyboard alone."""
    server, _ = dev
    page.wait("document.querySelectorAll('#routes tr').length == 2")
    assert "/shop/..." in page.evaluate("document.getElementById('routes').innerText")
    server.get("/shop/cart?item=1")
    server.get("/shop/cart?trap")
    page.wait("document.querySelector('#requests summary')?.innerText.includes('cart?trap')")
    first = page.evaluate("document.querySelector('#requests summary').innerText")
    assert re.fullmatch(r"GET /shop/cart\?trap → 500 [\d.]+ ms", first)
    page.evaluate("document.querySelector('#requests summary').focus()")
    page.press("Enter")
    page.wait("document.querySelector('#requests details')?.open")
    text = page.evaluate("document.querySelector('#requests details').innerText")
    assert "looking at /cart" in text
    assert "shop.c:6:" in text
    assert "QUERY_STRING=trap" in text
    assert "End: trap" in text
    page.screenshot(folder / "page.png")
    assert (folder / "page.png").stat().st_size > 20_000


def test_output_of_guests_is_escaped(dev: tuple[Server, int], page: Page) -> None:
    server, _ = dev
    server.get("/shop/markup?<img>")
    page.wait("document.querySelector('#requests summary')?.innerText.includes('markup')")
    page.evaluate("document.querySelector('#requests details').open = true")
    text = page.evaluate("document.querySelector('#requests details').innerText")
    assert "<script>window.evil = 1</script>hello" in text
    assert page.evaluate("window.evil") is None
    assert page.evaluate("document.querySelectorAll('#requests img').length") == 0


def test_sending_a_request_from_the_page(dev: tuple[Server, int], page: Page) -> None:
    page.evaluate("document.querySelector('[name=path]').focus()")
    page.evaluate("document.querySelector('[name=path]').value = ''")
    page.type("/hello")
    page.press("Enter")
    page.wait("!document.getElementById('answer').hidden")
    page.wait("document.getElementById('answer').textContent.startsWith('HTTP/1.1 200 OK')")
    assert page.evaluate("document.getElementById('answer').textContent").endswith("\n\nhi")
    page.wait("document.querySelector('#requests summary')?.innerText.includes('/hello')")


def test_a_narrow_window(page: Page) -> None:
    page.resize(360, 700)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.resize(1100, 800)


def test_every_control_has_a_name(page: Page) -> None:
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, textarea')]"
        ".filter((item) => !item.labels.length).length"
    )
    assert unnamed == 0


def test_a_failed_reload_is_shown_and_the_history_is_kept(
    dev: tuple[Server, int], page: Page, folder: Path
) -> None:
    server, _ = dev
    count = page.evaluate("document.querySelectorAll('#requests details').length")
    write_files(folder, {"hello.wat": "(broken"})
    page.wait("document.getElementById('problem').textContent.includes('hello.wat')")
    write_files(folder, {"hello.wat": printing(TEXT_HEAD + "mended")})
    page.wait("document.getElementById('problem').textContent == ''")
    deadline = time.monotonic() + 10
    while server.get("/hello").text != "mended":
        assert time.monotonic() < deadline
    page.wait(f"document.querySelectorAll('#requests details').length > {count}")


# Access control


def ask(port: int, method: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, json.dumps({}) if method == "POST" else None, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_other_sites_have_no_access(dev: tuple[Server, int]) -> None:
    """DNS rebinding, and forms in pages of other sites, are rejected."""
    _, port = dev
    assert ask(port, "GET", "/", {"Host": f"evil.example:{port}"}) == 403
    assert ask(port, "GET", "/events", {"Host": "evil.example"}) == 403
    assert ask(port, "POST", "/try", {"Content-Type": "text/plain"}) == 403
    assert ask(port, "GET", "/", {"Host": f"localhost:{port}"}) == 200


@pytest.mark.parametrize("address", ["0.0.0.0:3001", ":3001", "10.0.0.1:3001", "127.0.0.1"])
def test_it_listens_on_loopback_only(folder: Path, address: str) -> None:
    done = run_wagi(folder, "serve", "--dev", "--dev-listen", address)
    assert done.returncode == 2
    assert "--dev-listen: expected a port of 127.0.0.1, localhost or [::1]" in done.stderr


def test_no_dev_page_without_dev(tmp_path: Path) -> None:
    modules: dict[str, str | bytes] = {"hello.wat": printing(TEXT_HEAD + "hi")}
    manifest = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
    port = free_port()
    options = ("--watch", "--dev-listen", f"127.0.0.1:{port}")
    server = serving(tmp_path, manifest, *options, modules=modules)
    with server, pytest.raises(ConnectionRefusedError):
        ask(port, "GET", "/", {})


def test_the_page_ends_with_the_server(folder: Path) -> None:
    port = free_port()
    options = ("--dev", "--dev-listen", f"127.0.0.1:{port}")
    for how in (signal.SIGTERM, signal.SIGKILL):
        with serving(folder, None, *options) as server:
            assert ask(port, "GET", "/", {}) == 200
            server.stop(how)
        deadline = time.monotonic() + 10
        while True:
            try:
                ask(port, "GET", "/", {})
            except OSError:
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_screenshot_in_the_docs_exists() -> None:
    assert (ROOT / "docs/dev-page.png").read_bytes().startswith(b"\x89PNG")
