"""Find the message with which a program ended in what it wrote to stderr. Pure.

The formats are those of the languages' standard libraries. Where a program printed a stack trace,
its frames are read as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from wagi.guest.backtrace import Frame, make_frame

_MAX_MESSAGE = 1000  # characters
_MAX_FRAMES = 32


@dataclass(frozen=True, slots=True)
class Panic:
    """The message with which a program ended.

    Attributes:
        kind: What it is in the language of the program, such as ``panic``.
        message: The message, in one line.
        frames: The functions that were running, the innermost first, if the program printed them.
    """

    kind: str
    message: str
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class _Format:
    """How the runtime of a language reports the end of a program.

    Attributes:
        kind: As of ``Panic``.
        pattern: Matches the report; its groups are ``message``, and maybe ``place``.
        frames: Finds the frames in the text after the match.
    """

    kind: str
    pattern: re.Pattern[str]
    frames: Callable[[str], Iterator[Frame]] = lambda text: iter(())


def find_panic(stderr: str) -> Panic | None:
    """Find the last message with which a program reports that it ends.

    Args:
        stderr: The end of what it wrote to stderr.

    Returns:
        None if it reports no such end.
    """
    found = [
        (match.start(), -index, kind, match)
        for index, kind in enumerate(_FORMATS)
        for match in kind.pattern.finditer(stderr)
    ]
    if not found:
        return None
    *_, kind, match = max(found, key=lambda item: item[:2])
    groups = match.groupdict()
    message = " ".join(_MESSAGE_END.split(groups["message"])[0].split())[:_MAX_MESSAGE]
    place = groups.get("place") or ""
    frames = tuple(kind.frames(stderr[match.end() :]))[:_MAX_FRAMES]
    return Panic(kind.kind, f"{message} ({place})" if place else message, frames)


_MESSAGE_END = re.compile(r"\nnote: |\nstack backtrace:|\nthread '|\n\n")
_GO_FRAME = re.compile(
    r"^(\S.*?)(?:\([^()\n]*\))?\n\t(\S.*?:\d+)(?: \+0x[0-9a-f]+)?$", re.MULTILINE
)
_GO_LIBRARY = re.compile(r"/go[^/]*/src/|/golang\.org/toolchain@|/lib/go|/pkg/mod/")
_PYTHON_FRAME = re.compile(r'^  File "(.*?)", line (\d+), in (.*)$', re.MULTILINE)
_PYTHON_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python[\d.]*/|^<frozen |\.zip/")
_JS_FRAME = re.compile(r"^    at (?:(\S+) \((.+?)\)|(\S+))$", re.MULTILINE)
_LUA_FRAME = re.compile(r"^\t(\S+:\d+): in (.+)$", re.MULTILINE)


def _go_frames(text: str) -> Iterator[Frame]:
    first = text.split("\n\ngoroutine ", 2)[1:2]  # the goroutine that panicked
    for function, place in _GO_FRAME.findall("".join(first)):
        # Only the paths of packages of the standard library have no host name.
        root = function.partition("/")[0]
        is_library = bool(_GO_LIBRARY.search(place)) and (
            "/pkg/mod/" in place or "." not in root or root.startswith(("runtime.", "panic"))
        )
        is_library = is_library and not function.startswith("main.")
        yield make_frame(function, place, is_library)


def _python_frames(text: str) -> Iterator[Frame]:
    for path, line, function in reversed(_PYTHON_FRAME.findall(text)):
        yield make_frame(function, f"{path}:{line}", bool(_PYTHON_LIBRARY.search(path)))


def _js_frames(text: str) -> Iterator[Frame]:
    for function, place, alone in _JS_FRAME.findall(text):
        yield make_frame(function or "(anonymous)", place or alone, "native" in (place, alone))


def _lua_frames(text: str) -> Iterator[Frame]:
    for place, function in _LUA_FRAME.findall(text):
        yield make_frame(function, place, is_library=False)


_FORMATS = (
    # Rust: since 1.73 the message is in the next lines; a note follows.
    _Format(
        "panic",
        re.compile(
            r"^thread '[^'\n]*'(?: \(\d+\))? panicked at (?P<place>\S.*?:\d+:\d+):\n"
            r"(?P<message>[\s\S]{0,1000})",
            re.MULTILINE,
        ),
    ),
    _Format(
        "panic",
        re.compile(
            r"^thread '[^'\n]*' panicked at '(?P<message>.*)', (?P<place>\S+:\d+:\d+)$",
            re.MULTILINE,
        ),
    ),
    # Go and TinyGo, and Zig with the number of a thread.
    _Format(
        "panic",
        re.compile(r"^(?:thread \d+ )?panic: (?P<message>.*(?:\n\t.*)*)", re.MULTILINE),
        _go_frames,
    ),
    _Format(
        "fatal error",
        re.compile(r"^fatal error: (?P<message>.*)", re.MULTILINE),
        _go_frames,
    ),
    # AssemblyScript
    _Format(
        "abort",
        re.compile(
            r"^abort: (?P<message>.*) in (?P<place>\S+?\(\d+:\d+\))$",
            re.MULTILINE,
        ),
    ),
    # C and C++
    _Format(
        "assertion failed",
        re.compile(
            r"^Assertion failed: (?P<message>.*) \((?P<place>[^()\n]*: \d+)\)$",
            re.MULTILINE,
        ),
    ),
    _Format(
        "uncaught exception",
        re.compile(
            r"^libc\+\+abi: terminating due to uncaught exception of type (?P<message>.*)",
            re.MULTILINE,
        ),
    ),
    # Python
    _Format(
        "exception",
        re.compile(
            r"^Traceback \(most recent call last\):\n(?=(?:[ \t].*\n)*(?P<message>\S.*))",
            re.MULTILINE,
        ),
        _python_frames,
    ),
    # JavaScript, as QuickJS prints it
    _Format(
        "exception",
        re.compile(r"^(?P<message>(?:Uncaught )?\w*Error(?:: .*)?)(?=\n    at )", re.MULTILINE),
        _js_frames,
    ),
    # Lua
    _Format(
        "error",
        re.compile(r"^lua[^:\n]*: (?P<message>.*)(?=\nstack traceback:)", re.MULTILINE),
        _lua_frames,
    ),
)
