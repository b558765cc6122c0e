"""Programs from the C of the compiled core, with the sanitizers of addresses and of behavior."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from tests.support.toolchains import missing, tool
from wagi.guest import core

GUESTS = int(os.environ.get("WAGI_CORE_GUESTS", "20000"))
"""Number of random inputs."""
CORE = Path(core.__file__).parent
_FLAGS = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{CORE}"]
_SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@cache
def _compiler() -> str:
    """A C compiler with sanitizers."""
    found = tool("cc")
    done = subprocess.run(
        [found, *_SANITIZERS, "-xc", "-", "-o", os.devnull],
        input="int main(void) { return 0; }",
        capture_output=True,
        text=True,
        check=False,
    )
    return found if done.returncode == 0 else missing(f"cc with {_SANITIZERS[0]}: {done.stderr}")


def build(output: Path, *sources: Path) -> None:
    """Build a program."""
    command = [_compiler(), *_FLAGS, *_SANITIZERS, *map(str, sources)]
    run([*command, "-o", str(output), "-ldl", "-lpthread"])


def run(command: list[str]) -> str:
    """Run a command that has to succeed; return its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
