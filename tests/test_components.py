"""Programs with the preview-1 adapter, as components, wherever a module is accepted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.programs import wasmtime_command
from tests.support.bindles import handler, write_standalone
from tests.support.component_runs import run_here, run_in_wasmtime
from tests.support.components import (
    CIRCLE,
    COMMAND,
    HANDLER,
    NATIVE_COMMAND,
    PROGRAM,
    component,
)
from tests.support.registry import registry
from tests.support.server import ENVIRONMENT, run_wagi, serving, write_files
from tests.support.toolchains import EXAMPLES, HANDLERS, adapted_component, compiled
from wagi.guest.binary import sections
from wagi.guest.component.description import to_core_module

GREETING = "hello from a component\n"
MANIFEST = '[[module]]\nroute = "/"\nmodule = "hello.wasm"\n'


# Wherever a module is accepted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(
        tmp_path,
        {"modules.toml": MANIFEST, "hello.wasm": component(COMMAND), "hello.wat": COMMAND},
    )
    return tmp_path


@pytest.fixture(params=[COMMAND, NATIVE_COMMAND], ids=["adapter", "native"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A route map with a program that has the adapter, or calls preview 2 itself."""
    text = request.param
    write_files(
        tmp_path, {"modules.toml": MANIFEST, "hello.wasm": component(text), "hello.wat": text}
    )
    return tmp_path


@pytest.mark.parametrize("target", ["modules.toml", "hello.wasm", "hello.wat"])
def test_serve(project: Path, target: str) -> None:
    with serving(project, target=target) as server:
        response = server.get("/")
    assert (response.status, response.text) == (200, GREETING)


def test_commands(project: Path) -> None:
    for command in (["call", "/"], ["run", "hello.wasm"], ["run", "hello.wat", "/any/path"]):
        done = run_wagi(project, *command)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", GREETING), command
    assert run_wagi(project, "check").returncode == 0
    assert run_wagi(project, "call", "--record", "cases/hello.toml", "/").returncode == 0
    assert run_wagi(project, "test", "cases").stdout == "1 passed, 0 failed\n"


def test_the_pytest_plugin(project: Path) -> None:
    test = f"def test_it(wagi_client):\n    assert wagi_client.get('/').text == {GREETING!r}\n"
    write_files(project, {"test_it.py": test, "pytest.ini": "[pytest]\n"})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    subprocess.run(command, cwd=project, env=ENVIRONMENT, check=True, capture_output=True)


def test_a_component_and_its_module_are_compiled_once(folder: Path) -> None:
    """Their code is the same, and so is their speed."""
    manifest = MANIFEST + '[[module]]\nroute = "/module"\nmodule = "module.wat"\n'
    write_files(folder, {"modules.toml": manifest, "module.wat": f"(module $main {PROGRAM})"})
    done = run_wagi(folder, "compile", "--artefact-cache", str(folder / "artefacts"))
    assert "2 routes, 1 compiled modules" in done.stdout
    assert len(list((folder / "artefacts").iterdir())) == 1


def test_the_artefact_is_that_of_the_content(folder: Path) -> None:
    """It is compiled once; other content is another artefact."""
    options = ("--artefact-cache", str(folder / "artefacts"))
    assert run_wagi(folder, "compile", *options).returncode == 0
    (artefact,) = (folder / "artefacts").iterdir()
    inode = artefact.stat().st_ino
    with serving(folder, None, *options) as server:
        assert server.get("/").text == GREETING
    assert [path.stat().st_ino for path in (folder / "artefacts").iterdir()] == [inode]
    other = component(COMMAND, ("hello from", "howdy from"))
    with serving(folder, None, *options, modules={"hello.wasm": other}) as server:
        assert server.get("/").text == GREETING.replace("hello", "howdy")
    assert len(list((folder / "artefacts").iterdir())) == 2


