"""Requests that are sent, repeated, cancelled, copied and saved on the dev page, in a browser."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pytest

from tests.dev.conftest import Dev, entry, press_button, text_of
from tests.support.browser import Page
from tests.support.server import ENVIRONMENT, ROOT, WAGI, Response, run_wagi

pytestmark = pytest.mark.xdist_group("dev")
ANSWER = "document.getElementById('answer-body').textContent"
STATE = "document.getElementById('answer-state').textContent"


def fill(page: Page, **fields: str) -> None:
    for name, value in fields.items():
        element = f"document.querySelector('#try [name={name}]')"
        page.evaluate(f"{element}.value = {json.dumps(value)}")


def send(page: Page, **fields: str) -> None:
    fill(page, **fields)
    page.evaluate("document.getElementById('send').click()")


def answer(page: Page) -> str:
    """Wait for the end of the response. Returns: its body."""
    page.wait(f"{STATE}.startsWith('complete')")
    text = page.evaluate(ANSWER)
    assert isinstance(text, str)
    return text


def test_a_request_is_tried_with_the_keyboard(page: Page) -> None:
    page.tab_to("e.name == 'path'")
    page.evaluate("document.activeElement.select()")
    page.type("/hello")
    page.press("Enter")
    assert answer(page) == "hi"
    head = text_of(page, "document.getElementById('answer-head')")
    assert head.startswith("HTTP/1.1 200 OK\nContent-Type: text/plain\n")
    entry(page, "GET /hello → 200")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ("application/json", "application/json"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("", ""),
    ],
)
def test_a_body_has_the_type_that_is_selected(page: Page, kind: str, expected: str) -> None:
    send(page, method="POST", path="/mirror/x", headers="X-A: 1", body='{"a": 1}', type=kind)
    text = answer(page)
    assert text.startswith("POST /x \n")
    assert f"\nCONTENT_TYPE={expected}\n" in text
    assert "\nHTTP_X_A=1\n" in text
    assert text.endswith('\n\n{"a": 1}')
    fill(page, method="GET", path="/", headers="", body="")


def test_a_malformed_header_is_reported(page: Page) -> None:
    send(page, path="/hello", headers="X-A: 1\nno colon")
    page.wait(f"{STATE} == \"headers, line 2: expected Name: value, found 'no colon'\"")
    fill(page, headers="")


def test_a_response_is_shown_as_it_arrives(page: Page) -> None:
    """The state of the request and its duration are shown as well."""
    send(page, method="GET", path="/slow", headers="", body="")
    page.wait(f"{STATE} == 'receiving…' && {ANSWER} == 'data: 0\\n\\n'")
    page.wait(f"{ANSWER} == 'data: 0\\n\\ndata: 1\\n\\n'")
    assert page.evaluate(STATE) == "receiving…"
    assert answer(page).endswith("data: 2\n\n")
    assert text_of(page, "document.getElementById('answer-time')").endswith(" s")


def test_waiting_is_visible_and_can_be_stopped(page: Page) -> None:
    send(page, path="/spin")
    page.wait(f"{STATE} == 'waiting for the response…'")
    page.wait("parseFloat(document.getElementById('answer-time').textContent) > 0.3")
    page.wait("document.querySelectorAll('#running li').length == 1")
    page.tab_to("e.id == 'stop'")
    page.press("Enter")
    page.wait(f"{STATE} == 'stopped'")
    page.wait("document.getElementById('in-flight').hidden")
    assert page.evaluate("document.activeElement.id") == "send"
    found = entry(page, "/spin → 499")
    assert "the client closed the connection" in text_of(page, found)


def test_a_running_request_is_listed_and_cancelled(dev: Dev, page: Page) -> None:
    """An endless loop, by keyboard; its client gets an error page."""
    answers: list[Response] = []
    client = threading.Thread(target=lambda: answers.append(dev.server.get("/spin?endless")))
    client.start()
    page.wait("document.querySelectorAll('#running li').length == 1")
    page.wait("document.querySelector('#running li').innerText.match(/CPU [1-9]|CPU 0.[1-9]/)")
    assert "GET /spin?endless" in text_of(page, "document.getElementById('running')")
    page.tab_to("e.textContent == 'Cancel'")
    page.press("Enter")
    client.join(10)
    assert answers[0].status == 503
    assert answers[0].text.startswith("503 Service Unavailable\n\nThe request was cancelled.\n")
    assert "cancelled on the page of wagi --dev" in answers[0].text
    page.wait("document.getElementById('in-flight').hidden")
    assert page.evaluate("document.activeElement.id") == "filter"
    found = entry(page, "/spin?endless → 503")
    assert "cancelled on the page of wagi --dev" in text_of(
        page, f"{found}.querySelector('.failure')"
    )
    assert dev.server.get("/hello").text == "hi"


def test_a_request_is_repeated(dev: Dev, page: Page) -> None:
    """With its method, headers and body."""
    dev.server.request("PUT", "/mirror/x?q", [("X-A", "1"), ("X-A", "2")], bytes(range(256)))
    first = entry(page, "PUT /mirror/x?q")
    before = text_of(page, first)
    press_button(page, first, "Repeat")
    answer(page)
    page.wait("document.querySelectorAll('#requests > details').length == 2")
    shown = before[before.index("stdout\n") : before.index("Request headers\n")]
    second = text_of(page, entry(page, "PUT /mirror/x?q"))
    assert shown in second.replace("HTTP_USER_AGENT=wagi-dev\n", "").replace(
        "HTTP_ACCEPT=*/*\n", ""
    )


def test_a_request_is_edited(dev: Dev, page: Page) -> None:
    dev.server.request("PROPFIND", "/mirror/x", [("X-A", "1")], b"body")
    press_button(page, entry(page, "PROPFIND /mirror/x"), "Edit")
    assert page.evaluate("document.activeElement.name") == "path"
    page.type("/mirror/y")
    page.press("Enter")
    text = answer(page)
    assert text.startswith("PROPFIND /y \n")
    assert "\nHTTP_X_A=1\n" in text
    assert text.endswith("\n\nbody")
    fill(page, method="GET", path="/", headers="", body="")


def test_a_request_whose_body_was_not_recorded_is_not_repeated(dev: Dev, page: Page) -> None:
    dev.server.post("/mirror/x", b"y" * 70_000)
    found = entry(page, "POST /mirror/x")
    for label in ("Repeat", "Copy as curl", "Copy as wagi call"):
        press_button(page, found, label)
        page.wait(f"{found}.innerText.includes('only the first 65536 bytes of the request body')")
    assert page.evaluate("document.querySelectorAll('#requests > details').length") == 1


REQUESTS: list[tuple[str, str, list[tuple[str, str]], bytes | None]] = [
    ("GET", "/mirror/a?b=1&c=$HOME", [], None),
    ("GET", "/mirror/[a]{b,c}'\"`id`\\!?*#", [("X-A", 'it\'s "$HOME" `id` \\ !')], None),
    ("POST", "/mirror/form", [("Content-Type", "application/x-www-form-urlencoded")], b"a=1&b='x'"),
    ("POST", "/mirror/json", [("Content-Type", "application/json")], b'{"a": "\\n$(id)\n"}\n'),
    ("POST", "/mirror/untyped", [], b"text"),
    ("PUT", "/mirror/at", [("X-Empty", "")], b"@/etc/passwd"),
    ("PATCH", "/mirror/binary", [("Accept", "image/png")], bytes(range(256))),
    ("DELETE", "/mirror/agent", [("User-Agent", "mine/1.0"), ("Host", "other.example")], None),
    ("POST", "/mirror/empty", [], b""),
]


@pytest.mark.parametrize("label", ["Copy as curl", "Copy as wagi call"])
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda item: item[1].split("/")[2][:6])
def test_a_request_is_copied_as_a_command(
    dev: Dev,
    page: Page,
    tmp_path: Path,
    label: str,
    request_: tuple[str, str, list[tuple[str, str]], bytes | None],
) -> None:
    """A shell runs it, and the handler receives the same request."""
    method, target, headers, body = request_
    sent = dev.server.request(method, target, headers, body)
    assert sent.status == 200
    page.allow_clipboard()
    page.send("Page.bringToFront")
    found = entry(page, f"{method} {target}")
    press_button(page, found, label)
    page.wait(f"{found}.innerText.includes('copied')")
    command = page.evaluate("navigator.clipboard.readText()")
    done = run_in_shell(command, dev.folder, tmp_path)
    head, _, printed = done.replace(b"\r\n", b"\n").partition(b"\n\n")
    assert head.startswith(b"HTTP/1.1 200 OK\n")
    expected = sent.body
    if label == "Copy as wagi call":
        # It always sends a type with a body, if need be an empty one.
        printed = printed.replace(b"\nHTTP_CONTENT_TYPE=\n", b"\n")
    assert printed == expected.replace(b"\r\n", b"\n")


def run_in_shell(command: str, folder: Path, scratch: Path) -> bytes:
    """Run a command line in which ``wagi`` is this checkout."""
    bin_folder = scratch / "bin"
    bin_folder.mkdir(exist_ok=True)
    script = bin_folder / "wagi"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {" ".join(WAGI)} "$@"\n')
    script.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{bin_folder}:{ENVIRONMENT['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def test_a_request_is_saved_as_a_case(dev: Dev, page: Page) -> None:
    """Which ``wagi test`` replays, and which is not overwritten."""
    dev.server.post("/mirror/save?x", b'{"a": 1}', headers=[("Content-Type", "application/json")])
    found = entry(page, "POST /mirror/save?x")
    page.tab_to("e.getAttribute('aria-label') == 'Name of the case'")
    assert page.evaluate("document.activeElement.value") == "post-mirror-save-x"
    page.press("Enter")
    page.wait(f"{found}.innerText.includes('saved as cases/post-mirror-save-x.toml')")
    assert "wagi test cases/post-mirror-save-x.toml" in text_of(page, found)
    done = run_wagi(dev.folder, "test", "cases/post-mirror-save-x.toml")
    assert "1 passed, 0 failed" in done.stdout, done.stdout
    press_button(page, found, "Save as a case")
    page.wait(f"{found}.innerText.includes('exists already')")
    page.evaluate("document.querySelector('.actions input').value = '../escape'")
    press_button(page, found, "Save as a case")
    page.wait(f"{found}.innerText.includes('expected a name of letters')")
    assert not (dev.folder / "escape.toml").exists()
