"""A server with its dev page, and a browser that shows the page."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.browser import Page, browser
from tests.support.nginx import free_port
from tests.support.server import Server, manifest_of, serving, write_files
from tests.support.toolchains import HANDLERS, compiled, python_module
from tests.support.wat import SPIN, TEXT_HEAD, Program, printing

SHOP = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void look(const char *query) {
    if (strcmp(query, "trap") == 0) __builtin_trap();
}

int main(void) {
    fprintf(stderr, "\\033[1mlooking\\033[0m at %s\\n", getenv("PATH_INFO"));
    look(getenv("QUERY_STRING"));
    printf("Content-Type: text/html\\n\\n<script>window.evil = 1</script>hello\\n");
    return 0;
}
"""
MANIFEST = """
[[module]]
route = "/shop/..."
module = "shop.wasm"

[[module]]
route = "/mirror/..."
module = "mirror.wasm"

[[module]]
route = "/busy"
module = "spin.wat"
cpu_timeout = 0.2
"""


@dataclass(frozen=True)
class Dev:
    """A server with a dev page.

    Attributes:
        server: The server.
        port: The port of its dev page.
        folder: The folder of the project.
    """

    server: Server
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dev")
    slow = Program().write("Content-Type: text/event-stream\n\n")
    for number in range(3):
        slow.write(f"data: {number}\n\n").sleep(500)
    modules: dict[str, str | bytes] = {
        "hello.wat": printing(TEXT_HEAD + "hi"),
        "noblank.wat": printing("Content-Type: text/plain\nHello\n"),
        "exits.wat": Program().write(TEXT_HEAD + "partly").exit(3).wat(),
        "silent.wat": Program().write("no luck\n", fd=2).exit(4).wat(),
        "cut.wat": Program().write("Content-Type: text/plain\nContent-Length: 10\n\nshort").wat(),
        "spin.wat": Program().code(SPIN).wat(),
        "slow.wat": slow.wat(),
        "large.wat": printing(TEXT_HEAD + "x" * 100_000),
    }
    write_files(folder, {**modules, "shop.c": SHOP, "modules.toml": manifest_of(modules, MANIFEST)})
    shutil.copy(compiled(HANDLERS / "mirror.c"), folder / "mirror.wasm")
    zig = [sys.executable, "-m", python_module("ziglang"), "cc", "-target", "wasm32-wasi"]
    subprocess.run([*zig, "-g", "-O0", "shop.c", "-o", "shop.wasm"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def dev(folder: Path) -> Iterator[Dev]:
    port = free_port()
    with serving(folder, None, "--dev", "--dev-listen", f"127.0.0.1:{port}") as server:
        yield Dev(server, port, folder)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(dev: Dev, chromium: Page) -> Page:
    """The dev page, with an empty history."""
    chromium.resize(1100, 800)
    chromium.open(f"{dev.url}/")
    chromium.wait("document.getElementById('state').textContent == 'live'")
    chromium.wait("document.querySelectorAll('#routes tr').length > 0")
    chromium.evaluate("document.getElementById('clear').click()")
    chromium.wait("document.querySelectorAll('#requests > details').length == 0")
    return chromium


def can_connect(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


def text_of(page: Page, element: str) -> str:
    text = page.evaluate(f"{element}.innerText")
    assert isinstance(text, str)
    return text


def entry(page: Page, text: str) -> str:
    """Wait for the latest request with a text in its line, and open it. Returns: its element."""
    found = (
        "[...document.querySelectorAll('#requests > details')]"
        f".find(e => e.querySelector('summary').innerText.includes({text!r}))"
    )
    page.wait(f"!!{found}")
    page.evaluate(f"{found}.open = true")
    page.wait(f"{found}.children.length > 1")
    return found


def press_button(page: Page, element: str, label: str) -> None:
    """Click the button with a label in an element."""
    buttons = f"[...{element}.querySelectorAll('button')]"
    page.evaluate(f"{buttons}.find(e => e.textContent == {label!r}).click()")