def test_inspect(folder: Path) -> None:
    done = run_wagi(folder, "inspect", "hello.wasm")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kind     component\nworld    wasi:cli/command (WASI 0.2.0, 0.2.3)\n" in done.stdout
    assert "runs     as its core module, with WASI preview 1\n" in done.stdout
    assert "  yes random_get: func(i32, i32) -> i32\n" in done.stdout
    found = json.loads(run_wagi(folder, "inspect", "--json", "hello.wat").stdout)
    assert (found["kind"], found["supported"]) == ("component", True)
    assert found["entrypoints"] == ["_start"]
    assert found["interfaces"]["exports"] == ["wasi:cli/run@0.2.0"]


def test_inspect_a_component_that_cannot_run(folder: Path) -> None:
    draft = "wasi:http/types@0.2.0-rc-2023-11-10"
    write_files(folder, {"http.wat": HANDLER.replace("wasi:http/types@0.2.0", draft)})
    done = run_wagi(folder, "inspect", "http.wat")
    assert (done.returncode, done.stderr) == (0, "")
    assert "world    wasi:http/proxy (WASI 0.2.0-rc-2023-11-10, 0.2.3)\n" in done.stdout
    assert f"runs     no: this component uses a draft of WASI preview 2 ({draft})" in done.stdout
    assert "exports:\n  wasi:http/incoming-handler@0.2.3\n" in done.stdout


def test_a_bindle(project: Path) -> None:
    parcels = [handler((project / "hello.wasm").read_bytes(), "/")]
    write_standalone(project / "bindles", "example.com/site/1.0.0", parcels)
    options = ("-b", "example.com/site/1.0.0", "--bindle-path", str(project / "bindles"))
    with serving(project, None, *options, target=None) as server:
        assert server.get("/").text == GREETING


@pytest.mark.parametrize("layout", ["wasm-to-oci", "cncf"])
def test_a_registry(project: Path, layout: str) -> None:
    with registry(project / "registry") as found:
        reference = f"oci://{found.name}/hello:1.0"
        done = run_wagi(project, "push", "--layout", layout, "hello.wasm", reference)
        assert done.returncode == 0, done.stderr
        manifest = MANIFEST.replace("hello.wasm", reference)
        with serving(project, manifest) as server:
            assert server.get("/").text == GREETING


def test_the_entrypoint_is_that_of_the_world(folder: Path) -> None:
    """Another one can be chosen among the exports of the core module."""
    renamed = component(
        COMMAND,
        ('(func (export "_start")', '(func (export "trap") unreachable) (func (export "main")'),
        ('(import "__main_module__" "_start"', '(import "__main_module__" "main"'),
    )
    entry = '[[module]]\nroute = "/trap"\nmodule = "hello.wasm"\nentrypoint = "trap"\n'
    with serving(folder, MANIFEST + entry, modules={"hello.wasm": renamed}) as server:
        assert server.get("/").text == GREETING
        assert server.get("/trap").status == 500


def test_initializers_are_called_first(folder: Path) -> None:
    """They are functions that the fixups call."""
    initialized = component(
        COMMAND,
        ('(data (i32.const 8) "Content-Type', '(func (export "init") (i32.store8 (i32.const 34)'
         ' (i32.const 72))) (data (i32.const 8) "Content-Type'),
        ('(import "" "0" (func $0', '(import "" "init" (func $init)) (start $init)'
         ' (import "" "0" (func $0'),
        ("(core instance $actual\n",
         '(core instance $actual (export "init" (func $main "init"))\n'),
    )  # fmt: skip
    with serving(folder, MANIFEST, modules={"hello.wasm": initialized}) as server:
        assert server.get("/").text == GREETING.replace("hello", "Hello")


# What cannot run is an error at startup

