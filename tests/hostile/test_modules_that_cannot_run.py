"""Modules that can never run are errors at startup; what docs/security.md promises does run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server, manifest_of, run_wagi, serving, write_files

WASI = "wasi_snapshot_preview1"
START = '(func (export "_start"))'
MEMORY = '(memory (export "memory") 1)'
LARGEST_TABLE = 4_194_304
"""Elements: an eighth of the default memory limit of 256 MiB at 8 bytes each."""


def importing(kind: str, name: str = "fd_write", module: str = WASI) -> str:
    """Return a module whose only import has this type."""
    return f'(module (import "{module}" "{name}" {kind}) {START})'


FD_WRITE = "(func (param i32 i32 i32 i32) (result i32))"
# Each module with the text that its message has to contain.
BAD = {
    # Shared memory needs threads, and a host call cannot check what another thread changes.
    "shared-memory": ('(module (memory (export "memory") 1 2 shared) ' + START + ")", "shared"),
    "shared-second": (f"(module {MEMORY} (memory 1 2 shared) {START})", "shared"),
    # A guest owns its memory: WASI commands export it.
    "memory-of-env": (importing("(memory 1)", "memory", "env"), "memory"),
    "memory-of-wasi": (importing("(memory 1)", "memory"), "memory"),
    "shared-of-env": (importing("(memory 1 2 shared)", "memory", "env"), "memory"),
    # The name of a WASI function with another type.
    "too-few-parameters": (importing("(func (param i32) (result i32))"), "fd_write"),
    "64-bit-pointers": (importing("(func (param i64 i64 i64 i64) (result i32))"), "fd_write"),
    "no-result": (importing("(func (param i32 i32 i32 i32))"), "fd_write"),
    "exit-with-result": (importing("(func (param i32) (result i32))", "proc_exit"), "proc_exit"),
    "yield-without-result": (importing("(func)", "sched_yield"), "sched_yield"),
    "clock-of-32-bits": (
        importing("(func (param i32 i32 i32) (result i32))", "clock_time_get"),
        "clock_time_get",
    ),
    # In snapshot 0, fd_seek has the same parameters in the same order.
    "unstable-seek": (
        importing("(func (param i32 i32 i32 i32) (result i32))", "fd_seek", "wasi_unstable"),
        "fd_seek",
    ),
    "a-memory": (importing("(memory 1)"), "fd_write"),
    "a-global": (importing("(global i32)"), "fd_write"),
    "a-mutable-global": (importing("(global (mut i64))", "random_get"), "random_get"),
    "a-table": (importing("(table 1 funcref)"), "fd_write"),
    "a-tag": (importing("(tag (param i32))"), "fd_write"),
    "unstable-global": (importing("(global i32)", "fd_write", "wasi_unstable"), "fd_write"),
    # One element more than allowed, many more, and two tables that together are too large.
    "large-table": (f"(module (table {LARGEST_TABLE + 1} funcref) {START})", "table"),
    "huge-table": (f"(module (table 4294967295 funcref) {START})", "table"),
    "large-externref-table": (f"(module (table {LARGEST_TABLE + 1} externref) {START})", "table"),
    "two-tables": (
        f"(module (table 10 funcref) (table {LARGEST_TABLE} funcref) {START})",
        "table",
    ),
    # Active segments are copied before any code runs: out of bounds, every request would trap.
    "data-across-end": (f'(module {MEMORY} (data (i32.const 65530) "1234567") {START})', "data"),
    "data-at-minus-1": (f'(module {MEMORY} (data (i32.const -1) "1") {START})', "data"),
    "data-beyond-end": (f'(module {MEMORY} (data (i32.const 65537) "") {START})', "data"),
    "data-without-pages": (
        f'(module (memory (export "memory") 0) (data (i32.const 0) "1") {START})',
        "data",
    ),
    "second-data": (
        f'(module {MEMORY} (data (i32.const 0) "1") (data (i32.const 65536) "1") {START})',
        "data",
    ),
    "data-in-second-memory": (
        f'(module {MEMORY} (memory 0) (data (memory 1) (i32.const 0) "1") {START})',
        "data",
    ),
    "data-at-a-global": (
        f'(module {MEMORY} (global $at i32 (i32.const 65536)) (data (global.get $at) "1") {START})',
        "data",
    ),
    "data-at-a-sum": (
        f'(module {MEMORY} (data (i32.add (i32.const 65535) (i32.const 1)) "1") {START})',
        "data",
    ),
    "elements-beyond-end": (
        f"(module (table 1 funcref) (func $f) (elem (i32.const 1) $f) {START})",
        "elem",
    ),
    # WASI's pointers have 32 bits.
    "memory64": ('(module (memory (export "memory") i64 1) ' + START + ")", "64"),
    "table64": (f"(module (table i64 1 funcref) {START})", "64"),
}
# Similar modules that work.
GOOD = {
    "data-to-the-end": f'(module {MEMORY} (data (i32.const 65530) "123456") {START})',
    "no-data-at-the-end": f'(module {MEMORY} (data (i32.const 65536) "") {START})',
    "passive-data": f'(module {MEMORY} (data "{"x" * 70_000}") {START})',
    "elements-to-the-end": (
        f"(module (table 1 funcref) (func $f) (elem (i32.const 0) $f) {START})"
    ),
    "largest-table": f"(module (table {LARGEST_TABLE} funcref) {START})",
    "two-halves": f"(module (table {LARGEST_TABLE // 2} funcref) (table 10 externref) {START})",
    "table-may-grow": f"(module (table 1 4294967295 funcref) {START})",
    "memory-may-grow": f'(module (memory (export "memory") 1 65536) {START})',
    "a-function": importing(FD_WRITE),
    "an-old-function": importing(FD_WRITE, "fd_write", "wasi_unstable"),
    "two-memories": f"(module {MEMORY} (memory 1) {START})",
    "no-memory": f"(module {START})",
}


def wat_files(texts: dict[str, str]) -> dict[str, str | bytes]:
    return {f"{name}.wat": text for name, text in texts.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose modules.toml names all bad and all good modules."""
    folder = tmp_path_factory.mktemp("modules")
    modules = wat_files({**{name: text for name, (text, _) in BAD.items()}, **GOOD})
    write_files(folder, {**modules, "modules.toml": manifest_of(modules)})
    return folder


