"""Contract, "Route map": modules.toml; each docstring states a promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import run_wagi, serving, write_files
from tests.support.wat import HELLO, TEXT_HEAD, printing

EVERYTHING = """
default_host = "example.com:1"
[defaults]
environment = {FROM = "defaults"}
timeout = 2.5
memory_limit = "64MiB"
max_concurrency = 10

[[module]]
route = "/hello/..."
module = "hello.wat"
entrypoint = "_start"
argv = "${SCRIPT_NAME} ${ARGS}"
volumes = {"/data" = "data"}
environment = {GREETING = "hi"}
allowed_hosts = ["https://api.example.com"]
http_max_concurrency = 2
bindle_server = "http://localhost:8080/v1"
repository = ""
timeout = 0
memory_limit = 1048576
max_concurrency = 1
"""


def check(folder: Path, manifest: str, *options: str) -> tuple[int, str]:
    write_files(folder, {"hello.wat": HELLO, "modules.toml": manifest})
    done = run_wagi(folder, "check", *options)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def entry(**keys: str) -> str:
    values = {"route": '"/"', "module": '"hello.wat"', **keys}
    return "[[module]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def test_every_key_is_accepted(tmp_path: Path) -> None:
    """All keys of the original, and those that wagi adds."""
    (tmp_path / "data").mkdir()
    status, stderr = check(tmp_path, EVERYTHING)
    assert (status, stderr) == (0, "")


def test_module_references(tmp_path: Path) -> None:
    """A path is relative to modules.toml, or else to the working directory; also file: URLs."""
    other = tmp_path / "else where"
    files = {
        "etc/near.wat": printing(TEXT_HEAD + "near"),
        "etc/both.wat": printing(TEXT_HEAD + "beside modules.toml"),
        "both.wat": printing(TEXT_HEAD + "working directory"),
        "only-here.wat": printing(TEXT_HEAD + "working directory"),
        "else where/far.wat": printing(TEXT_HEAD + "far"),
    }
    url = str(other / "far.wat").replace(" ", "%20")
    references = {
        "/near": ("near.wat", "near"),
        "/both": ("both.wat", "beside modules.toml"),
        "/cwd": ("only-here.wat", "working directory"),
        "/url": (f"file://{url}", "far"),
        "/short-url": (f"file:{url}", "far"),
        "/absolute": (str(other / "far.wat"), "far"),
    }
    manifest = "".join(
        f'[[module]]\nroute = "{route}"\nmodule = "{reference}"\n'
        for route, (reference, _) in references.items()
    )
    write_files(tmp_path, {**files, "etc/modules.toml": manifest})
    with serving(tmp_path, target="etc/modules.toml") as server:
        for route, (_, expected) in references.items():
            assert server.get(route).text == expected


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("oci:Hello:1", "'library/Hello' is not a valid image name"),
        ("oci://registry.example/hello:.", "'.' is not a valid tag"),
        ("oci://registry.example/hello@sha256:abc", "'sha256:abc' is not a valid digest"),
        ("oci:///hello", "'' is not a valid registry"),
        ("bindle:name/1.0.0", "no Bindle server given: set bindle_server, or pass --bindle-url"),
        ("bindle:name", "expected bindle:NAME/VERSION"),
        ("ftp://example.com/x.wasm", "unknown scheme 'ftp'"),
        ("https://example.com/x.wasm?secret", "https://example.com/x.wasm: downloads need"),
        ("https:///x.wasm", "expected https://HOST/PATH"),
        ("file://relative.wasm", "expected file:///absolute/path"),
        ("missing.wasm", "no such file"),
        (".", "expected a file, found a directory"),
        ("/dev/zero", "expected a file, found a special file"),
    ],
)
def test_bad_references(tmp_path: Path, reference: str, message: str) -> None:
    """An unknown scheme is an error, and so is a missing file."""
    status, stderr = check(tmp_path, entry(module=f'"{reference}"'))
    assert status == 2
    assert stderr.startswith("error: modules.toml:3: module: ")
    assert message in stderr


@pytest.mark.parametrize(
    ("manifest", "line", "message"),
    [
        (entry(rout='"/x"'), 4, "unknown key 'rout': did you mean 'route'?"),
        (entry(host='"a.example"'), 4, "unsupported key 'host': routes do not depend on the host"),
        (entry(xyzzy="1"), 4, "unknown key 'xyzzy': known keys: allowed_hosts, argv"),
        ("defalt_host = 'x'\n", 1, "unknown key 'defalt_host': did you mean 'default_host'?"),
        ("[[modules]]\n", 1, "unknown key 'modules': did you mean 'module'?"),
        ("[defaults]\ntimeot = 1\n", 2, "unknown key 'timeot': did you mean 'timeout'?"),
        ("[module]\nroute = '/'\n", 1, "module: expected [[module]] with two brackets"),
        ("[[module]]\nmodule = 'hello.wat'\n", 1, "required key 'route' is missing"),
        ("[[module]]\nroute = '/'\n", 1, "required key 'module' is missing"),
        (entry(route="5"), 2, "route: expected a string, found 5"),
        (entry(route='"x"'), 2, "route: expected a path that begins with \"/\", found 'x'"),
        (entry(route='"/.../x"'), 2, 'route: expected "..." only as the last segment'),
        (entry(route='"/a?b"'), 2, "route: expected a path without query"),
        (entry() + entry(), 5, "route: '/' is already the route of line 2"),
        (entry(timeout='"1"'), 4, "timeout: expected seconds as a number"),
        (entry(timeout="-1"), 4, "timeout: expected 0 or more, found -1"),
        (entry(timeout="nan"), 4, "timeout: expected a finite number, found nan"),
        (
            entry(argv='"a\\u0000"'),
            4,
            "argv: a path, argument or command must not contain a NUL byte",
        ),
        (entry(build='""'), 4, "build: expected a non-empty string, found ''"),
        (entry(memory_limit='"64MX"'), 4, "memory_limit: expected a size"),
        (entry(memory_limit="-1"), 4, "memory_limit: expected a size"),
        (entry(memory_limit="65535"), 4, "memory_limit is 65535 bytes, but the module starts with"),
        (entry(max_concurrency="0"), 4, "max_concurrency: expected 1 or more, found 0"),
        (entry(max_concurrency="true"), 4, "max_concurrency: expected a whole number, found true"),
        (entry(volumes="['/a']"), 4, "volumes: expected a table, found an array"),
        (entry(volumes='{"/a" = "modules.toml"}'), 4, "modules.toml of '/a' is not a directory"),
        (entry(environment="{A = 1}"), 4, "environment.A: expected a string, found 1"),
        (entry(environment='{"A=B" = "1"}'), 4, "environment: expected the name of a variable"),
        ('default_host = "a b"\n', 1, "default_host: expected HOST, HOST:PORT or [IPV6]:PORT"),
        ("a = \n", 1, "not valid TOML: Invalid value"),
        ("# fine\n\n[[module]\n", 3, "not valid TOML: Expected ']]'"),
        ('route = """\n[[module]]\n"""\nmodule = 1\n', 1, "unknown key 'route'"),
    ],
)
def test_mistakes_have_a_location(tmp_path: Path, manifest: str, line: int, message: str) -> None:
    """Every message names file, line, key, what was expected, and the most similar key."""
    status, stderr = check(tmp_path, manifest)
    assert status == 2
    assert f"error: modules.toml:{line}: " in stderr
    assert message in stderr


def test_invalid_utf_8(tmp_path: Path) -> None:
    """The message about a file that is not UTF-8 names the line."""
    write_files(tmp_path, {"modules.toml": b"# one\n# \xff\n"})
    done = run_wagi(tmp_path, "check")
    assert (done.returncode, done.stderr) == (
        2,
        "error: modules.toml:2: expected UTF-8 text, found other bytes\n",
    )


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    """wagi check reports every problem, not only the first."""
    manifest = "".join(
        (
            entry(route='"no-slash"', module='"missing.wasm"', volumes='{"/a" = "nowhere"}'),
            entry(entrypoint='"nope"'),
            entry(route='"/b"', module='"oci:X"'),
        )
    )
    status, stderr = check(tmp_path, manifest)
    assert status == 2
    errors = [line for line in stderr.splitlines() if line.startswith("error")]
    assert [line.split(": ")[1:3] for line in errors] == [
        ["modules.toml:2", "route"],
        ["modules.toml:3", "module"],
        ["modules.toml:4", "volumes"],
        ["modules.toml:8", "entrypoint"],
        ["modules.toml:11", "module"],
    ]


def test_defaults_apply_to_all_modules(tmp_path: Path) -> None:
    """Keys in [defaults] apply to all modules; an entry's own key overrides them."""
    environment = (Path(__file__).parents[2] / "examples/wat/environment.wat").read_text()
    manifest = """
    [defaults]
    environment = {A = "defaults", B = "defaults"}
    [[module]]
    route = "/a"
    module = "environment.wat"
    [[module]]
    route = "/b"
    module = "environment.wat"
    environment = {B = "own"}
    """
    with serving(tmp_path, manifest, modules={"environment.wat": environment}) as server:
        first, second = server.get("/a").variables, server.get("/b").variables
    assert (first["A"], first["B"]) == ("defaults", "defaults")
    assert (second["A"], second["B"]) == ("defaults", "own")