NOT_RUNNING = {
    "unknown": (
        component(COMMAND, CIRCLE),
        "has an unknown structure (circle of functions): build for WASI preview 1",
    ),
    "empty": (b"\0asm\x0d\0\x01\0", "exports neither wasi:cli/run nor wasi:http/incoming-handler"),
    "draft": (
        component(COMMAND.replace("@0.2.0", "@0.2.0-rc-2023-11-10")),
        "uses a draft of WASI preview 2 (wasi:cli/exit@0.2.0-rc-2023-11-10)",
    ),
    "preview-3": (component(COMMAND.replace("@0.2.0", "@0.3.0")), "uses WASI preview 3"),
    "spin": (
        component(COMMAND.replace("wasi:random/random@0.2.3", "fermyon:spin/key-value@2.0.0")),
        "needs Spin, which alone provides fermyon:spin/key-value@2.0.0: run it with Spin, or keep"
        " state in a volume",
    ),
    "composed": (
        component("(component (component $c (core module)) (instance (instantiate $c)))"),
        "is composed of several components",
    ),
}


@pytest.mark.parametrize("name", NOT_RUNNING)
def test_what_cannot_run_is_explained(tmp_path: Path, name: str) -> None:
    content, message = NOT_RUNNING[name]
    write_files(tmp_path, {"m.wasm": content, "modules.toml": MANIFEST.replace("hello", "m")})
    for command in (["check"], ["serve", "--listen", "127.0.0.1:0"], ["run", "m.wasm"]):
        done = run_wagi(tmp_path, *command)
        assert done.returncode == 2, done
        assert f"m.wasm: this component {message}" in done.stderr
        assert "Traceback" not in done.stderr


# Real components, compared with wasmtime

PROGRAMS = {
    "C": HANDLERS / "chatty.c",
    "files": HANDLERS / "files.c",
    "Rust": EXAMPLES / "rust" / "environment.rs",
    "Go": HANDLERS / "request.go",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_real_component_becomes_its_module(name: str) -> None:
    """What wasm-tools and the adapter added is removed again; every section is the same."""
    module = compiled(PROGRAMS[name])
    found = to_core_module(adapted_component(module).read_bytes()).wasm
    assert _contents(found) == _contents(module.read_bytes())


def _contents(wasm: bytes) -> list[tuple[int, bytes]]:
    """Number and content of each section, whose size may be encoded in several ways."""
    return [(section.number, wasm[section.start : section.end]) for section in sections(wasm)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_real_component_does_what_wasmtime_does(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    wasm = adapted_component(compiled(PROGRAMS[name]))
    wasmtime = wasmtime_command(tmp_path_factory.mktemp("wasmtime"))
    endings = []
    for run in (run_in_wasmtime, run_here):
        volume = tmp_path / run.__name__
        volume.mkdir()
        write_files(volume, {"data/given.txt": "given to the guest", "outside.txt": "secret"})
        (volume / "data" / "link.txt").symlink_to("../outside.txt")
        endings.append(run(wasm, volume / "data", wasmtime))
        assert b"secret" not in endings[-1].stdout
    assert endings[0] == endings[1]
    assert endings[0].stdout


def test_a_real_component_is_served(tmp_path: Path) -> None:
    """Bodies in and out, and the variables of a request."""
    chatty = adapted_component(compiled(HANDLERS / "chatty.c"))
    environment = adapted_component(compiled(EXAMPLES / "rust" / "environment.rs"))
    shutil.copy(chatty, tmp_path / "chatty.wasm")
    shutil.copy(environment, tmp_path / "environment.wasm")
    manifest = "".join(
        f'[[module]]\nroute = "/{name}/..."\nmodule = "{name}.wasm"\n'
        for name in ("chatty", "environment")
    )
    with serving(tmp_path, manifest) as server:
        response = server.post("/chatty/x?y", b"body")
        assert response.text.startswith("POST /x y\n")
        assert response.text.endswith("\nbody")
        assert response.all("X-Twice") == ["1", "2"]
        assert server.get("/chatty?trap").status == 500
        assert "PATH_INFO: /x\n" in server.get("/environment/x").text
