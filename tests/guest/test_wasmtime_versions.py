"""Supported versions of wasmtime, and the detection of incompatible ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, ROOT, run_wagi, serving, write_files
from tests.support.wat import HELLO
from wagi.guest import compatibility
from wagi.guest.capi import api

FILES = {
    "hello.wat": HELLO,
    "modules.toml": '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n',
}
RANGE = "; this version of wagi supports wasmtime 48 to 50: pip install 'wasmtime>=48,<51'\n"
WARNING = (
    "wasmtime 99.0.0 is newer than the versions that wagi is tested with (48 to 50); it"
    " passed the self-test"
)


def pretend(folder: Path, version: str) -> dict[str, str]:
    """Make importlib.metadata find another version of wasmtime; return the environment."""
    package = folder / "site" / f"wasmtime-{version}.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text(f"Name: wasmtime\nVersion: {version}\n")
    return {"PYTHONPATH": os.pathsep.join((str(package.parent), str(ROOT)))}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a separate process, like ``wagi``."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("version", ["47.0.1", "9.0.0"])
def test_a_version_that_is_too_old_is_rejected(tmp_path: Path, version: str) -> None:
    write_files(tmp_path, FILES)
    done = run_wagi(tmp_path, "check", environment=pretend(tmp_path, version))
    assert done.returncode == 1
    assert done.stderr == f"error: wasmtime {version} cannot be used: it is too old{RANGE}"


@pytest.mark.parametrize("version", ["48.0.0", "49.0.1", "50.7.0"])
def test_a_supported_version_is_used(tmp_path: Path, version: str) -> None:
    write_files(tmp_path, FILES)
    done = run_wagi(tmp_path, "check", environment=pretend(tmp_path, version))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_newer_version_is_used_with_a_warning(tmp_path: Path) -> None:
    """Only one warning, from the process that forks the workers."""
    write_files(tmp_path, FILES)
    environment = pretend(tmp_path, "99.0.0")
    done = run_wagi(tmp_path, "check", environment=environment)
    assert (done.returncode, done.stderr) == (0, f"{WARNING}\n")
    with serving(tmp_path, None, "--workers", "3", environment=environment) as server:
        assert server.get("/hello").text == "hello\n"
    assert server.log.count("wasmtime 99.0.0") == 1


DIFFERENT = """
import ctypes
from wasmtime import _bindings
{change}
from wagi.cli import main
main()
"""
ANOTHER_FIELD = """
class Changed(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_uint8), ("new", ctypes.c_void_p), ("of", ctypes.c_uint64 * 2)]
_bindings.wasmtime_val_t = Changed
"""
ANOTHER_PARAMETER = """
_bindings._wasmtime_store_new.argtypes = [*_bindings._wasmtime_store_new.argtypes, ctypes.c_int]
"""
ANOTHER_RESULT = """
import wasmtime
wat2wasm = wasmtime.wat2wasm
wasmtime.wat2wasm = lambda text: wat2wasm(text.replace("0x123456789", "1"))
"""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (ANOTHER_FIELD, "its wasmtime_val_t has a different layout"),
        ("del _bindings.wasmtime_val_raw_t", "it has no wasmtime_val_raw_t"),
        ("del _bindings._wasmtime_func_call_async", "it has no wasmtime_func_call_async"),
        (ANOTHER_PARAMETER, "its wasmtime_store_new has different parameters"),
        (
            ANOTHER_RESULT,
            "its self-test failed: host calls get the arguments of the guest: expected [('add',"
            " 4294967295, 4886718345, 65536, b'memory'), ('wait', 4294967294, 40926266145)], found"
            " [('add', 4294967295, 1, 65536, b'memory'), ('wait', 4294967294, 40926266145)]",
        ),
    ],
)
def test_an_incompatible_version_is_rejected(change: str, reason: str) -> None:
    """With one message, regardless of its version number."""
    done = run_python(DIFFERENT.format(change=f"{change}\nimport sys\nsys.argv[1:] = ['check']"))
    assert done.returncode == 1
    found = compatibility.installed_version()
    assert done.stderr == f"error: wasmtime {found} cannot be used: {reason}{RANGE}"


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_the_self_test_has_no_side_effects() -> None:
    """The supervisor forks after it, and a program may install its own signal handlers."""
    done = run_python("""
import os
from pathlib import Path
import wasmtime
def state():
    status = Path("/proc/self/status").read_text().splitlines()
    return len(os.listdir("/proc/self/task")), [l for l in status if l.startswith("SigCgt")]
before = state()
import wagi.guest.engine
assert state() == before, (before, state())
wagi.guest.engine.Runtime()
assert state() != before
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_all_called_functions_are_checked() -> None:
    """And no others: they could be missing in a compatible version."""
    files = sorted((ROOT / "wagi" / "guest" / "capi").glob("*.py"))
    source = "".join(file.read_text() for file in files)
    called = set(re.findall(r"\bc\.((?:wasm|wasi)\w+)\(", source))
    called |= set(re.findall(r'_function\(\s*_(?:no_)?gil, "(\w+)"', source))
    options = set(re.findall(r'^ +"(\w+)": ', source.partition("def _configure_pool")[2], re.M))
    core = (ROOT / "wagi" / "guest" / "core" / "api.h").read_text()
    called |= {f"wasmtime_{name}" for name in re.findall(r"^  X\((\w+), ", core, re.M)}
    called |= {"wasi_config_new", "wasm_trap_delete"}
    called |= {f"wasmtime_pooling_allocation_config_{name}_set" for name in options}
    assert called == set(compatibility._FUNCTIONS)


def test_functions_are_called_with_the_parameters_that_are_checked() -> None:
    declared = [item for item in vars(api).values() if hasattr(item, "argtypes")]
    counts = {
        item.__name__: len(item.argtypes)
        for item in declared
        if getattr(item, "__name__", "") in compatibility._FUNCTIONS
    }
    assert len(counts) > 15
    assert counts == {name: compatibility._FUNCTIONS[name] for name in counts}