MODULES = {
    "corrupt": (b"\0asm\x01\0\0\0\x01\x7f\0", "the file ends in the middle of a section"),
    "cut": (b"\0asm\x01\0\0\0\x03\x02\x01\x00", "not a valid module"),
    "not-wasm": (b"#!/bin/sh\n", "not a WebAssembly file"),
    "empty": (b"", "not a WebAssembly file"),
    "component": (b"\0asm\x0d\0\x01\0", "this component exports neither wasi:cli/run"),
    "bad-wat": (b"(module (func (nonsense)))", "unknown operator"),
    "browser": (
        b'(module (import "wbg" "__wbindgen_throw" (func)) (func (export "_start")))',
        "unknown import '__wbindgen_throw' of 'wbg': this module was built for the browser"
        " (wbindgen)",
    ),
    "go-js": (
        b'(module (import "gojs" "runtime.wasmExit" (func)) (func (export "_start")))',
        "GOOS=wasip1",
    ),
    "two": (
        b'(module (import "env" "a" (func)) (import "env" "b" (func)) (func (export "_start")))',
        "unknown import 'a' of 'env' (and 1 more)",
    ),
    "wrong-type": (
        b'(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))',
        "cannot be linked: incompatible import type for `wasi_snapshot_preview1::fd_write`",
    ),
    "no-entrypoint": (
        b'(module (func (export "run")) (memory (export "memory") 1))',
        "the entrypoint '_start' is not exported; it exports: memory, run",
    ),
    "parameters": (
        b'(module (func (export "_start") (param i32)))',
        "the entrypoint '_start' is not a function without parameters and results",
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_that_cannot_be_handlers(tmp_path: Path, name: str) -> None:
    """Corrupt wasm, unknown imports, missing entry points: a message, status 2, no traceback."""
    content, message = MODULES[name]
    write_files(tmp_path, {"bad.wasm": content})
    status, stderr = check(tmp_path, entry(module='"bad.wasm"'))
    assert status == 2
    assert stderr.startswith("error: modules.toml:")
    assert message in stderr
