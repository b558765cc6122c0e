"""Guests that call one WASI function in an endless loop, with small and with huge arguments.

``LOOPS`` covers every function of ``wasi_snapshot_preview1`` that can be called repeatedly. ``wat``
generates the module of a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.wat import quoted

MIB = 1024 * 1024

# Parameters of each function: I is an i32, L an i64. All but proc_exit return an errno.
SIGNATURES = {
    "args_get": "II",
    "args_sizes_get": "II",
    "clock_res_get": "II",
    "clock_time_get": "ILI",
    "environ_get": "II",
    "environ_sizes_get": "II",
    "fd_advise": "ILLI",
    "fd_allocate": "ILL",
    "fd_close": "I",
    "fd_datasync": "I",
    "fd_fdstat_get": "II",
    "fd_fdstat_set_flags": "II",
    "fd_fdstat_set_rights": "ILL",
    "fd_filestat_get": "II",
    "fd_filestat_set_size": "IL",
    "fd_filestat_set_times": "ILLI",
    "fd_pread": "IIILI",
    "fd_prestat_dir_name": "III",
    "fd_prestat_get": "II",
    "fd_pwrite": "IIILI",
    "fd_read": "IIII",
    "fd_readdir": "IIILI",
    "fd_renumber": "II",
    "fd_seek": "ILII",
    "fd_sync": "I",
    "fd_tell": "II",
    "fd_write": "IIII",
    "path_create_directory": "III",
    "path_filestat_get": "IIIII",
    "path_filestat_set_times": "IIIILLI",
    "path_link": "IIIIIII",
    "path_open": "IIIIILLII",
    "path_readlink": "IIIIII",
    "path_remove_directory": "III",
    "path_rename": "IIIIII",
    "path_symlink": "IIIII",
    "path_unlink_file": "III",
    "poll_oneoff": "IIII",
    "proc_raise": "I",
    "random_get": "II",
    "sched_yield": "",
    "sock_accept": "III",
    "sock_recv": "IIIIII",
    "sock_send": "IIIII",
    "sock_shutdown": "II",
}

# Addresses in the guest's memory.
RESULT = 64
NAMES = 1024
TABLE = MIB  # of buffers or subscriptions
EVENTS = 16 * MIB
BUFFER = 32 * MIB
PAGES = 3700  # of 64 KiB: less than the default memory limit
HUGE = 64 * MIB
RANDOM_BYTES = 200_000_000

STDIN, STDOUT, STDERR, VOLUME = 0, 1, 2, 3
FILE, DIRECTORY, SCRATCH = "(global.get $file)", "(global.get $directory)", "(global.get $scratch)"
"""Open descriptors: a file of 64 MiB, a directory of 5,000 files, and an empty file to write to."""
OPENED = f"(i32.load (i32.const {RESULT}))"
"""The result of the previous call."""
RIGHTS = (1 << 30) - 1
READING = RIGHTS & ~(1 << 6)
"""All rights except ``fd_write``, which directories cannot have."""
CREATE, OPEN_DIRECTORY, TRUNCATE = 1, 2, 8
_NAMES = ("big", "many", "scratch", "link", "one", "two", "made")

Argument = int | str
Call = tuple[str, Sequence[Argument]]


def name_of(name: str) -> tuple[int, int]:
    """Return the address and length (bytes) of a file name in the guest's memory."""
    return NAMES + 16 * _NAMES.index(name), len(name)


@dataclass(frozen=True)
class Loop:
    """A guest that repeats the same calls in an endless loop.

        Attributes:
    name: Name of the route and the module.
    calls: WASI functions with their arguments: numbers, or WAT.
            setup: WAT that runs once, before the calls.
    prints: Whether it writes to stdout, so that its response has begun before its timeout.
    variables: Number of environment variables, of 400 bytes each.
    may_trap: Whether wasmtime may trap such a guest, because its own limits are lower.
    """

    name: str
    calls: tuple[Call, ...]
    setup: str = ""
    prints: bool = False
    variables: int = 0
    may_trap: bool = False

    @property
    def functions(self) -> set[str]:
        return {function for function, _ in self.calls}


