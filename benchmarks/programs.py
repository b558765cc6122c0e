"""The handlers that are measured, compiled with real toolchains."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.support.toolchains import EXAMPLES, HANDLERS, compiled

HELLO_C = HANDLERS / "hello.c"
SPIN = '(module (func (export "_start") (loop $l (br $l))))'
SLEEP_C = """#include <stdio.h>
#include <unistd.h>
int main(void) { sleep(20); puts("Content-Type: text/plain\\n\\nawake"); return 0; }
"""
HELLO_RUST = """fn main() { print!("Content-Type: text/plain\\n\\nHello from Rust\\n"); }
"""
HELLO_GO = """package main
import "os"
func main() { os.Stdout.WriteString("Content-Type: text/plain\\n\\nHello from Go\\n") }
"""
MANY_C = """#include <stdio.h>
#include <string.h>
static char buffer[1 << 16];
int main(void) {
    memset(buffer, 'x', sizeof buffer);
    printf("Content-Type: text/plain\\n\\n");
    for (int i = 0; i < 1600; i++) fwrite(buffer, 1, sizeof buffer, stdout);
    return 0;
}
"""


def write(folder: Path, name: str, text: str) -> Path:
    """A source file that is only there for a benchmark."""
    path = folder / name
    path.write_text(text)
    return path


@cache
def zig() -> list[str]:
    """A C compiler for WASI and for this machine."""
    if importlib.util.find_spec("ziglang") is None:
        raise SystemExit("ziglang is not installed: pip install '.[toolchains,benchmarks]'")
    return [sys.executable, "-m", "ziglang", "cc", "-O2"]


def small_stack(source: Path, output: Path) -> Path:
    """A C handler whose memory begins with 32 KiB of stack, not with zig's 16 MiB."""
    flags = ["-target", "wasm32-wasi", "-Wl,-z,stack-size=32768"]
    subprocess.run([*zig(), *flags, str(source), "-o", str(output)], check=True)
    return output


def native(source: Path, output: Path) -> Path:
    """The same program for this machine."""
    subprocess.run([*zig(), str(source), "-o", str(output)], check=True)
    return output


def wasmtime_command(folder: Path) -> Path | None:
    """wasmtime's command line, if its package is installed: a copy that everybody may run."""
    spec = importlib.util.find_spec("wasmtime_cli")
    if spec is None or spec.origin is None:
        return None
    command = folder / "wasmtime"
    shutil.copy(Path(spec.origin).parent / "wasmtime", command)
    command.chmod(command.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return command


def wasmtime_script(command: Path, module: Path, folder: Path) -> Path:
    """A CGI program that runs a module with wasmtime's command line, compiled ahead of time."""
    artefact = folder / "hello.cwasm"
    subprocess.run([str(command), "compile", str(module), "-o", str(artefact)], check=True)
    script = write(
        folder, "hello.cgi", f"#!/bin/sh\nexec {command} run --allow-precompiled {artefact}\n"
    )
    script.chmod(0o755)
    return script


def handlers(folder: Path) -> dict[str, Path]:
    """The handlers of the throughput table, by name, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "hello in WAT": EXAMPLES / "wat/hello.wat",
        "hello in C": compiled(HELLO_C),
        "hello in C, 32 KiB of stack": small_stack(HELLO_C, folder / "small.wasm"),
        "hello in Rust": compiled(write(folder, "hello.rs", HELLO_RUST)),
        "hello in Go": compiled(write(folder, "hello.go", HELLO_GO)),
        "environment dump in Rust": compiled(EXAMPLES / "rust/environment.rs"),
        "echo in C": compiled(HANDLERS / "cat.c"),
        "100 MiB in C": compiled(write(folder, "many.c", MANY_C)),
        "sleep in C": compiled(write(folder, "sleep.c", SLEEP_C)),
        "endless loop": write(folder, "spin.wat", SPIN),
    }
    return {
        name: Path(shutil.copy(path, folder))
        for name, path in found.items()
        if path.parent != folder
    } | {name: path for name, path in found.items() if path.parent == folder}


def manifest(folder: Path, paths: dict[str, Path]) -> dict[str, str]:
    """Write a modules.toml; the route of each handler."""
    routes = {name: f"/{number}" for number, name in enumerate(paths)}
    text = ""
    for name, path in paths.items():
        text += f'[[module]]\nroute = "{routes[name]}"\nmodule = "{path.name}"\n'
        text += "timeout = 0\ncpu_timeout = 0\n"
    (folder / "modules.toml").write_text(text)
    return routes


def processor() -> str:
    """What the figures were measured on."""
    with Path("/proc/cpuinfo").open() as lines:
        model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    return f"{len(os.sched_getaffinity(0))} × {model}"
