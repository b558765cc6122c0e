"""Handlers in bindles, from standalone directories and servers."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from tests.support.bindles import (
    BindleServer,
    bindle_server,
    file,
    handler,
    parcel,
    write_standalone,
)
from tests.support.registry_modules import module
from tests.support.server import ROOT, run_wagi, serving, write_files
from tests.support.tls import certificate_of
from tests.support.toolchains import HANDLERS, compiled

NAME = "example.com/site/1.2.3"


def show() -> bytes:
    """Return a handler that prints the file that the query names."""
    return compiled(HANDLERS / "show.c").read_bytes()


def parcels() -> list[dict[str, Any]]:
    return [
        handler(module("root"), "/"),
        handler(module("deep"), "/deep/...", allowed_hosts=" https://a.example , b.example"),
        parcel("unrouted.wasm", module("unrouted"), "application/wasm"),
        parcel("library.wasm", module("library"), "application/wasm", {"route": "/no"}, ("lib",)),
        handler(show(), "/files", "static", argv="show ${ARGS}"),
        file("a.txt", b"file a", "static"),
        file("deep/er/b.txt", b"file b", "pictures", "other"),
        file("not-there.txt", b"not there", "unrelated"),
        parcel("no-file.txt", b"no file", member_of=("static",)),
    ]


GROUPS = {"static": ["pictures"], "pictures": [], "unrelated": []}


def environment(folder: Path) -> dict[str, str]:
    return {"WAGI_MODULE_CACHE": str(folder / "cache")}


def get(folder: Path, *options: str, **more: str) -> dict[str, str]:
    """Serve the bindle; return the responses of its routes."""
    with serving(
        folder, None, "-b", NAME, *options, target=None,
        environment={**environment(folder), **more},
    ) as server:  # fmt: skip
        paths = ("/", "/deep/x", "/no", "/files?a.txt", "/files?deep/er/b.txt",
                 "/files?not-there.txt", "/files?no-file.txt")  # fmt: skip
        return {path: server.get(path).text for path in paths}


def assert_all_is_there(answers: dict[str, str]) -> None:
    assert answers["/"] == "root"
    assert answers["/deep/x"] == "deep"
    assert "No route matches" in answers["/no"]
    assert answers["/files?a.txt"] == "file a"
    assert answers["/files?deep/er/b.txt"] == "file b"
    assert "not there" not in answers["/files?not-there.txt"]
    assert "no file" not in answers["/files?no-file.txt"]


def test_a_standalone_bindle(tmp_path: Path) -> None:
    """-b with --bindle-path: routes, and the files of groups that handlers require."""
    write_standalone(tmp_path / "bindles", NAME, parcels(), GROUPS)
    assert_all_is_there(get(tmp_path, "--bindle-path", "bindles"))


def test_a_server(tmp_path: Path) -> None:
    """-b with --bindle-url or BINDLE_URL: the same from a server; redirects are followed."""
    with bindle_server() as server:
        server.add(NAME, parcels(), GROUPS)
        assert_all_is_there(get(tmp_path, "--bindle-url", server.url))
        moved = f"/v1/_i/{NAME}"
        server.content["/elsewhere"] = server.content.pop(moved)
        server.redirects[moved] = "/elsewhere"
        cache = str(tmp_path / "another")
        assert_all_is_there(get(tmp_path, BINDLE_URL=server.url + "/", WAGI_MODULE_CACHE=cache))


def test_what_is_cached_is_not_requested(tmp_path: Path) -> None:
    """The invoice once for all its handlers, each parcel once; then the server may be gone."""
    manifest = "".join(
        f'[[module]]\nroute = "/{name}"\nmodule = "bindle:{NAME}"\n' for name in "abc"
    )
    write_files(tmp_path, {"modules.toml": manifest})
    with bindle_server() as server:
        server.add(NAME, parcels(), GROUPS)
        bindle = ("check", "-b", NAME, "--bindle-url", server.url)
        references = ("check", "--bindle-url", server.url)
        for command, cache in ((bindle, "one"), (references, "two")):
            server.requests.clear()
            variables = {"WAGI_MODULE_CACHE": str(tmp_path / cache)}
            assert run_wagi(tmp_path, *command, environment=variables).returncode == 0
            assert server.requests.count(f"/v1/_i/{NAME}") == 1
            assert len(server.requests) == len(set(server.requests))
            server.requests.clear()
            assert run_wagi(tmp_path, *command, environment=variables).returncode == 0
            assert server.requests == []
    for command, cache in ((bindle, "one"), (references, "two")):
        variables = {"WAGI_MODULE_CACHE": str(tmp_path / cache)}
        done = run_wagi(tmp_path, *command, environment=variables)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_edited_standalone_bindle(tmp_path: Path) -> None:
    """A directory is read again."""
    own = write_standalone(tmp_path / "bindles", NAME, [handler(module("root"), "/")])
    command = ("routes", "-b", NAME, "--bindle-path", "bindles")
    assert run_wagi(tmp_path, *command, environment=environment(tmp_path)).stdout.startswith("/\t")
    text = (own / "invoice.toml").read_text()
    (own / "invoice.toml").write_text(text.replace('route = "/"', 'route = "/new"'))
    done = run_wagi(tmp_path, *command, environment=environment(tmp_path))
    assert done.stdout.startswith("/new\t")


@pytest.mark.parametrize("options", [("-b", NAME), ()])
def test_unknown_keys_of_an_invoice(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Once, also for references; ``member_of`` is in the documentation of the original."""
    own = write_standalone(tmp_path / "bindles", NAME, parcels(), GROUPS)
    text = (own / "invoice.toml").read_text()
    (own / "invoice.toml").write_text(text.replace("memberOf", "member_of", 1))
    digest = parcels()[1]["sha256"]
    manifest = "".join(
        f'[[module]]\nroute = "/{name}"\nmodule = "bindle:{NAME}{parcel}"\n'
        for name, parcel in (("a", ""), ("b", ""), ("c", f"#{digest}"))
    )
    write_files(tmp_path, {"modules.toml": manifest})
    done = run_wagi(
        tmp_path, "check", *options, "--bindle-path", "bindles", environment=environment(tmp_path)
    )
    assert done.returncode == 0
    place = f"bindle:{NAME}, parcel root.wasm" if options else "modules.toml:3"
    assert done.stderr.splitlines()[0] == (
        f"warning: {place}: module: invoice of {NAME}: unknown key"
        " 'parcel.0.conditions.member_of' is ignored: did you mean 'memberOf'?"
    )
    assert done.stderr.count("warning: ") == 1