def buffers(count: int, length: int, address: int = BUFFER) -> str:
    """Return WAT that fills the table with buffers, all at the same address."""
    return (
        f"(call $buffers (i32.const {count}) (i32.const {address}) (i32.const {length}))"
    )  # fmt: skip


def subscriptions(count: int, kind: int, descriptor_or_clock: int, timeout: int = 0) -> str:
    """Return WAT that fills the table with subscriptions to a clock (0) or a descriptor (1, 2)."""
    return (
        f"(call $subscriptions (i32.const {count}) (i32.const {kind})"
        f" (i32.const {descriptor_or_clock}) (i64.const {timeout}))"
    )


def long_path(unit: str) -> str:
    """Return WAT that fills the buffer with a path: ``unit``, two characters, repeated."""
    value = int.from_bytes(unit.encode(), "little")
    return f"(call $repeat (i32.const {value}) (i32.const {HUGE}))"


def simple(function: str, *arguments: Argument, name: str = "", setup: str = "") -> Loop:
    """Make a loop of one call, named FUNCTION or FUNCTION.VARIANT."""
    return Loop(f"{function}.{name}" if name else function, ((function, arguments),), setup)


def open_call(name: str, flags: int = 0) -> Call:
    rights = READING if flags & OPEN_DIRECTORY else RIGHTS
    return "path_open", (VOLUME, 1, *name_of(name), flags, rights, rights, 0, RESULT)


def on_streams_and_files() -> list[Loop]:
    """Reads and writes: one small, one huge, many empty and many overlapping buffers."""
    shapes = {
        "small": buffers(1, 16),
        "64-MiB": buffers(1, HUGE),
        "1024-empty": buffers(1024, 0),
        "1100-small": buffers(1100, 16),
        "million-empty": buffers(1_000_000, 0),
        # More bytes in total than WASI's 32-bit results can express.
        "overlapping": buffers(1024, HUGE),
    }
    counts = {"small": 1, "64-MiB": 1, "1024-empty": 1024, "1100-small": 1100}
    counts |= {"million-empty": 1_000_000, "overlapping": 1024}
    loops = []
    for shape, setup in shapes.items():
        table = (TABLE, counts[shape])
        may_trap = shape == "overlapping"
        call: Call
        for stream, descriptor in (("stdout", STDOUT), ("stderr", STDERR)):
            call = ("fd_write", (descriptor, *table, RESULT))
            prints = stream == "stdout"
            loops.append(Loop(f"fd_write.{stream}.{shape}", (call,), setup, prints, 0, may_trap))
        loops.append(
            Loop(
                f"fd_write.file.{shape}",
                (("fd_seek", (SCRATCH, 0, 0, RESULT)), ("fd_write", (SCRATCH, *table, RESULT))),
                setup,
                may_trap=may_trap,
            )
        )
        call = ("fd_read", (STDIN, *table, RESULT))
        loops.append(Loop(f"fd_read.stdin.{shape}", (call,), setup, may_trap=may_trap))
        loops.append(
            Loop(
                f"fd_read.file.{shape}",
                (("fd_seek", (FILE, 0, 0, RESULT)), ("fd_read", (FILE, *table, RESULT))),
                setup,
                may_trap=may_trap,
            )
        )
        for function, file in (("fd_pread", FILE), ("fd_pwrite", SCRATCH)):
            call = (function, (file, *table, 0, RESULT))
            loops.append(Loop(f"{function}.{shape}", (call,), setup, may_trap=may_trap))
        if shape in ("1024-empty", "million-empty"):
            for function, rest in (("sock_recv", (0, RESULT, RESULT)), ("sock_send", (0, RESULT))):
                loops.append(Loop(f"{function}.{shape}", ((function, (0, *table, *rest)),), setup))
    return loops


