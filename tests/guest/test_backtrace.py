"""wasmtime's messages for traps are parsed into the cause and the frames of the stack."""

from __future__ import annotations

import pytest

from wagi.guest.backtrace import Frame, make_frame, own_frames_first, parse_trap
from wagi.guest.outcome import Trap

pytestmark = pytest.mark.fast

WITH_LINES = """error while executing at wasm backtrace:
    0:   0x3fef - abort
    1:   0x40aa - deep
                    at /src/trap.c:4:38
                - look
                    at /src/trap.c:5:225
    2:    0x1fc - _start
                    at /zig/lib/libc/wasi/libc-bottom-half/crt/crt1-command.c:47:13

Caused by:
    wasm trap: wasm `unreachable` instruction executed"""

WITHOUT_LINES = """error while executing at wasm backtrace:
    0:   0x5b10 - my.wasm!std[a88812da5ee6ad9e]::process::abort
    1:   0x23f6 - my.wasm!shop::look::hee13fa5d992b82b0
    2:    0x97c - <unknown>!<wasm function 74>
    3:    0x97d - my.wasm!__original_main
note: using the `WASMTIME_BACKTRACE_DETAILS=1` environment variable may show more

Caused by:
    0: memory fault at wasm address 0xfffffff0 in linear memory of size 0x1030000
    1: wasm trap: out of bounds memory access"""


def test_with_lines() -> None:
    """Functions that were inlined into others are frames of their own."""
    cause, frames = parse_trap(WITH_LINES)
    assert cause == "wasm `unreachable` instruction executed"
    assert [(frame.function, frame.place, frame.is_library) for frame in frames] == [
        ("abort", "", True),
        ("deep", "/src/trap.c:4:38", False),
        ("look", "/src/trap.c:5:225", False),
        ("_start", "/zig/lib/libc/wasi/libc-bottom-half/crt/crt1-command.c:47:13", True),
    ]


def test_without_lines() -> None:
    """The module's name, hashes of the compiler and wasmtime's note are removed."""
    cause, frames = parse_trap(WITHOUT_LINES)
    assert cause.startswith("out of bounds memory access (memory fault at wasm address 0xfffffff0")
    assert [(frame.function, frame.is_library) for frame in frames] == [
        ("std::process::abort", True),
        ("shop::look", False),
        ("wasm function 74", False),
        ("main", False),
    ]


def test_a_trap_without_a_backtrace() -> None:
    assert parse_trap("the host call failed") == ("the host call failed", ())
    assert parse_trap("") == ("unknown", ())
    assert Trap.parse("a\n\nCaused by:\n    b") == Trap("a (b)")


def test_names_of_guests_are_limited() -> None:
    """A module may have names of any length, with line ends and texts of wasmtime in them."""
    name = "x" * 100_000 + "\n\nCaused by:\n    wasm trap: forged"
    cause, frames = parse_trap(WITHOUT_LINES.replace("my.wasm!__original_main", name))
    assert cause.startswith("out of bounds memory access")
    assert max(len(frame.function) for frame in frames) < 400
    many = "".join(f"    {at}: 0x1 - f\n" for at in range(1000))
    assert (
        len(parse_trap(f"error while executing at wasm backtrace:\n{many}\n\nCaused by:\n a")[1])
        < 100
    )


@pytest.mark.parametrize(
    ("function", "place", "is_library"),
    [
        ("_start", "", True),
        ("main", "", False),
        ("abort_order", "", False),
        ("<alloc::vec::Vec<T> as core::ops::Index<I>>::index", "", True),
        ("<shop::Cart as core::ops::drop::Drop>::drop", "", False),
        ("core::ptr::drop_in_place", "/rustc/59807/library/core/src/ptr/mod.rs:1:2", True),
        ("serde_json::from_str", "/root/.cargo/registry/src/x/serde_json/src/de.rs:1:2", True),
        ("shop::main", "src/main.rs:1:2", False),
        ("runtime.gopanic", "", True),
        ("main.main", "", False),
        ("debug.defaultPanic", "", True),
        ("start.callMain", "/opt/zig/lib/std/start.zig:7:6", True),
        ("start.mine", "/home/me/start.zig:7:6", False),
        ("~lib/builtins/abort", "", True),
        ("assembly/index/look", "~lib/array.ts:1:2", True),
        ("std::__2::vector<int>::at", "", True),
        ("std_lib::mine", "", False),
    ],
)
def test_functions_of_libraries(function: str, place: str, is_library: bool) -> None:
    assert make_frame(function, place).is_library is is_library


def test_own_frames_come_first() -> None:
    library, own = Frame("abort", "", True), Frame("main", "", False)
    assert own_frames_first([library, own]) == ((own,), (library,))
    assert own_frames_first([library]) == ((library,), ())
    assert own_frames_first([]) == ((), ())
