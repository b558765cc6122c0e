"""The message with which a program ends is found in its stderr, in the formats of languages."""

from __future__ import annotations

import time

import pytest

from wagi.gateway.panics import find_panic

pytestmark = pytest.mark.fast

GO = """2026/11/29 starting
panic: open /data/x.txt: Bad file number

goroutine 1 [running]:
main.look(...)
\t/home/me/panic.go:3
net/http/cgi.Serve({0x1a, 0x2})
\t/usr/local/go/src/net/http/cgi/child.go:142 +0x5
example.com/shop/cart.Add(0x1)
\t/home/me/go/src/example.com/shop/cart/add.go:9 +0x5
main.main()
\t/home/me/panic.go:5 +0x10

goroutine 7 [sleep]:
main.other()
\t/home/me/panic.go:9 +0x10
"""

PYTHON = """Traceback (most recent call last):
  File "/app/handler.py", line 9, in main
    look()
  File "/lib/python3.14/json/__init__.py", line 346, in loads
    return _default_decoder.decode(s)
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/handler.py", line 12, in <module>
    main()
ValueError: no such item
"""


@pytest.mark.parametrize(
    ("stderr", "kind", "message"),
    [
        (
            "\nthread 'main' (1) panicked at src/main.rs:1:39:\nindex out of bounds: the len is 3"
            "\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
            "panic",
            "index out of bounds: the len is 3 (src/main.rs:1:39)",
        ),
        (
            "thread 'main' panicked at src/main.rs:1:39:\nassertion `left == right` failed\n"
            "  left: 1\n right: 2\nstack backtrace:\n   0: x\n",
            "panic",
            "assertion `left == right` failed left: 1 right: 2 (src/main.rs:1:39)",
        ),
        (
            "thread 'main' panicked at 'no', src/main.rs:3:5\nnote: run with\n",
            "panic",
            "no (src/main.rs:3:5)",
        ),
        ("panic: runtime error: index out\n", "panic", "runtime error: index out"),
        ("fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select]:\n",
         "fatal error", "all goroutines are asleep - deadlock!"),
        ("thread 1 panic: reached unreachable code\n", "panic", "reached unreachable code"),
        ("abort: no cart in assembly/index.ts(3:5)\n", "abort",
         "no cart (assembly/index.ts(3:5))"),
        ("Assertion failed: c == 7 (as.c: check: 2)\n", "assertion failed",
         "c == 7 (as.c: check: 2)"),
        ("libc++abi: terminating due to uncaught exception of type std::runtime_error: no\n",
         "uncaught exception", "std::runtime_error: no"),
        ("TypeError: not a function\n    at look (app.js:3:4)\n    at <eval> (app.js:9:1)\n",
         "exception", "TypeError: not a function"),
        ("lua: app.lua:3: no cart\nstack traceback:\n\t[C]: in function 'error'\n", "error",
         "app.lua:3: no cart"),
    ],
    ids=["rust", "rust-lines", "rust-old", "go", "go-fatal", "zig", "assemblyscript", "c", "c++",
         "javascript", "lua"],
)  # fmt: skip
def test_formats(stderr: str, kind: str, message: str) -> None:
    panic = find_panic(f"looking\n{stderr}")
    assert panic is not None
    assert (panic.kind, panic.message) == (kind, message)


@pytest.mark.parametrize(
    "stderr", ["", "looking for a panic: none\n", "it panicked at 3\n", "Error: x\n", "panic:x\n"]
)
def test_no_panic(stderr: str) -> None:
    assert find_panic(stderr) is None


def test_frames_of_go() -> None:
    """Those of the goroutine that panicked."""
    panic = find_panic(GO)
    assert panic is not None
    assert panic.message == "open /data/x.txt: Bad file number"
    assert [(frame.function, frame.place, frame.is_library) for frame in panic.frames] == [
        ("main.look", "/home/me/panic.go:3", False),
        ("net/http/cgi.Serve", "/usr/local/go/src/net/http/cgi/child.go:142", True),
        ("example.com/shop/cart.Add", "/home/me/go/src/example.com/shop/cart/add.go:9", False),
        ("main.main", "/home/me/panic.go:5", False),
    ]


def test_frames_of_python() -> None:
    """Those of the last exception, the innermost first."""
    panic = find_panic(PYTHON)
    assert panic is not None
    assert (panic.kind, panic.message) == ("exception", "ValueError: no such item")
    assert [str(frame) for frame in panic.frames] == ["<module>\n    at /app/handler.py:12"]
    panic = find_panic(PYTHON.partition("\nDuring")[0])
    assert panic is not None
    assert [(frame.place, frame.is_library) for frame in panic.frames] == [
        ("/lib/python3.14/json/__init__.py:346", True),
        ("/app/handler.py:9", False),
    ]


def test_frames_of_javascript_and_lua() -> None:
    panic = find_panic("Error: no\n    at look (app.js:3:4)\n    at app.js:9:1\n")
    assert panic is not None
    assert [str(frame) for frame in panic.frames] == [
        "look\n    at app.js:3:4",
        "(anonymous)\n    at app.js:9:1",
    ]
    panic = find_panic(
        "lua: app.lua:3: no\nstack traceback:\n\t[C]: in ?\n\tapp.lua:3: in function 'look'\n"
    )
    assert panic is not None
    assert [frame.place for frame in panic.frames] == ["app.lua:3"]


@pytest.mark.parametrize(
    "text",
    [
        "thread 'a' panicked at x:1:1:\n",
        "abort: a in b in ",
        "Assertion failed: (a: 1) (",
        "Traceback (most recent call last):\n  x\n",
        "panic: \n\tx:1",
        "Error: ErrorError\n    at ",
        "lua: x: ",
        "f(\n\tx:1:1:11111",
        "goroutine 1\n\n",
    ],
)
def test_no_text_takes_long(text: str) -> None:
    """stderr is written by guests, and searched on the event loop."""
    stderr = (text * (16 * 1024))[: 16 * 1024]
    started = time.process_time()
    find_panic(stderr)
    find_panic(f"panic: x\n\ngoroutine 1\n{stderr}")
    assert time.process_time() - started < 0.5
