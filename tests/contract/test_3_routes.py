"""Contract, "Routes": each docstring states what docs/contract.md promises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ROOT, Server, run_wagi, serving, write_files
from tests.support.wat import HELLO, TEXT_HEAD, Program, printing, with_routes

ENVIRONMENT = (ROOT / "examples/wat/environment.wat").read_text()
LISTING = b"\n/wildcard/... wildcard\nplain  plain\n/wildcard/fizz/... fizz\n   \n"


MANIFEST = """
[[module]]
route = "/foo"
module = "exact.wat"
[[module]]
route = "/foo/..."
module = "below.wat"
[[module]]
route = "/bar/..."
module = "below.wat"
[[module]]
route = "/bar/special"
module = "exact.wat"
[[module]]
route = "/healthz"
module = "exact.wat"
[[module]]
route = "/exactparent"
module = "dynamic.wat"
[[module]]
route = "/parent/..."
module = "dynamic.wat"
[[module]]
route = "/variables"
module = "variables.wat"
[[module]]
route = "/a%2Fb"
module = "exact.wat"
"""
# The environment example, with a dynamic route to its own entry point.
VARIABLES = ENVIRONMENT.replace(
    '(func (export "_start")',
    """(data (i32.const 60000) "/wildcard/... inner\\n")
    (func (export "_routes")
      (i32.store (i32.const 0) (i32.const 60000)) (i32.store (i32.const 4) (i32.const 20))
      (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
    (func (export "inner") (export "_start")""",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    modules: dict[str, str | bytes] = {
        "exact.wat": printing(TEXT_HEAD + "exact"),
        "below.wat": printing(TEXT_HEAD + "below"),
        "dynamic.wat": with_routes(LISTING, ("wildcard", "plain", "fizz")),
        "variables.wat": VARIABLES,
    }
    with serving(tmp_path_factory.mktemp("routes"), MANIFEST, modules=modules) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/foo", "exact"),
        ("/foo?query", "exact"),
        ("/foo/", "below"),
        ("/foo/bar", "below"),
        ("/foo/bar/baz", "below"),
        ("/bar", "below"),
        ("/bar/", "below"),
        ("/bar/special", "below"),
        ("/a%2Fb", "exact"),
    ],
)
def test_matching(server: Server, path: str, expected: str) -> None:
    """/foo matches only that path, /foo/... also every path below; the first match is used."""
    assert server.get(path).text == expected


@pytest.mark.parametrize(
    "path", ["/foobar", "/FOO", "/", "//foo", "/f%6fo", "/barx", "/a/b", "/a%2fb", "/unknown"]
)
def test_no_match(server: Server, path: str) -> None:
    """Paths are matched as sent, not decoded, with empty segments; no match results in 404."""
    assert server.get(path).status == 404


@pytest.mark.parametrize(
    "path",
    [
        *("/foo/.", "/foo/..", "/foo/../foo", "/foo/./x", "/.", "/..", "/foo/%2e%2e/x"),
        *("/foo/%2E", "/foo/.%2e", "/foo/x%2f..%2fy", "/unknown/.."),
    ],
)
def test_dot_segments(server: Server, path: str) -> None:
    """A path with a . or .. segment, encoded or not, results in 400."""
    assert server.get(path).status == 400


def test_dots_within_a_segment(server: Server) -> None:
    """Only whole segments are rejected."""
    for path in ("/foo/a.b", "/foo/...", "/foo/..a", "/foo/%2e%2e%2e"):
        assert server.get(path).text == "below"


def test_healthz_takes_precedence(server: Server) -> None:
    """GET /healthz returns 200 with the body OK; it takes precedence over every route."""
    response = server.get("/healthz")
    assert (response.status, response.text) == (200, "OK")


def test_check_warns_about_the_syntax_of_other_routers(tmp_path: Path) -> None:
    """Placeholders only match literally; the warning suggests an alternative."""
    routes = ("/a/*", "/b/{id}", "/c...", "/d/...")
    (tmp_path / "modules.toml").write_text(
        "".join(f'[[module]]\nroute = "{route}"\nmodule = "hello.wat"\n' for route in routes)
    )
    write_files(tmp_path, {"hello.wat": HELLO})
    done = run_wagi(tmp_path, "check")
    assert done.returncode == 0
    rest = "and read the rest of the path from PATH_INFO"
    assert [line for line in done.stderr.splitlines() if line.startswith("warning")] == [
        f"warning: modules.toml:2: route: '/a/*' matches * only literally: write /a/..., {rest}",
        "warning: modules.toml:5: route: '/b/{id}' matches {id} only literally: write /b/...,"
        f" {rest}",
        "warning: modules.toml:8: route: '/c...' matches only literally: for all paths below /c,"
        " write /c/...",
    ]


def test_check_warns_about_entries_that_never_match(tmp_path: Path) -> None:
    """wagi check warns about an entry that can never match."""
    more = "".join(
        f'[[module]]\nroute = "{route}"\nmodule = "exact.wat"\n' for route in ("/x/../y", "/é")
    )
    (tmp_path / "modules.toml").write_text(MANIFEST + more)
    names = ("exact.wat", "below.wat", "dynamic.wat", "variables.wat")
    write_files(tmp_path, dict.fromkeys(names, HELLO))
    done = run_wagi(tmp_path, "check")
    assert done.returncode == 0
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert [line.split(": ")[1] for line in warnings] == [
        "modules.toml:12",
        "modules.toml:15",
        "modules.toml:30",
        "modules.toml:33",
    ]
    assert "'/bar/special' can never match: '/bar/...' in line 9 comes first" in warnings[0]
    assert "answered by the gateway itself" in warnings[1]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/exactparent", "_start"),
        ("/exactparent/plain", "plain"),
        ("/exactparent/wildcard", "wildcard"),
        ("/exactparent/wildcard/x", "wildcard"),
        ("/exactparent/wildcard/fizz/buzz", "fizz"),
        ("/parent/plain", "plain"),
        ("/parent/plain/more", "_start"),
        ("/parent/wildcard/fizz", "fizz"),
    ],
)
def test_dynamic_routes(server: Server, path: str, expected: str) -> None:
    """Dynamic routes take precedence over their entry; among them, the last match is used."""
    assert server.get(path).text == expected


def test_dynamic_route_variables(server: Server) -> None:
    """The variables of a dynamic route are those of the parent joined with the sub-route."""
    found = server.get("/variables/wildcard/fizz/buzz").variables
    assert found["SCRIPT_NAME"] == "/variables/wildcard"
    assert found["PATH_INFO"] == "/fizz/buzz"
    assert found["X_MATCHED_ROUTE"] == "/variables/wildcard/..."


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (b"", "found no output"),
        (b"\n \n", "found no output"),
        (b"/one\n", "line 1: expected SUBPATH ENTRYPOINT, found '/one'"),
        (b"/a b\n/one two three\n", "line 2: expected SUBPATH ENTRYPOINT"),
        (b"/a/.../b handle\n", 'line 1: expected "..." only as the last segment'),
        (b"/a missing\n", "'missing' is not exported"),
    ],
)
def test_bad_listing_is_a_startup_error(tmp_path: Path, listing: bytes, message: str) -> None:
    """Empty output, or any other line, is an error at startup."""
    write_files(tmp_path, {"dynamic.wat": with_routes(listing, ("b", "handle"))})
    (tmp_path / "modules.toml").write_text('[[module]]\nroute = "/"\nmodule = "dynamic.wat"\n')
    done = run_wagi(tmp_path, "serve")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_routes_has_only_stdout(tmp_path: Path) -> None:
    """_routes is called at startup with stdout as its only resource."""
    listing = Program().code(
        """(drop (call $read))
           (if (call $read) (then (unreachable)))"""
    ).write("/a _start\n").write("to stderr\n", fd=2)  # fmt: skip
    module = listing.wat("_routes").replace('(export "_routes")', '(export "_routes" "_start")')
    module = module.replace('(export "_routes" "_start")', '(export "_routes") (export "_start")')
    write_files(tmp_path, {"dynamic.wat": module, "volume/file": ""})
    (tmp_path / "modules.toml").write_text('[[module]]\nroute = "/"\nmodule = "dynamic.wat"\n')
    assert run_wagi(tmp_path, "check", "-e", "SECRET=1").returncode == 0
    with serving(tmp_path) as server:
        server.wait_for_log(r"stderr of / \[_routes\]: to stderr")
