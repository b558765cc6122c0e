"""Paths and headers that try to pass for something else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.support.server import ROOT, Server, serving

MANIFEST = """
default_host = "default.example:80"
[[module]]
route = "/public/..."
module = "environment.wat"
[[module]]
route = "/login"
module = "environment.wat"
pass_authorization = true
[[module]]
route = "/exact"
module = "environment.wat"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tricks")
    shutil.copy(ROOT / "examples/wat/environment.wat", folder)
    with serving(folder, MANIFEST) as server:
        yield server


def status(server: Server, target: bytes, method: bytes = b"GET") -> int:
    request = method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    return int(server.raw(request).split(b" ")[1])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/public/../exact", 400),
        (b"/public/..", 400),
        (b"/public/./x", 400),
        (b"/public/%2e%2e/exact", 400),
        (b"/public/%2E%2E/exact", 400),
        (b"/public/.%2e/exact", 400),
        (b"/public/x%2f..%2fexact", 400),  # dots between encoded slashes
        (b"/public/%2e%2e%2fexact", 400),
        (b"/public/...", 200),  # three dots are a name
        (b"/public/..x", 200),
        (b"/public/%252e%252e/exact", 200),  # decoded once: %2e%2e, a name
        (b"/public%2fx", 404),  # an encoded slash does not separate segments of a route
        (b"/public%2F..%2Fexact", 400),
        (b"/public/x%2fy", 200),
        (b"//public/x", 404),  # empty segments are not merged
        (b"/public//x", 200),
        (b"/Public/x", 404),
        (b"/exact/", 404),
        (b"/exact%20", 404),
        (b"/exact;x", 404),
        (b"/exact%00", 404),
        (b"/public/%00", 400),  # a variable cannot contain it
        (b"/public/x?a=%00", 200),  # the query is not decoded
        (b"/public/%5c..%5cexact", 200),  # a backslash is an ordinary character
        (b"/public/..\\exact", 200),
        (b"/public/%c0%ae%c0%ae/exact", 400),  # overlong UTF-8 for ..
        (b"/public/%e0%80%ae", 400),
        (b"/public/%ff", 400),
        (b"/public/%zz", 200),  # not a percent-encoding: unchanged
        (b"/public/%", 200),
        (b"http://elsewhere.example/public/x", 200),
        (b"HTTP://elsewhere.example/public/x", 200),
        (b"http://user@elsewhere.example/public/x", 200),
        (b"http://elsewhere.example/public/../exact", 400),
        (b"http://elsewhere.example", 404),
        (b"http:///public/x", 400),
        (b"file:///public/x", 400),
        (b"javascript:alert(1)", 400),
        (b"public/x", 400),
        (b"elsewhere.example:443", 400),
        (b"*", 400),
        (b"/public/x#/../exact", 200),  # a fragment is removed
        (b"?x", 400),
    ],
)
def test_targets(server: Server, target: bytes, expected: int) -> None:
    assert status(server, target) == expected


def test_targets_as_variables(server: Server) -> None:
    def seen(target: str) -> tuple[str, str]:
        found = server.get(target).variables
        return found["PATH_INFO"], found["X_RAW_PATH_INFO"]

    assert seen("/public/x%2fy") == ("/x/y", "/x%2fy")
    assert seen("/public/%252e%252e/x") == ("/%2e%2e/x", "/%252e%252e/x")
    assert seen("/public//x") == ("//x", "//x")
    assert seen("/public/%5c..%5cx") == ("/\\..\\x", "/%5c..%5cx")
    assert seen("/public/a+b%20c") == ("/a+b c", "/a+b%20c")


def test_other_target_forms(server: Server) -> None:
    """OPTIONS * and CONNECT are rejected; an absolute target overrides Host (RFC 9112 §3.2.2)."""
    assert status(server, b"*", b"OPTIONS") == 400
    assert status(server, b"a.example:443", b"CONNECT") == 400
    assert status(server, b"/public/x", b"CONNECT") == 400
    found = server.get("http://elsewhere.example/public/x").variables
    assert found["SERVER_NAME"] == "elsewhere.example"


def variables(server: Server, *headers: tuple[str, str]) -> dict[str, str]:
    return server.get("/public/x", headers=headers).variables


def test_the_proxy_header_is_dropped(server: Server) -> None:
    """httpoxy, CVE-2016-5385; in any capitalization."""
    for name in ("Proxy", "PROXY", "proxy", "pRoXy"):
        assert "HTTP_PROXY" not in variables(server, (name, "http://evil.example"))


def test_credentials_are_not_passed_on(server: Server) -> None:
    found = variables(
        server, ("Authorization", "Basic c2VjcmV0"), ("Authorization", "Bearer secret")
    )
    assert "c2VjcmV0" not in str(found)
    assert "HTTP_AUTHORIZATION" not in found
    headers = [("Proxy-Authorization", "Basic c2VjcmV0"), ("Authorization", "Bearer token")]
    found = server.get("/login", headers=headers).variables
    assert "c2VjcmV0" not in str(found)
    assert found["HTTP_AUTHORIZATION"] == "Bearer token"


def test_headers_with_underscores_are_dropped(server: Server) -> None:
    found = variables(
        server,
        ("X_Real_IP", "6.6.6.6"),
        ("Content_Length", "6"),
        ("Content_Type", "evil/type"),
        ("X-Real-IP", "1.2.3.4"),
    )
    assert found["HTTP_X_REAL_IP"] == "1.2.3.4"
    assert found["CONTENT_LENGTH"] == "0"
    assert found["CONTENT_TYPE"] == ""


def test_no_header_overrides_a_cgi_variable(server: Server) -> None:
    """All header variables begin with HTTP_."""
    found = variables(server, ("Script-Name", "/evil"), ("Remote-Addr", "6.6.6.6"), ("Path", "x"))
    assert found["SCRIPT_NAME"] == "/public"
    assert found["REMOTE_ADDR"] == "127.0.0.1"
    assert found["HTTP_PATH"] == "x"
    assert "PATH" not in found


def test_duplicate_headers(server: Server) -> None:
    """A second Host is rejected; Content-Type is a single value; others form lists."""
    two_hosts = b"GET /public/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
    assert server.raw(two_hosts).split(b" ")[1] == b"400"
    two_types = (
        b"GET /public/x HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\n"
    )
    assert server.raw(two_types).split(b" ")[1] == b"400"
    found = variables(server, ("X-List", "a"), ("x-list", "b"), ("Cookie", "c=d"), ("Cookie", "e"))
    assert found["HTTP_X_LIST"] == "a, b"
    assert found["HTTP_COOKIE"] == "c=d; e"


def test_forwarding_headers_of_untrusted_peers_are_ignored(server: Server) -> None:
    """They do not affect the variables that describe the client."""
    found = variables(
        server,
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=6.6.6.6;proto=https;host=evil.example"),
        ("X-Request-Id", "evil"),
        ("Host", "good.example"),
    )
    assert found["REMOTE_ADDR"] == found["REMOTE_HOST"] == "127.0.0.1"
    assert found["SERVER_NAME"] == "good.example"
    assert found["X_FULL_URL"] == "http://good.example/public/x"
    server.wait_for_access(r"^127\.0\.0\.1 .* id=(?!evil)", 5)
    assert "id=evil" not in "\n".join(server.access_log)
