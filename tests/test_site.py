"""The built site in a real browser: it fits a phone, needs no other server, and can be searched."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.support.browser import browser
from tests.support.server import ROOT
from tests.support.toolchains import python_module

PHONE = 360
"""The width of a small phone, in CSS pixels."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as ``make docs`` builds it."""
    python_module("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


@pytest.fixture
def url(site: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_site_has_every_page_and_no_leftover_markdown(site: Path) -> None:
    """The strict build has no broken link."""
    assert (site / "quickstart/index.html").exists()
    assert not list(site.rglob("*.py"))
    for path in site.rglob("*.html"):  # Markdown that was not understood is shown as is
        page = re.sub(r"(?s)<pre.*?</pre>|<script.*?</script>", "", path.read_text())
        assert not re.search(r"```|\*\*|\\\||\]\(", page), path


def test_no_page_is_wider_than_a_phone(tmp_path: Path, site: Path, url: str) -> None:
    pages = sorted(path.parent.relative_to(site) for path in site.rglob("index.html"))
    assert len(pages) > 15
    widths = {}
    with browser(tmp_path) as page:
        page.resize(PHONE, 800)
        for name in pages:
            page.open(f"{url}/{name}/")
            widths[str(name)] = page.evaluate(
                "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
            )
    assert {name: width for name, width in widths.items() if width > PHONE} == {}


def test_the_search_finds_pages(tmp_path: Path, url: str) -> None:
    with browser(tmp_path) as page:
        page.resize(1200, 800)
        page.open(f"{url}/")
        page.evaluate("document.querySelector('[name=query]').focus()")
        page.type("systemd")
        page.wait("document.querySelectorAll('.md-search-result__item').length > 0", seconds=60)
        found = page.evaluate("document.querySelector('.md-search-result__list').innerText")
        assert "Running wagi" in found


def test_pages_load_nothing_from_other_servers(tmp_path: Path, url: str) -> None:
    with browser(tmp_path) as page:
        page.open(f"{url}/commands/")
        page.wait("document.readyState == 'complete'")
        loaded = page.evaluate("performance.getEntriesByType('resource').map(e => e.name).join()")
        assert loaded
        assert [name for name in loaded.split(",") if not name.startswith(url)] == []


def test_the_navigation_is_grouped_and_has_every_page() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    groups = [value for item in navigation for value in item.values() if isinstance(value, list)]
    assert len(groups) > 3
    assert max(map(len, groups)) < 9
    pages = {page for group in groups for item in group for page in item.values()}
    assert pages | {"index.md"} == {path.name for path in (ROOT / "docs").glob("*.md")}