def on_descriptors() -> list[Loop]:
    write = ("fd_pwrite", (SCRATCH, TABLE, 1, 0, RESULT))
    return [
        simple("fd_advise", FILE, 0, 4096, 0),
        simple("fd_advise", FILE, 0, 1 << 40, 3, name="huge"),
        simple("fd_allocate", SCRATCH, 0, 4096),
        simple("fd_allocate", SCRATCH, 0, 1 << 40, name="huge"),
        simple("fd_close", 9999, name="unknown"),
        Loop("fd_close.opened", (open_call("big"), ("fd_close", (OPENED,)))),
        Loop("fd_datasync", (write, ("fd_datasync", (SCRATCH,))), buffers(1, 4096)),
        Loop("fd_sync", (write, ("fd_sync", (SCRATCH,))), buffers(1, 4096)),
        Loop("fd_sync.64-MiB", (write, ("fd_sync", (SCRATCH,))), buffers(1, HUGE)),
        simple("fd_fdstat_get", FILE, RESULT),
        simple("fd_fdstat_get", STDIN, RESULT, name="stdin"),
        simple("fd_fdstat_set_flags", SCRATCH, 0),
        simple("fd_fdstat_set_rights", SCRATCH, RIGHTS, RIGHTS),
        simple("fd_filestat_get", FILE, RESULT),
        simple("fd_filestat_get", STDOUT, RESULT, name="stdout"),
        Loop(
            "fd_filestat_set_size",
            (("fd_filestat_set_size", (SCRATCH, 1 << 30)), ("fd_filestat_set_size", (SCRATCH, 0))),
        ),
        simple("fd_filestat_set_times", SCRATCH, 0, 0, 0b1010),
        simple("fd_prestat_get", VOLUME, RESULT),
        simple("fd_prestat_dir_name", VOLUME, BUFFER, 5),
        simple("fd_prestat_dir_name", VOLUME, BUFFER, HUGE, name="huge"),
        simple("fd_readdir", DIRECTORY, BUFFER, 4096, 0, RESULT),
        simple("fd_readdir", DIRECTORY, BUFFER, 24, 0, RESULT, name="24-bytes"),
        simple("fd_readdir", DIRECTORY, BUFFER, HUGE, 0, RESULT, name="64-MiB"),
        simple("fd_readdir", DIRECTORY, BUFFER, 4096, 4990, RESULT, name="last-entries"),
        simple("fd_readdir", VOLUME, BUFFER, 4096, 0, RESULT, name="volume"),
        Loop("fd_renumber", (open_call("big"), ("fd_renumber", (OPENED, SCRATCH)))),
        simple("fd_seek", FILE, 1 << 40, 0, RESULT),
        simple("fd_tell", FILE, RESULT),
        simple("sock_accept", VOLUME, 0, RESULT),
        simple("sock_shutdown", STDIN, 3),
    ]


