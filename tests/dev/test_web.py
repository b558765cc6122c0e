"""The HTTP interface of the dev page, and its protection against other sites."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any

import pytest

from tests.dev.conftest import Dev
from tests.support.server import Response

pytestmark = pytest.mark.xdist_group("dev")
ACTIONS = ("/try", "/cancel", "/save", "/clear")


def send(
    port: int, method: str, path: str, body: str | None = None, **headers: str | None
) -> Response:
    """Send a request as the page itself does, or with other headers; None removes one."""
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    fields = {**own, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        sent = {name: value for name, value in fields.items() if value is not None}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        return Response(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def post(dev: Dev, action: str, **fields: Any) -> Response:
    return send(dev.port, "POST", action, json.dumps(fields))


def events(response: Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def test_other_sites_have_no_access(dev: Dev) -> None:
    """DNS rebinding, and actions requested by pages of other sites (CSRF), are rejected."""
    port = dev.port
    for path in ("/", "/page.js", "/events", "/favicon.ico"):
        assert send(port, "GET", path, Host=f"evil.example:{port}").status == 403
        assert send(port, "GET", path, Host="localhost").status == 403
    for path in ACTIONS:
        body = json.dumps({"method": "GET", "path": "/", "headers": ""})
        for origin in (None, "null", "http://evil.example", f"https://localhost:{port}"):
            assert send(port, "POST", path, body, Origin=origin).status == 403
        rebound = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
        assert send(port, "POST", path, body, **rebound).status == 403
        other_name = f"http://127.0.0.1:{port}"  # another origin than that of Host
        assert send(port, "POST", path, body, Origin=other_name).status == 403
    assert send(port, "GET", "/").status == 200


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_actions_are_post_requests_only(dev: Dev, method: str, path: str) -> None:
    assert send(dev.port, method, path).status == 405


def test_responses_have_strict_headers_and_do_not_name_libraries(dev: Dev) -> None:
    for path in ("/", "/page.css", "/page.js", "/favicon.ico", "/nowhere"):
        response = send(dev.port, "GET", path)
        assert response.all("Server") == ["wagi"]
        policy = response.header("Content-Security-Policy") or ""
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert response.header("X-Content-Type-Options") == "nosniff"
        assert response.header("Cross-Origin-Resource-Policy") == "same-origin"
        assert response.header("Access-Control-Allow-Origin") is None
    assert send(dev.port, "GET", "/favicon.ico").header("Content-Type") == (
        "image/svg+xml; charset=utf-8"
    )


def test_the_page_loads_its_own_files_only(dev: Dev) -> None:
    text = send(dev.port, "GET", "/").text
    assert re.findall(r'(?:src|href)="([^"]+)"', text) == [
        "favicon.ico",
        "page.css",
        "page.js",
        "/",
    ]
    assert not re.search(r"<style|style=|<script>|onclick=", text)


@pytest.mark.parametrize("body", ["", "[]", "{", "null", "\ud800"])
@pytest.mark.parametrize("path", ["/try", "/cancel", "/save"])
def test_an_action_requires_an_object(dev: Dev, path: str, body: str) -> None:
    data = body.encode("utf-8", "surrogatepass").decode("latin-1")
    assert send(dev.port, "POST", path, data).status == 400


def test_a_large_action_is_rejected(dev: Dev) -> None:
    assert post(dev, "/try", body="x" * 9_000_000).status == 413


def test_an_unknown_request_cannot_be_cancelled_or_saved(dev: Dev) -> None:
    assert post(dev, "/cancel", key="1-1").status == 404
    assert post(dev, "/save", key="1-1", name="x").status == 404
    assert post(dev, "/cancel", key=["1-1"]).status == 404


def test_an_attempt_is_sent_as_given(dev: Dev) -> None:
    fields = {"method": "PURGE", "path": "/mirror/a?b", "headers": "X-A: 1\nX-A: 2", "body": "ü"}
    head, *texts, end = events(post(dev, "/try", **fields))
    assert head["status"] == 200
    assert ["Content-Type", "text/plain"] in head["headers"]
    assert "".join(event["text"] for event in texts).splitlines() == [
        "PURGE /a b",
        "CONTENT_TYPE=",
        "HTTP_ACCEPT=*/*",
        "HTTP_CONTENT_LENGTH=2",
        f"HTTP_HOST=127.0.0.1:{dev.server.port}",
        "HTTP_USER_AGENT=wagi-dev",
        "HTTP_X_A=1, 2",
        "",
        "ü",
    ]
    assert end["size"] > 0


def test_a_redirect_is_not_followed(dev: Dev) -> None:
    head = events(post(dev, "/try", method="GET", path="/nowhere", headers=""))[0]
    assert head["status"] == 404


def test_an_invalid_attempt_is_reported(dev: Dev) -> None:
    answer = post(dev, "/try", method="GET", path="/", headers="no colon")
    assert answer.status == 400
    assert json.loads(answer.text) == {
        "error": "headers, line 1: expected Name: value, found 'no colon'"
    }