def test_commands_without_a_server(tmp_path: Path) -> None:
    """wagi call, run and test take the options of a bindle."""
    write_standalone(tmp_path / "bindles", NAME, parcels(), GROUPS)
    case = '[request]\ntarget = "/deep/x"\n[response]\nbody = "deep"\n'
    write_files(tmp_path, {"case.toml": case, "m.wat": "(module)", "other.toml": ""})
    bindle = ("-b", NAME, "--bindle-path", "bindles")

    def run(*arguments: str) -> tuple[int, str]:
        done = run_wagi(tmp_path, *arguments, environment=environment(tmp_path))
        return done.returncode, done.stdout or done.stderr

    assert run("call", *bindle, "/files?a.txt") == (0, "file a")
    assert run("run", *bindle) == (0, "root")
    assert run("run", *bindle, "POST", "/deep/x") == (0, "deep")
    assert run("test", *bindle, "case.toml") == (0, "1 passed, 0 failed\n")
    for arguments, message in (
        (("run", *bindle, "m.wat"), f"either a module or a bindle, found both m.wat and {NAME}"),
        (("call", *bindle, "-c", "other.toml", "/"), "either a modules.toml or a bindle"),
        (("test", "-b", NAME, "case.toml"), "no Bindle server given"),
        (("run",), "expected a module (.wasm, .wat), found nothing"),
    ):
        status, output = run(*arguments)
        assert status == 2
        assert message in output


def test_a_handler_that_checks_credentials(tmp_path: Path) -> None:
    """pass_authorization = "true": features are strings."""
    wasm = bytes(wat2wasm((ROOT / "examples/wat/environment.wat").read_text()))
    routes = [
        handler(wasm, "/login", pass_authorization="true"),
        handler(wasm + b"\0\1\0", "/no", pass_authorization="false"),
    ]
    write_standalone(tmp_path / "bindles", NAME, routes)
    options = ("-b", NAME, "--bindle-path", "bindles")
    headers = [("Authorization", "Bearer token")]
    with serving(
        tmp_path, None, *options, target=None, environment=environment(tmp_path)
    ) as server:
        found = server.get("/login", headers=headers).variables
        assert found["HTTP_AUTHORIZATION"] == "Bearer token"
        assert "HTTP_AUTHORIZATION" not in server.get("/no", headers=headers).variables


