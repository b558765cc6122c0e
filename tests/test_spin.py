"""spin.toml, served: the applications of Spin's templates for C, Zig, Grain and PHP, and others.

Grain and PHP have no compiler or interpreter here. Their stand-ins do what theirs do with WASI: a
start function that runs before ``_start``, and an interpreter that reads its program from a file.
"""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.registry import background
from tests.support.server import (
    ENVIRONMENT,
    WAGI,
    Server,
    read_all,
    run_wagi,
    serving,
    write_files,
)
from tests.support.shell import environment_with
from tests.support.toolchains import EXAMPLES, HANDLERS, compiled
from tests.support.upstream import upstream
from tests.support.wat import ARGV, TEXT_HEAD, printing, with_routes

VARIABLES = (EXAMPLES / "wat/environment.wat").read_text()
SPIN_VARIABLES = ("X_BASE_PATH", "X_RAW_COMPONENT_ROUTE", "X_COMPONENT_ROUTE")


def application(*triggers: str, components: str, options: str = "") -> str:
    head = f'spin_manifest_version = 2\n[application]\nname = "sample"\n{options}\n'
    return "\n".join([head, *(f"[[trigger.http]]\n{text}\n" for text in triggers), components])


def trigger(route: str, component: str = "hello", more: str = "") -> str:
    executor = f'{{ type = "wagi"{more} }}'
    return f'route = "{route}"\ncomponent = "{component}"\nexecutor = {executor}'


def template(build: str = "", more: str = "", source: str = 'source = "main.wasm"') -> str:
    """A manifest with the keys that ``spin new`` writes."""
    component = f"[component.hello]\n{source}\nallowed_outbound_hosts = []\n{more}\n{build}"
    return application(
        trigger("/..."),
        components=component,
        options='version = "0.1.0"\nauthors = ["Ann"]\ndescription = ""',
    )


@contextmanager
def spin(folder: Path, manifest: str, *options: str, **modules: str | bytes) -> Iterator[Server]:
    files = {name.replace("__", "/").replace("_", "."): text for name, text in modules.items()}
    write_files(folder, {"spin.toml": manifest, **files})
    with serving(folder, None, *options, target="spin.toml") as server:
        yield server


