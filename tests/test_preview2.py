"""Commands that call WASI preview 2; ``test_components`` runs them wherever modules run."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from benchmarks.programs import wasmtime_command
from tests.support.component_runs import run_here, run_in_wasmtime
from tests.support.components import LIBRARIES, NATIVE_COMMAND, component
from tests.support.server import ENVIRONMENT, run_wagi, serving, write_files
from tests.support.toolchains import HANDLERS, c_component, rust_component

GREETING = "hello from a component\n"
MANIFEST = '[[module]]\nroute = "/"\nmodule = "hello.wasm"\n'
RUST, C = HANDLERS / "preview2.rs", HANDLERS / "native.c"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, {"modules.toml": MANIFEST, "hello.wasm": component(NATIVE_COMMAND)})
    return tmp_path


@pytest.mark.parametrize("core", ["required", "off"])
def test_serve(folder: Path, core: str) -> None:
    with serving(folder, environment={"WAGI_CORE": core}) as server:
        response = server.get("/")
    assert (response.status, response.text) == (200, GREETING)


def test_a_failure(folder: Path) -> None:
    assert "exited with status 1" in run_wagi(folder, "call", "/?argument").stderr


def test_an_artefact_is_used_by_the_next_start(folder: Path) -> None:
    options = ("--artefact-cache", str(folder / "artefacts"))
    for _ in range(2):
        with serving(folder, None, *options) as server:
            assert server.get("/").text == GREETING
    assert len(list((folder / "artefacts").iterdir())) == 1


def test_inspect(folder: Path) -> None:
    done = run_wagi(folder, "inspect", "hello.wasm")
    assert (done.returncode, done.stderr) == (0, "")
    assert "world    wasi:cli/command (WASI 0.2.0, 0.2.3, 0.2.6)\n" in done.stdout
    assert "runs     as its core module, with WASI preview 2\n" in done.stdout
    assert "  yes get-arguments: func(i32) -> ()\n" in done.stdout
    found = json.loads(run_wagi(folder, "inspect", "--json", "hello.wasm").stdout)
    assert (found["kind"], found["supported"]) == ("component", True)


def test_a_function_that_does_not_exist_is_an_error_at_startup(tmp_path: Path) -> None:
    """Of WASI, but in no version that the gateway knows."""
    unknown = component(NATIVE_COMMAND.replace("get-arguments", "get-anything"))
    write_files(tmp_path, {"hello.wasm": unknown, "modules.toml": MANIFEST})
    done = run_wagi(tmp_path, "check")
    assert done.returncode == 2
    assert "unknown import 'get-anything' of 'wasi:cli/environment'" in done.stderr
    assert "does not provide" in done.stderr


def test_a_core_module_cannot_use_the_functions_of_components(tmp_path: Path) -> None:
    text = """(module (import "wasi:cli/stdout" "get-stdout" (func (result i32)))
      (memory (export "memory") 1) (func (export "_start")))"""
    write_files(tmp_path, {"hello.wat": text})
    done = run_wagi(tmp_path, "check", "hello.wat")
    assert done.returncode == 2
    assert "the core module of a component without its component" in done.stderr


@pytest.mark.parametrize("core", ["required", "off"])
def test_each_module_of_a_component_has_its_allocator(tmp_path: Path, core: str) -> None:
    """The program's own allocator is called for what it imports: table, block and two strings."""
    counted = component(
        LIBRARIES,
        (
            '(func (export "allocate") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))',
            "(global $next (mut i32) (i32.const 1024))"
            ' (func (export "allocate") (param i32 i32 i32 i32) (result i32) (global.get $next)'
            " (global.set $next (i32.add (global.get $next) (i32.const 1024)))))",
        ),
        (
            "      (call $allocate (local.get 0)",
            "      (global.set $calls (i32.add (global.get $calls) (i32.const 1)))"
            " (call $allocate (local.get 0)",
        ),
        (
            '(func (export "run") (result i32) (call $arguments (global.get $top)) (i32.const 0))',
            "(global $calls (mut i32) (i32.const 0))"
            ' (func (export "run") (result i32) (call $arguments (global.get $top))'
            " (i32.ne (global.get $calls) (i32.const 4)))",
        ),
    )
    write_files(tmp_path, {"hello.wasm": counted})
    command = ("run", "hello.wasm", "/x?first")
    done = run_wagi(tmp_path, *command, environment={**ENVIRONMENT, "WAGI_CORE": core})
    assert "exited with status" not in done.stderr
    assert "trap" not in done.stderr


@pytest.mark.parametrize("last", ["a=1", "fail", "panic"])
@pytest.mark.parametrize("source", [RUST, C], ids=["rust", "c"])
def test_a_real_program_does_what_it_does_in_wasmtime(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, source: Path, last: str
) -> None:
    """Output, errors, outcome, and all files afterwards."""
    wasm = (c_component if source is C else rust_component)(source)
    wasmtime = wasmtime_command(tmp_path_factory.mktemp("wasmtime"))
    endings, trees = [], []
    for run in (run_in_wasmtime, run_here):
        volume = tmp_path / run.__name__
        volume.mkdir()
        write_files(volume, {"data/given.txt": "given to the guest", "outside.txt": "secret"})
        (volume / "data" / "link.txt").symlink_to("../outside.txt")
        endings.append(run(wasm, volume / "data", wasmtime, ("first", last)))
        trees.append(_tree(volume))
        assert b"secret" not in endings[-1].stdout
    assert endings[0].stdout == endings[1].stdout
    fails = last == "fail" or (last == "panic" and source is RUST)
    assert [ending.succeeded for ending in endings] == [not fails] * 2
    assert (endings[0].stderr == endings[1].stderr) or last == "panic"
    assert trees[0] == trees[1]


def _tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return type, permissions and content of everything in a directory."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            is_file = stat.S_ISREG(mode)
            found[str(path.relative_to(folder))] = mode, path.read_bytes() if is_file else b""
    return found


def test_a_real_program_is_served(tmp_path: Path) -> None:
    """Bodies in and out; sockets are denied, and the log names the function."""
    shutil.copy(rust_component(RUST), tmp_path / "hello.wasm")
    write_files(tmp_path, {"data/given.txt": "given to the guest"})
    (tmp_path / "data" / "link.txt").symlink_to("given.txt")
    manifest = MANIFEST + 'volumes = { "/data" = "data" }\n'
    with serving(tmp_path, manifest) as server:
        response = server.post("/", b"x" * 200_000)
        assert response.status == 200
        assert f"body: 200000 bytes, {200_000 * ord('x')}\n" in response.text
        assert "files: ()\n" in response.text
        assert response.text.endswith("0123456789abcdef\n" * 10_000)
        server.wait_for_log("called create-tcp-socket of wasi:sockets/tcp-create-socket")


def test_read_only_volumes(tmp_path: Path) -> None:
    shutil.copy(rust_component(RUST), tmp_path / "hello.wasm")
    write_files(tmp_path, {"data/given.txt": "given to the guest"})
    manifest = MANIFEST + 'volumes = { "/data" = { path = "data", readonly = true } }\n'
    with serving(tmp_path, manifest) as server:
        text = server.post("/", b"").text
    assert 'given: "given to the guest"\n' in text
    assert "files: PermissionDenied\n" in text
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["given.txt"]