def test_without_a_command(tmp_path: Path) -> None:
    """wagi -b ID is wagi serve -b ID, as in the original."""
    write_standalone(tmp_path / "bindles", NAME, parcels(), GROUPS)
    done = run_wagi(tmp_path, "-b", NAME, "--bindle-path", "bindles", "--listen", "nonsense")
    assert done.returncode == 2
    assert "--listen" in done.stderr
    done = run_wagi(
        tmp_path, "check", "-b", NAME, "--bindle-path", "bindles",
        environment=environment(tmp_path),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{NAME}: 3 routes, no problems\n")


def test_basic_authentication(tmp_path: Path) -> None:
    """--bindle-http-user and --bindle-http-password, or their variables."""
    with bindle_server() as server:
        server.add(NAME, parcels(), GROUPS)
        server.authorization = "Basic " + base64.b64encode(b"bob:pa:ss").decode()
        options = ("--bindle-url", server.url)
        user = ("--bindle-http-user", "bob", "--bindle-http-password", "pa:ss")
        assert_all_is_there(get(tmp_path, *options, *user))
        variables = {"BINDLE_HTTP_USER": "bob", "BINDLE_HTTP_PASSWORD": "pa:ss"}
        assert_all_is_there(get(tmp_path, *options, **variables))
        done = run_wagi(tmp_path, "check", "-b", NAME, *options, "--bindle-http-user", "eve")
    assert done.returncode == 2
    assert "responded with 401: check --bindle-http-user and --bindle-http-password" in done.stderr


def test_credentials_are_sent_to_one_server_only(tmp_path: Path) -> None:
    """Only to that of --bindle-url, not to servers named in modules.toml."""
    with bindle_server() as other:
        other.add("hello/0.1.0", [parcel("hello.wasm", module("hello"), "application/wasm")])
        other.authorization = "Basic " + base64.b64encode(b"bob:x").decode()
        manifest = (
            '[[module]]\nroute = "/"\nmodule = "bindle:hello/0.1.0"\n'
            f'bindle_server = "{other.url}"\n'
        )
        write_files(tmp_path, {"modules.toml": manifest})
        user = ("--bindle-http-user", "bob", "--bindle-http-password", "x")
        for options, status in (
            ((), 0),
            (("--bindle-url", other.url), 0),
            (("--bindle-url", "http://127.0.0.1:1/v1"), 2),
            (("--bindle-url", "http://127.0.0.1:1/v1", "--bindle-path", "."), 2),
        ):
            cache = {"WAGI_MODULE_CACHE": tempfile.mkdtemp(dir=tmp_path)}
            done = run_wagi(tmp_path, "check", *user, *options, environment=cache)
            assert done.returncode == status, done.stderr


def test_references(tmp_path: Path) -> None:
    """bindle: in modules.toml is the first module that is in no group, with its files."""
    with bindle_server() as server:
        server.add("cat/1.0.0", [file("a.txt", b"file a", "g"), handler(show(), "/x", "g")])
        write_standalone(tmp_path / "bindles", "hello/0.1.0", [
            parcel("lib.wasm", module("lib"), "application/wasm", member_of=("g",)),
            parcel("hello.wasm", module("hello"), "application/wasm"),
        ])  # fmt: skip
        manifest = (
            f'[[module]]\nroute = "/cat"\nmodule = "bindle:cat/1.0.0"\n'
            f'bindle_server = "{server.url}"\n'
            '[[module]]\nroute = "/hello"\nmodule = "bindle:hello/0.1.0"\n'
            'bindle_server = "bindles"\n'
            '[[module]]\nroute = "/default"\nmodule = "bindle:cat/1.0.0"\n'
        )
        options = ("--bindle-url", server.url)
        with serving(tmp_path, manifest, *options, environment=environment(tmp_path)) as running:
            assert running.get("/cat?a.txt").text == "file a"
            assert running.get("/hello").text == "hello"
            assert running.get("/default?a.txt").text == "file a"


def test_files_are_read_only(tmp_path: Path) -> None:
    write_standalone(tmp_path / "bindles", NAME, [
        handler(compiled(HANDLERS / "show.c").read_bytes(), "/files", "g"),
        file("a.txt", b"file a", "g"),
    ])  # fmt: skip
    options = ("--bindle-path", "bindles")
    with serving(
        tmp_path, None, "-b", NAME, *options, target=None, environment=environment(tmp_path)
    ) as server:
        assert "a.txt: " in server.get("/files?+a.txt").text
        assert "new.txt: " in server.get("/files?+new.txt").text
        assert server.get("/files?a.txt").text == "file a"
    (kept,) = (tmp_path / "cache/folders").rglob("a.txt")
    assert kept.read_bytes() == b"file a"
    kept.chmod(0o644)
    kept.write_bytes(b"damaged")
    with serving(
        tmp_path, None, "-b", NAME, *options, target=None, environment=environment(tmp_path)
    ):
        assert kept.read_bytes() == b"file a"


Break = Callable[[BindleServer], None]


def _remove(path: str) -> Break:
    def change(server: BindleServer) -> None:
        for key in [key for key in server.content if path in key]:
            del server.content[key]

    return change


def _write(path: str, old: bytes, new: bytes) -> Break:
    def change(server: BindleServer) -> None:
        found = [key for key, text in server.content.items() if path in key and old in text]
        assert found
        for key in found:
            server.content[key] = server.content[key].replace(old, new)

    return change


@pytest.mark.parametrize(
    ("break_it", "status", "message"),
    [
        (_remove("@"), 1, "is missing"),
        (_remove("_i/"), 2, "responded with 404: no such bindle"),
        (_write("@", b"root", b"r00t"), 1, "digest mismatch: expected sha256:"),
        (_write("1.2.3", b"[[parcel]]", b"[[parcel"), 1, "invalid invoice: not valid TOML"),
        (_write("1.2.3", b"size =", b"sizes ="), 1, "required key 'parcel.0.label.size'"),
        (_write("1.2.3", b'version = "1.2.3"', b'version = "6.6.6"'), 1, "expected the bindle"),
        (_write("1.2.3", b'requires = ["pictures"]', b'requires = ["pictures", "static"]'), 1,
         "groups require each other: static → static"),
        (_write("1.2.3", b'requires = ["pictures"]', b'requires = ["gone"]'), 1,
         "the required group 'gone' does not exist"),
        (_write("1.2.3", b'"a.txt"', b'"../a.txt"'), 1, "expected a relative path without .."),
        (_write("1.2.3", b'"a.txt"', b'"/etc/passwd"'), 1, "expected a relative path without .."),
        (_write("1.2.3", b'"a.txt"', b'"x/../../y"'), 1, "expected a relative path without .."),
        (_write("1.2.3", b'"a.txt"', b'"deep"'), 1,
         "'deep' is both a file and the directory of 'deep/er/b.txt'"),
        (_write("1.2.3", b'"a.txt"', b'"deep/er/b.txt"'), 1, "two parcels have the file name"),
        (_write("1.2.3", b'route = "/"', b'route = "nowhere"'), 1, "parcel root.wasm: route: "),
        (_write("1.2.3", b'argv = "show', b'pass_authorization = "show'), 1,
         "parcel files.wasm: pass_authorization: expected true or false, found 'show"),
        (_write("1.2.3", b'route = "/', b'rout = "/'), 1, "no parcel is a handler"),
        (_write("1.2.3", b"size = ", b"size = 9999999999"), 1, "(--max-module-size)"),
    ],
)  # fmt: skip
def test_error_messages(tmp_path: Path, break_it: Break, status: int, message: str) -> None:
    """One clear message; exit status 1, because the user did not write the invoice."""
    with bindle_server() as server:
        server.add(NAME, parcels(), GROUPS)
        break_it(server)
        options = ("-b", NAME, "--bindle-url", server.url)
        done = run_wagi(tmp_path, "check", *options, environment=environment(tmp_path))
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "bindle:example.com/site/1.2.3" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.partial"))


def test_invalid_standalone_bindles(tmp_path: Path) -> None:
    own = write_standalone(tmp_path / "bindles", NAME, parcels(), GROUPS)
    options = ("check", "-b", NAME, "--bindle-path", "bindles")
    first = next((own / "parcels").glob(f"{parcels()[0]['sha256']}*"))
    content = first.read_bytes()
    for broken, message in (
        (content[:-1], "bytes, but the invoice declares"),
        (content[:-1] + b"?", "does not match the invoice: expected sha256:"),
        (None, "No such file"),
    ):
        first.unlink(missing_ok=True)
        if broken is not None:
            first.write_bytes(broken)
        done = run_wagi(tmp_path, *options, environment=environment(tmp_path))
        assert done.returncode == 1
        assert message in done.stderr
        assert "bindle:example.com/site/1.2.3" in done.stderr
    done = run_wagi(tmp_path, "check", "-b", "absent/1.0.0", "--bindle-path", "bindles")
    assert done.returncode == 2
    assert "bindle:absent/1.0.0: no such file: " in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-b", NAME), "no Bindle server given: pass --bindle-url or --bindle-path"),
        (("-b", "name"), "expected bindle:NAME/VERSION"),
        (("-b", "../x", "--bindle-path", "."), "expected bindle:NAME/VERSION"),
        (("-b", NAME, "--bindle-url", "ftp://x/v1"), "expected http://HOST/v1, https://HOST/v1"),
        (("-b", NAME, "modules.toml"), "expected either a modules.toml or a bindle"),
    ],
)
def test_bad_usage(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    write_files(tmp_path, {"modules.toml": ""})
    done = run_wagi(tmp_path, "check", *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_self_signed_certificate(tmp_path: Path) -> None:
    """-k accepts any certificate."""
    with bindle_server(certificate_of(tmp_path / "tls")) as server:
        server.add(NAME, parcels(), GROUPS)
        options = ("-b", NAME, "--bindle-url", server.url)
        done = run_wagi(tmp_path, "check", *options, environment=environment(tmp_path))
        assert done.returncode == 1
        assert "certificate" in done.stderr
        assert_all_is_there(get(tmp_path, "--bindle-url", server.url, "-k"))