def messages(stderr: str) -> str:
    """The messages without the excerpts of their lines."""
    return re.sub(r"^ *[0-9]* \|.*\n", "", stderr, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "program", "command", "watch"),
    [
        (
            "main.c",
            "#include <stdio.h>\n#include <stdlib.h>\nint main(void) {\n"
            '  printf("content-type: text/plain\\n\\n");\n'
            '  printf("Hello from %s\\n", getenv("SERVER_SOFTWARE"));\n'
            "}\n",
            "zig build-exe -O ReleaseSmall -target wasm32-wasi main.c -lc",
            "**/*.c",
        ),
        (
            "src/main.zig",
            'extern "c" fn puts(text: [*:0]const u8) c_int;\npub fn main() void {\n'
            '    _ = puts("content-type: text/plain\\n\\nHello from WAGI/1");\n}\n',
            "zig build-exe -O ReleaseSmall -target wasm32-wasi src/main.zig -lc",
            "src/**/*.zig",
        ),
    ],
    ids=["c", "zig"],
)
def test_a_compiled_template(
    tmp_path: Path, source: str, program: str, command: str, watch: str
) -> None:
    """Built and served with the commands for ``spin build``, ``spin up`` and ``spin watch``."""
    build = f'[component.hello.build]\ncommand = "{command}"\nwatch = ["{watch}"]\n'
    environment = environment_with(tmp_path / "tools", "c")
    app = tmp_path / "app"
    write_files(app, {source: program, "spin.toml": template(build)})
    done = run_wagi(app, "check", environment=environment)
    assert done.returncode == 2
    assert messages(done.stderr) == (
        f"error: spin.toml:14: component 'hello': source: no such file: {app}/main.wasm (run"
        " `wagi build` to create it)\n"
    )
    done = run_wagi(app, "build", environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("main.wasm: ")
    with serving(app, None, "--watch", target=".", environment=environment) as server:
        assert server.get("/any/path").text == "Hello from WAGI/1\n"
        write_files(app, {source: program.replace("Hello", "Hallo")})
        expected = "Hallo from WAGI/1\n"
        server.wait_for_text("/", expected, seconds=120)


def test_the_template_for_grain(tmp_path: Path) -> None:
    """--use-start-section: the runtime starts in the start function, main is ``_start``."""
    module = f"""(module
      (import "wasi_snapshot_preview1" "fd_write"
        (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 64) "{TEXT_HEAD.encode("unicode_escape").decode()}Hello, World\\n")
      (func $runtime
        (drop (call $sizes (i32.const 16) (i32.const 20)))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const {len(TEXT_HEAD) + 13})))
      (func (export "_start")
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
      (start $runtime))"""
    build = '[component.hello.build]\ncommand = "grain compile main.gr"\nwatch = ["**/*.gr"]\n'
    with spin(tmp_path, template(build), main_wasm=module) as server:
        assert server.get("/").text == "Hello, World\n"


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """A web server of a folder's files."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with background(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def test_the_template_for_php(tmp_path: Path) -> None:
    """An interpreter from the web, verified by its digest, with its program in a file."""
    interpreter = compiled(HANDLERS / "show.c").read_bytes()
    write_files(tmp_path, {"web/php.wasm": interpreter, "app/src/index.php": "<?php echo 1; ?>"})
    digest = hashlib.sha256(interpreter).hexdigest()
    with web(tmp_path / "web") as url:
        source = f'[component.hello.source]\nurl = "{url}/php.wasm"\ndigest = "sha256:{digest}"'
        manifest = application(
            trigger("/..."),
            components='[component.hello]\nfiles = [{ source = "./src", destination = "/" }]\n'
            f"allowed_outbound_hosts = []\n{source}\n",
        )
        with spin(tmp_path / "app", manifest) as server:
            assert server.get("/index.php?index.php").text == "<?php echo 1; ?>"
        wrong = manifest.replace(digest, "0" * 64)
        write_files(tmp_path / "app", {"spin.toml": wrong})
        done = run_wagi(tmp_path / "app", "check")
    assert done.returncode == 1
    assert "error: spin.toml:14: component 'hello': source: " in done.stderr
    assert f"expected sha256:{'0' * 64}, found sha256:{digest}" in done.stderr


def test_routes(tmp_path: Path) -> None:
    """Exact before wildcard, longest prefix first; an exact route also with a slash at its end."""
    routes = ("/...", "/a/...", "/a/b/...", "/a/b", "/")
    components = "".join(f'[component.c{i}]\nsource = "c{i}.wasm"\n' for i in range(len(routes)))
    triggers = [trigger(route, f"c{i}") for i, route in enumerate(routes)]
    modules = {f"c{i}_wasm": printing(TEXT_HEAD + route) for i, route in enumerate(routes)}
    manifest = application(*triggers, components=components)
    with spin(tmp_path, manifest, **modules) as server:
        for path, route in {
            "/": "/", "/x": "/...", "/ab": "/...", "/a": "/a/...", "/a/": "/a/...",
            "/a/x": "/a/...", "/a/b": "/a/b", "/a/b/": "/a/b", "/a/b/c": "/a/b/...",
            "/a/bc": "/a/...", "//": "/", "/a/b//": "/a/b/...",
        }.items():  # fmt: skip
            assert server.get(path).text == route, path


def test_the_variables_of_spin(tmp_path: Path) -> None:
    manifest = application(
        trigger("/sub/..."),
        trigger("/exact/"),
        components='[component.hello]\nsource = "main.wasm"\n'
        'environment = { X_BASE_PATH = "no" }\n',
        options='[application.trigger.http]\nbase = "/base"\n',
    )
    with spin(tmp_path, manifest, "-e", "X_CLIENT_ADDR=no", main_wasm=VARIABLES) as server:
        found = server.get("/base/sub/a%20b").variables
        assert [found[name] for name in SPIN_VARIABLES] == ["/base", "/sub/...", "/sub"]
        assert found["X_CLIENT_ADDR"] == f"127.0.0.1:{found['REMOTE_PORT']}"
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/base/sub", "/a b")
        assert found["X_MATCHED_ROUTE"] == "/base/sub/..."
        found = server.get("/base/exact").variables
        assert [found[name] for name in SPIN_VARIABLES] == ["/base", "/exact/", "/exact/"]
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/base/exact", "")
        assert server.get("/exact").status == 404


@pytest.mark.parametrize("route", ["/", "/..."])
def test_the_script_name_of_the_root(tmp_path: Path, route: str) -> None:
    """Empty, as in Spin; ``/`` in every other format."""
    manifest = application(trigger(route), components='[component.hello]\nsource = "main.wasm"\n')
    with spin(tmp_path, manifest, main_wasm=VARIABLES) as server:
        assert server.get("/").variables["SCRIPT_NAME"] == ""


def test_no_other_route_has_the_variables_of_spin(tmp_path: Path) -> None:
    manifest = '[[module]]\nroute = "/"\nmodule = "main.wat"\n'
    with serving(tmp_path, manifest, modules={"main.wat": VARIABLES}) as server:
        found = server.get("/", headers=[("X-Client-Addr", "forged")]).variables
    assert not found.keys() & {*SPIN_VARIABLES, "X_CLIENT_ADDR"}


def test_the_address_of_a_client_behind_a_proxy(tmp_path: Path) -> None:
    """Its port is unknown; on a unix socket, its address is, too."""
    options = ("--trusted-proxy", "127.0.0.1")
    with spin(tmp_path, template(), *options, main_wasm=VARIABLES) as server:
        headers = [("X-Forwarded-For", "2001:db8::7"), ("X-Client-Addr", "forged")]
        found = server.get("/", headers=headers).variables
        assert found["X_CLIENT_ADDR"] == "[2001:db8::7]:0"
    path = tmp_path / "wagi.sock"
    with (
        serving(tmp_path, None, target="spin.toml", listen=f"unix:{path}"),
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"\nX_CLIENT_ADDR=\n" in read_all(connection)


def test_argv_and_entrypoint(tmp_path: Path) -> None:
    components = (
        '[component.hello]\nsource = "argv.wasm"\n[component.other]\nsource = "other.wasm"\n'
    )
    manifest = application(
        trigger("/default"),
        trigger("/argv", more=', argv = "ruby main.rb ${SCRIPT_NAME} ${ARGS}"'),
        trigger("/run", "other", more=', entrypoint = "run"'),
        components=components,
    )
    other = with_routes(b"", ("run",)).replace('"_routes"', '"unused"')
    with spin(tmp_path, manifest, argv_wasm=ARGV, other_wasm=other) as server:
        assert server.get("/default?a=1&b").text == "/default\na=1\nb\n"
        assert server.get("/argv?a=1&b").text == "ruby\nmain.rb\n/argv\na=1\nb\n"
        assert server.get("/run").text == "run"


FILES = """\
[component.hello]
source = "main.wasm"
files = ["data/**/*.txt", { source = "site", destination = "/www" }]
exclude_files = ["**/secret*"]
"""


def test_files(tmp_path: Path) -> None:
    """Guests see what is selected, cannot change it, and see nothing else."""
    module = compiled(HANDLERS / "show.c").read_bytes()
    files = {
        "data/a.txt": "a", "data/deep/b.txt": "b", "data/c.bin": "c", "data/secret.txt": "s",
        "site/index.html": "index", "site/secret/key": "k", "main.c": "source",
    }  # fmt: skip
    write_files(tmp_path, files)
    manifest = application(trigger("/..."), components=FILES)
    with spin(tmp_path, manifest, main_wasm=module) as server:
        for path, text in {
            "data/a.txt": "a", "data/deep/b.txt": "b", "www/index.html": "index",
        }.items():  # fmt: skip
            assert server.get(f"/?{path}").text == text
            assert "Operation not permitted" in server.get(f"/?+{path}").text
            assert "Operation not permitted" in server.get(f"/?+{path}.new").text
        for path in (
            "data/c.bin", "data/secret.txt", "www/secret/key", "main.c", "main.wasm", "spin.toml",
            "site/index.html", "../spin.toml", "data/../../spin.toml", "etc/passwd",
        ):  # fmt: skip
            assert server.get(f"/?{path}").text.startswith(f"/{path}: "), path
        # They are copies: a change is served after a reload.
        write_files(tmp_path, {"data/a.txt": "new"})
        assert server.get("/?data/a.txt").text == "a"
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_text("/?data/a.txt", "new", seconds=60)
    assert (tmp_path / "data/a.txt").read_text() == "new"


def test_copies_are_removed(tmp_path: Path) -> None:
    """At the end of the server, and of a command."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary)}
    write_files(tmp_path, {"data/a.txt": "a", "site/index.html": ""})
    manifest = application(trigger("/..."), components=FILES)
    write_files(tmp_path, {"main.wasm": printing(TEXT_HEAD), "spin.toml": manifest})
    with serving(tmp_path, None, target="spin.toml", environment=environment) as server:
        (folder,) = temporary.glob("wagi-files-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert server.stop() == 0
    assert run_wagi(tmp_path, "check", environment=environment).returncode == 0
    assert not list(temporary.glob("wagi-files-*"))


def test_a_link_that_leads_out_of_the_project(tmp_path: Path) -> None:
    write_files(tmp_path, {"app/data/a.txt": "a", "app/site/i": "", "outside/x.txt": "outside"})
    (tmp_path / "app/data/link.txt").symlink_to("../../outside/x.txt")
    manifest = application(trigger("/..."), components=FILES)
    write_files(tmp_path / "app", {"main.wasm": printing(TEXT_HEAD), "spin.toml": manifest})
    done = run_wagi(tmp_path / "app", "check")
    assert done.returncode == 2
    assert messages(done.stderr) == (
        "error: spin.toml:13: component 'hello': files: data/link.txt leads out of the project's"
        f" directory, to {tmp_path}/outside/x.txt: copy what it leads to into the project, or add"
        " it to exclude_files\n"
    )


def test_a_pattern_without_a_file_is_a_warning(tmp_path: Path) -> None:
    write_files(tmp_path, {"site/i": "", "main.wasm": printing(TEXT_HEAD)})
    write_files(tmp_path, {"spin.toml": application(trigger("/..."), components=FILES)})
    done = run_wagi(tmp_path, "check")
    assert (done.returncode, messages(done.stderr)) == (
        0,
        "warning: spin.toml:13: component 'hello': files: 'data/**/*.txt' matches no file\n",
    )


def test_changed_files_are_reloaded(tmp_path: Path) -> None:
    """--watch: selected files, also new ones; the others cause no reload."""
    module = compiled(HANDLERS / "show.c").read_bytes()
    write_files(tmp_path, {"data/a.txt": "a", "site/index.html": "index"})
    manifest = application(trigger("/..."), components=FILES)
    with spin(tmp_path, manifest, "--watch", main_wasm=module) as server:
        assert server.get("/?data/a.txt").text == "a"
        write_files(tmp_path, {"data/a.txt": "new"})
        server.wait_for_text("/?data/a.txt", "new", seconds=60)
        write_files(tmp_path, {"data/deep/b.txt": "b"})
        server.wait_for_text("/?data/deep/b.txt", "b", seconds=60)
        write_files(tmp_path, {"site/index.html": "changed"})
        server.wait_for_text("/?www/index.html", "changed", seconds=60)


def test_outbound_hosts(tmp_path: Path) -> None:
    """The port counts: without one, it is the default port of the scheme."""
    module = compiled(HANDLERS / "outbound.c").read_bytes()
    with upstream() as found:
        url = f"http://127.0.0.1:{found.port}"
        hosts = {"allowed": url, "denied": "http://127.0.0.1", "any": "http://127.0.0.1:*"}
        components = "".join(
            f'[component.{name}]\nsource = "main.wasm"\nallowed_outbound_hosts = ["{host}"]\n'
            for name, host in hosts.items()
        )
        triggers = [trigger(f"/{name}", name) for name in hosts]
        manifest = application(*triggers, components=components)
        with spin(tmp_path, manifest, main_wasm=module) as server:
            statuses = {name: _ask(server, f"/{name}", f"{url}/echo") for name in hosts}
    assert statuses == {"allowed": True, "denied": False, "any": True}


def _ask(server: Server, path: str, url: str) -> bool:
    """Whether a handler gets a response from a URL."""
    return "\nstatus 200\n" in server.post(path, f"GET\n{url}\n\n".encode()).text


def test_version_1(tmp_path: Path) -> None:
    write_files(tmp_path, {"static/a.txt": "a"})
    manifest = (
        'spin_version = "1"\nname = "old"\nversion = "1.0.0"\n'
        'trigger = { type = "http", base = "/" }\n'
        '[[component]]\nid = "show"\nsource = "main.wasm"\nfiles = ["static/*"]\n'
        '[component.trigger]\nroute = "/show"\nexecutor = { type = "wagi" }\n'
    )
    module = compiled(HANDLERS / "show.c").read_bytes()
    with spin(tmp_path, manifest, main_wasm=module) as server:
        assert server.get("/show?static/a.txt").text == "a"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check",), ("check", "."), ("check", "spin.toml"), ("check", "-c", "spin.toml"),
        ("routes",), ("compile",), ("call", "/hello"), ("call", "-c", ".", "/hello"),
        ("call", "-c", "spin.toml", "/hello"), ("test", "cases"), ("build",),
        ("build", "spin.toml"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_reads_a_spin_toml(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """By default, too, if there is no modules.toml."""
    build = '[component.hello.build]\ncommand = "true"\n'
    write_files(tmp_path, {"spin.toml": template(build), "main.wasm": printing(TEXT_HEAD + "hi")})
    if arguments[0] == "test":
        assert run_wagi(tmp_path, "call", "--record", "cases/a.toml", "/a").returncode == 0
    done = run_wagi(tmp_path, *arguments)
    assert (done.returncode, done.stderr.removeprefix("building: true\n")) == (0, "")


@pytest.mark.parametrize("arguments", [("serve",), ("serve", "."), (".",), ("spin.toml",)])
def test_serving_a_directory(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_files(tmp_path, {"spin.toml": template(), "main.wasm": printing(TEXT_HEAD + "hi")})
    process = subprocess.Popen(
        [*WAGI, *arguments, "--listen", "127.0.0.1:0"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(process)
    try:
        server.wait_until_listening()
        assert server.get("/").text == "hi"
    finally:
        assert server.stop() == 0


def test_the_pytest_plugin(tmp_path: Path) -> None:
    """It serves a spin.toml in the root folder if there is no modules.toml."""
    test = "def test_it(wagi_client):\n    assert wagi_client.get('/').text == 'hi'\n"
    write_files(tmp_path, {"spin.toml": template(), "main.wasm": printing(TEXT_HEAD + "hi")})
    write_files(tmp_path, {"test_it.py": test, "pytest.ini": "[pytest]\n"})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_everything_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    """Each with the line and the name of its component, and once for several routes."""
    manifest = application(
        trigger("/a", "one"),
        trigger("/a", "two", more=', entrypoint = "run"'),
        trigger("/c/.../d", "one"),
        components='[component.one]\nsource = "on.wasm"\nfiles = ["none"]\n'
        '[component.two]\nsource = "one.wasm"\n',
    )
    write_files(tmp_path, {"spin.toml": manifest, "one.wasm": printing(TEXT_HEAD)})
    done = run_wagi(tmp_path, "check")
    assert done.returncode == 2
    assert messages(done.stderr).splitlines() == [
        "error: spin.toml:12: component 'two': route: '/a' is already the route of component 'one',"
        " line 7",
        f"error: spin.toml:14: component 'two': entrypoint: {tmp_path}/one.wasm: the entrypoint"
        " 'run' is not exported; it exports: _start, memory",
        "error: spin.toml:17: component 'one': route: expected \"...\" only as the last segment,"
        " found '/c/.../d'",
        f"error: spin.toml:22: component 'one': source: no such file: {tmp_path}/on.wasm: did you"
        " mean 'one.wasm'?",
        "error: spin.toml:23: component 'one': files: no such file or directory: none",
    ]