def on_paths() -> list[Loop]:
    link, one, two, made = (name_of(name) for name in ("link", "one", "two", "made"))
    remove = ("path_unlink_file", (VOLUME, *one))
    loops = [
        Loop(
            "path_create_directory",
            (
                ("path_create_directory", (VOLUME, *made)),
                ("path_remove_directory", (VOLUME, *made)),
            ),
        ),
        simple("path_filestat_get", VOLUME, 1, *name_of("big"), RESULT),
        simple("path_filestat_set_times", VOLUME, 1, *name_of("scratch"), 0, 0, 0b1010),
        Loop(
            "path_link",
            (("path_link", (VOLUME, 0, *name_of("big"), VOLUME, *one)), remove),
        ),
        Loop("path_open", (open_call("big"),)),
        Loop("path_open.directory", (open_call("many", OPEN_DIRECTORY), ("fd_close", (OPENED,)))),
        Loop("path_open.created", (open_call("one", CREATE), ("fd_close", (OPENED,)), remove)),
        Loop("path_open.absent", (open_call("two"),)),
        simple("path_readlink", VOLUME, *link, BUFFER, 64, RESULT),
        simple("path_readlink", VOLUME, *link, BUFFER, HUGE, RESULT, name="64-MiB"),
        Loop(
            "path_rename",
            (
                ("path_rename", (VOLUME, *name_of("scratch"), VOLUME, *two)),
                ("path_rename", (VOLUME, *two, VOLUME, *name_of("scratch"))),
            ),
        ),
        Loop("path_symlink", (("path_symlink", (*link, VOLUME, *one)), remove)),
        simple("path_unlink_file", VOLUME, *two),
    ]
    path = (BUFFER, HUGE)
    huge: dict[str, tuple[Argument, ...]] = {
        "path_create_directory": (VOLUME, *path),
        "path_filestat_get": (VOLUME, 1, *path, RESULT),
        "path_filestat_set_times": (VOLUME, 1, *path, 0, 0, 0b1010),
        "path_link": (VOLUME, 0, *path, VOLUME, *path),
        "path_open": (VOLUME, 1, *path, 0, RIGHTS, RIGHTS, 0, RESULT),
        "path_readlink": (VOLUME, *path, BUFFER, 64, RESULT),
        "path_remove_directory": (VOLUME, *path),
        "path_rename": (VOLUME, *path, VOLUME, *path),
        "path_symlink": (*path, VOLUME, *path),
        "path_unlink_file": (VOLUME, *path),
    }
    for function, arguments in huge.items():
        setup = long_path("./")
        loops.append(Loop(f"{function}.64-MiB", ((function, arguments),), setup, may_trap=True))
    for name, unit in (("name", "xx"), ("slashes", "//"), ("nul", "\0\0"), ("utf-8", "é")):
        call = ("path_filestat_get", huge["path_filestat_get"])
        setup = long_path(unit)
        loops.append(Loop(f"path_filestat_get.64-MiB-{name}", (call,), setup, may_trap=True))
    return loops


def on_everything_else() -> list[Loop]:
    loops = [
        simple("args_get", RESULT, BUFFER),
        simple("args_sizes_get", RESULT, RESULT + 4),
        simple("environ_sizes_get", RESULT, RESULT + 4),
        Loop("environ_get", (("environ_get", (TABLE, BUFFER)),), variables=500),
        simple("clock_res_get", 1, RESULT),
        simple("clock_time_get", 1, 1, RESULT),
        simple("clock_time_get", 0, 0, RESULT, name="realtime"),
        simple("proc_raise", 6),
        simple("sched_yield"),
        simple("random_get", BUFFER, 1),
        simple("random_get", BUFFER, 10_000_000, name="10-MB"),
        simple("random_get", BUFFER, RANDOM_BYTES, name="200-MB"),
    ]
    kinds = {
        "expired": (0, 1, 0),
        "realtime": (0, 0, 0),
        "unknown-clock": (0, 77, 0),
        "readable": (1, STDIN, 0),
        "writable": (2, STDOUT, 0),
        "unknown-descriptor": (1, 9999, 0),
    }
    for name, (kind, target, timeout) in kinds.items():
        for count in (1, 1024, 100_000):
            setup = subscriptions(count, kind, target, timeout)
            call = ("poll_oneoff", (TABLE, EVENTS, count, RESULT))
            may_trap = count > 1024
            loops.append(Loop(f"poll_oneoff.{count}-{name}", (call,), setup, may_trap=may_trap))
    for name, nanoseconds in (("1-ms", 1_000_000), ("1-hour", 3_600_000_000_000)):
        setup = subscriptions(1024, 0, 1, nanoseconds)
        loops.append(
            simple("poll_oneoff", TABLE, EVENTS, 1024, RESULT, name=f"1024-of-{name}", setup=setup)
        )
    return loops


LOOPS = {
    loop.name: loop
    for loop in (
        *on_streams_and_files(),
        *on_descriptors(),
        *on_paths(),
        *on_everything_else(),
    )
}


def volume(folder: Path) -> None:
    """Create the files that the loops use."""
    many = folder / "many"
    many.mkdir(parents=True)
    for number in range(5000):
        (many / f"file-{number:04}").touch()
    with (folder / "big").open("wb") as file:
        file.truncate(HUGE)
    (folder / "link").symlink_to("big")