@pytest.fixture(scope="module")
def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    return run_wagi(folder, "check")


@pytest.fixture(scope="module")
def served(folder: Path) -> subprocess.CompletedProcess[str]:
    return run_wagi(folder, "serve", "--listen", "127.0.0.1:0")


def messages(done: subprocess.CompletedProcess[str], name: str) -> list[str]:
    """Return the messages about a module; each begins with ``error: FILE:LINE: …``."""
    found = re.split(r"^(?=\w+: modules\.toml:)", done.stderr, flags=re.MULTILINE)
    return [message.strip() for message in found if f" {name}.wat: " in message]


@pytest.mark.parametrize("name", BAD)
def test_bad_modules_are_rejected(
    name: str,
    checked: subprocess.CompletedProcess[str],
    served: subprocess.CompletedProcess[str],
) -> None:
    """A line names the module and what is wrong with it; the exit status is 2."""
    for done in (checked, served):
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        found = messages(done, name)
        assert len(found) == 1, found
        assert re.match(r"error: modules\.toml:\d+: ", found[0])
        assert BAD[name][1] in found[0].partition(f" {name}.wat: ")[2]
        message, *excerpt = found[0].split("\n")
        assert f" {name}.wat: " in message
        assert [line.partition("|")[1] for line in excerpt] == ["|", "|"]


@pytest.mark.parametrize("name", GOOD)
def test_good_modules_are_accepted(name: str, checked: subprocess.CompletedProcess[str]) -> None:
    assert messages(checked, name) == []


def test_accepted_modules_run(tmp_path: Path) -> None:
    """Each is instantiated, prints nothing, and gets the usual error for empty output."""
    modules = wat_files(GOOD)
    with serving(tmp_path, manifest_of(modules), modules=modules) as server:
        for name in GOOD:
            assert server.get(f"/{name}").status == 500
            server.wait_for_log(rf"GET /{name}, .*answered 500: The handler printed nothing")
        assert " trap" not in server.log


# Grows the table $t in steps until that fails, puts a function into the last element, calls it,
# and prints the number of elements as 4 bytes.
GROWING = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) {tables} (table $t {initial} funcref) (elem declare func $mark)
  (data (i32.const 64) "Content-Type: application/octet-stream\\n\\n")
  (func $mark (i32.store (i32.const 128) (table.size $t)))
  (func (export "_start")
    (loop $more (br_if $more
      (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const {step})))))
    (table.set $t (i32.sub (table.size $t) (i32.const 1)) (ref.func $mark))
    (call_indirect $t (i32.sub (table.size $t) (i32.const 1)))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 40))
    (i32.store (i32.const 8) (i32.const 128)) (i32.store (i32.const 12) (i32.const 4))
    (drop (call $w (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 24)))))"""
# Initial elements, elements per step, other tables, memory limit, and final elements.
TABLES: dict[str, tuple[int, int, str, str, int]] = {
    "from-1-in-one-step": (1, LARGEST_TABLE - 1, "", "", LARGEST_TABLE),
    "from-0-in-steps": (0, 4096, "", "", LARGEST_TABLE),
    "from-30000-in-one-step": (30_000, LARGEST_TABLE - 30_000, "", "", LARGEST_TABLE),
    "from-4-million": (4_000_000, 1, "", "", LARGEST_TABLE),
    "one-step-too-far": (7, LARGEST_TABLE, "", "", 7),
    "beside-another": (1, 1, "(table 1 funcref)", "", LARGEST_TABLE // 2),
    "with-4-mib": (1, 1, "", "4MiB", 65_536),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    modules: dict[str, str | bytes] = {}
    entries = []
    for name, (initial, step, others, limit, _) in TABLES.items():
        modules[f"{name}.wat"] = GROWING.format(initial=initial, step=step, tables=others)
        entries.append(f'[[module]]\nroute = "/{name}"\nmodule = "{name}.wat"\n')
        entries.append(f'memory_limit = "{limit}"\n' if limit else "")
    with serving(
        tmp_path_factory.mktemp("tables"), "".join(entries), modules=modules
    ) as server:  # fmt: skip
        yield server


@pytest.mark.parametrize("name", TABLES)
def test_tables_grow_up_to_the_documented_limit(tables: Server, name: str) -> None:
    """An eighth of the memory limit at 8 bytes per element, shared by all tables."""
    response = tables.get(f"/{name}")
    assert response.status == 200, tables.log
    assert int.from_bytes(response.body, "little") == TABLES[name][-1]
