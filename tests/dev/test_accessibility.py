"""The dev page for people with a keyboard, a screen reader, a dark screen or a small one."""

from __future__ import annotations

import threading

import pytest

from tests.dev.conftest import Dev, entry
from tests.support.browser import Page
from tests.support.server import write_files

pytestmark = pytest.mark.xdist_group("dev")


def show_everything(dev: Dev, page: Page) -> None:
    """Failures, warnings, a response, a running request, a problem, long texts."""
    for path in ("/exits", "/noblank", "/large", "/shop/x?trap"):
        dev.server.raw(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        entry(page, path)
    page.evaluate("document.querySelector('[name=path]').value = '/large'")
    page.evaluate("document.getElementById('send').click()")
    page.wait("document.getElementById('answer-state').textContent.startsWith('complete')")
    threading.Thread(target=lambda: dev.server.get("/spin"), daemon=True).start()
    good = (dev.folder / "modules.toml").read_text()
    write_files(dev.folder, {"modules.toml": f"{good}\nodd = 1\n"})
    page.wait("!document.getElementById('problem').hidden", 30)
    page.wait("!document.getElementById('in-flight').hidden")
    write_files(dev.folder, {"modules.toml": good})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_axe_finds_nothing(dev: Dev, page: Page, scheme: str, width: int) -> None:
    page.prefer(scheme)
    page.resize(width, 800)
    assert page.accessibility_problems() == []
    show_everything(dev, page)
    assert page.accessibility_problems() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('#running button').forEach(e => e.click())")
    page.wait("document.getElementById('in-flight').hidden")
    page.prefer("light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_an_error_page(dev: Dev, page: Page, scheme: str) -> None:
    page.prefer(scheme)
    page.resize(360, 800)
    page.open(f"http://127.0.0.1:{dev.server.port}/shop/x?trap")
    page.wait("document.links.length == 1")
    assert page.accessibility_problems() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.prefer("light")


def test_the_console_is_quiet(dev: Dev, page: Page) -> None:
    """No file is missing, and nothing violates the policy."""
    page.evaluate(
        "window.found = [];"
        "document.addEventListener('securitypolicyviolation', e => found.push(e.blockedURI));"
        "window.addEventListener('error', e => found.push(e.message));"
    )
    dev.server.get("/shop/x?trap")
    entry(page, "/shop/x?trap")
    assert page.evaluate("found") == []
    assert page.evaluate("fetch('favicon.ico').then(response => response.status)") == 200
