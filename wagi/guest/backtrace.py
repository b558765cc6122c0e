"""Parse wasmtime's message for a trap into its cause and the frames of the guest's stack. Pure.

wasmtime's C API gives the source lines of frames only in its message::

    error while executing at wasm backtrace:
        0:   0x40aa - deep
                        at /src/trap.c:4:38
                    - look
                        at /src/trap.c:5:225
        1:    0x1fc - trap.wasm!_start

    Caused by:
        wasm trap: wasm `unreachable` instruction executed

The second function of a number is the one into which the first was inlined. Names and paths are
chosen by the guest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_DETAILS = "WASMTIME_BACKTRACE_DETAILS"
_MAX_FRAMES = 64
_MAX_TEXT = 300  # characters of a name or a path
_MAX_CAUSE = 1000  # characters
_BACKTRACE = "error while executing at wasm backtrace:\n"
_CAUSE = "\n\nCaused by:\n"
_FUNCTION = re.compile(r" *(?:\d+: +0x[0-9a-f]+ )?- (.*)")
_PLACE = re.compile(r" +at (.*?)((?::\d+){0,2})")
_CAUSE_NUMBER = re.compile(r"\d+: ")
_MODULE_NAME = re.compile(r"(?:<unknown>|[^!<>(),]*)!")
_NO_NAME = re.compile(r"<(wasm function \d+)>")
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}\Z|\[[0-9a-f]{5,16}\]")

_MAIN = frozenset(("__original_main", "__main_argc_argv"))
"""What C compilers call ``main``."""
_LIBRARY_FUNCTION = re.compile(
    r"""
    (?: _start | _initialize | _?abort | _?exit | _Exit | __main_void
      | __assert_fail | __wasm_call_ctors | undefined_weak:.* | .*\.command_export
      | (?:dl)?(?:malloc|free|calloc|realloc) | mem(?:cpy|move|set|cmp) | strlen
      )\Z                                                                       # C
    | <*&?(?:dyn\ |mut\ )*(?:std|core|alloc|hashbrown|dlmalloc)::
    | __rustc:: | (?:__)?rust_ | compiler_builtins:: | panic_abort::            # Rust
    | (?:\(?\*?(?:runtime|internal|syscall|reflect)[./]) | wasm_pc_f_loop | _rt0_   # Go
    | (?:builtin|debug|start|posix|std)\. | process\.(?:abort|exit)\Z           # Zig
    | ~lib/                                                                     # AssemblyScript
    | __cxa_ | __cxxabiv1:: | std::__ | operator\ (?:new|delete)                # C++
    """,
    re.VERBOSE,
)
_LIBRARY_PATH = re.compile(
    r"/rustc/|/rustlib/src/|/\.cargo/|wasi-libc|wasi-sdk|wasisdk:|libc-(?:top|bottom)-half"
    r"|/ziglang/lib/|/zig[^/]*/lib/|/lib/std/|compiler-rt|libcxx|(?:^|/)~lib/"
    r"|/src/(?:runtime|internal|syscall)/|/golang\.org/toolchain@|/go/pkg/mod/"
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A function on the stack of a guest.

    Attributes:
        function: Its name, or a number if the module has no names.
        place: ``file:line:column``; empty if the module has no debug information, or if it is not
            used (``enable_lines``).
        is_library: Whether it belongs to a runtime, a standard library or a dependency, and not
            to the source of the handler.
    """

    function: str
    place: str
    is_library: bool

    def __str__(self) -> str:
        return f"{self.function}\n    at {self.place}" if self.place else self.function


def make_frame(function: str, place: str, is_library: bool | None = None) -> Frame:
    """Make a frame with a name and a place that are short enough for a log.

    Args:
        function: The name.
        place: ``file:line:column``, or an empty string.
        is_library: None to decide by the place, or else by the name.
    """
    if is_library is None:
        pattern, text = (_LIBRARY_PATH, place) if place else (_LIBRARY_FUNCTION, function)
        is_library = bool(pattern.search(text) if place else pattern.match(text))
    return Frame(_shorten(function), _shorten(place), is_library)


def parse_trap(message: str) -> tuple[str, tuple[Frame, ...]]:
    """Parse wasmtime's message.

    Returns:
        The cause, in one line, and the frames, the innermost first.
    """
    if not message.startswith(_BACKTRACE):
        return _join(message.splitlines()), ()
    backtrace, _, cause = message.removeprefix(_BACKTRACE).rpartition(_CAUSE)
    return _join(reversed(cause.splitlines())), tuple(_frames(backtrace.splitlines()))


def own_frames_first(frames: Iterable[Frame]) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Divide frames into those of the handler and those of libraries.

    Without any of the handler, all frames are returned as its own: the division has failed.
    """
    frames = tuple(frames)
    own = tuple(frame for frame in frames if not frame.is_library)
    if not own:
        return frames, ()
    return own, tuple(frame for frame in frames if frame.is_library)


def enable_lines() -> None:
    """Compile modules with source lines from now on, for backtraces.

    This is wasmtime's own switch, which engines read when they are created.
    """
    os.environ[_DETAILS] = "1"


def lines_are_enabled() -> bool:
    """Whether modules are compiled with source lines."""
    return os.environ.get(_DETAILS) == "1"


def _frames(lines: Iterable[str]) -> Iterator[Frame]:
    function, place, count = "", "", 0
    for line in lines:
        if found := _FUNCTION.fullmatch(line):
            if function:
                yield make_frame(function, place)
                count += 1
                if count == _MAX_FRAMES:
                    return
            function, place = _clean(found[1]), ""
        elif function and (found := _PLACE.fullmatch(line)):
            place = found[1] + found[2]
    if function:
        yield make_frame(function, place)


def _clean(name: str) -> str:
    """Remove what only compilers need from the name of a function."""
    if found := _MODULE_NAME.match(name):
        name = name[found.end() :]
    name = "main" if name in _MAIN else _NO_NAME.sub(r"\1", name)
    return _RUST_HASH.sub("", name)


def _join(lines: Iterable[str]) -> str:
    """Join the lines of a message in one: the outermost cause, then the others in parentheses."""
    causes = [_CAUSE_NUMBER.sub("", line.strip(), count=1) for line in lines if line.strip()]
    causes = [cause.removeprefix("wasm trap: ") for cause in causes if cause != "Caused by:"]
    first, *others = causes or ["unknown"]
    return (f"{first} ({'; '.join(others)})" if others else first)[:_MAX_CAUSE]


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