def _opening() -> str:
    """Return WAT that opens the files of the loops, and traps on failure."""
    code = []
    for variable, name, flags in (
        ("file", "big", 0),
        ("directory", "many", OPEN_DIRECTORY),
        ("scratch", "scratch", CREATE | TRUNCATE),
    ):
        code.append(f"(if {_wat_call(*open_call(name, flags))} (then unreachable))")
        code.append(f"(global.set ${variable} {OPENED})")
    return "".join(code)


# The helpers that fill the guest's memory before the calls begin.
_HELPERS = f"""
  (func $buffers (param $count i32) (param $address i32) (param $length i32) (local $at i32)
    (local.set $at (i32.const {TABLE}))
    (loop $next
      (i32.store (local.get $at) (local.get $address))
      (i32.store offset=4 (local.get $at) (local.get $length))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count))))
  (func $subscriptions
    (param $count i32) (param $kind i32) (param $target i32) (param $timeout i64) (local $at i32)
    (local.set $at (i32.const {TABLE}))
    (loop $next
      (i64.store (local.get $at) (i64.extend_i32_u (local.get $count)))
      (i32.store offset=8 (local.get $at) (local.get $kind))
      (i32.store offset=16 (local.get $at) (local.get $target))
      (i64.store offset=24 (local.get $at) (local.get $timeout))
      (local.set $at (i32.add (local.get $at) (i32.const 48)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count))))
  (func $repeat (param $unit i32) (param $length i32) (local $done i32)
    (i32.store16 (i32.const {BUFFER}) (local.get $unit))
    (local.set $done (i32.const 2))
    (loop $double
      (memory.copy (i32.add (i32.const {BUFFER}) (local.get $done)) (i32.const {BUFFER})
        (local.get $done))
      (local.set $done (i32.mul (local.get $done) (i32.const 2)))
      (br_if $double (i32.lt_u (local.get $done) (local.get $length)))))
  (func $print (param $fd i32) (param $from i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $from)) (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
"""
_HEAD, _READY = b"Content-Type: text/plain\n\n", b"ready\n"
_HEAD_AT, _READY_AT = 2048, 3072


def _constant(argument: Argument, letter: str) -> str:
    if isinstance(argument, str):
        return argument
    return f"({'i64' if letter == 'L' else 'i32'}.const {argument})"


def _wat_call(function: str, arguments: Sequence[Argument]) -> str:
    return f"(call ${function} {' '.join(map(_constant, arguments, SIGNATURES[function]))})"


def wat(loop: Loop) -> str:
    """Generate the module of a loop. It writes a line to stderr after its setup."""
    imports = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} '
        f"(param {' '.join('i64' if p == 'L' else 'i32' for p in SIGNATURES[name])})"
        f" (result i32)))"
        for name in sorted({*loop.functions, "fd_write", "path_open"})
    )
    names = "".join(
        f"(data (i32.const {name_of(name)[0]}) {quoted(name.encode())})" for name in _NAMES
    )
    calls = "".join(f"(drop {_wat_call(*call)})" for call in loop.calls)
    head = f"(call $print (i32.const 1) (i32.const {_HEAD_AT}) (i32.const {len(_HEAD)}))"
    return f"""(module {imports}
      (memory (export "memory") {PAGES}) {names}
      (data (i32.const {_HEAD_AT}) {quoted(_HEAD)}) (data (i32.const {_READY_AT}) {quoted(_READY)})
      (global $file (mut i32) (i32.const 0)) (global $directory (mut i32) (i32.const 0))
      (global $scratch (mut i32) (i32.const 0)) {_HELPERS}
      (func (export "_start") {_opening()} {loop.setup}
        (call $print (i32.const 2) (i32.const {_READY_AT}) (i32.const {len(_READY)}))
        {head if loop.prints else ""}
        (loop $again {calls} (br $again))))"""
