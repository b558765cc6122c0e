"""Components that were made to exhaust or to confuse the reader."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.components import COMMAND, component
from tests.support.server import manifest_of, run_wagi, serving, write_files
from tests.support.wat import HELLO
from wagi.guest.binary import leb

HEADER = b"\0asm\x0d\0\x01\0"
CORE_HEADER = b"\0asm\x01\0\0\0"


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + leb(len(content)) + content


def nested(levels: int, copies: int) -> bytes:
    """Return components in each other, each of which instantiates the next one several times."""
    content = HEADER
    for _ in range(levels):
        instances = leb(copies) + b"\0\0\0" * copies
        content = HEADER + section(4, content) + section(5, instances)
    return content


def with_core_module(*sections: bytes) -> bytes:
    """Return the sample of a command with one more core module and an instance of it."""
    module = CORE_HEADER + b"".join(sections)
    added = section(1, module) + section(2, b"\x01\0\x04\0")  # it has four modules of its own
    return component(COMMAND) + added


def names(count: int) -> bytes:
    """Return the exports of a core module: functions with different names."""
    items = (leb(5) + b"%05d" % number + b"\0\0" for number in range(count))
    return leb(count) + b"".join(items)


COMPONENTS = {
    "types in 100,000 levels": (
        HEADER + section(7, b"\x01" + b"\x42\x01\x01" * 100_000 + b"\x42\0"),
        "nested in more than 64 levels",
    ),
    "components in 1,000 levels": (nested(1000, 1), "nested in more than 64 levels"),
    "2 ** 40 instances": (nested(40, 2), "more than 100000 imports, exports"),
    "100 ** 5 instances": (nested(5, 100), "more than 100000 imports, exports"),
    "4 billion instances": (HEADER + section(5, b"\xff\xff\xff\xff\x0f"), "unexpected end"),
    "a million types": (
        HEADER + section(7, leb(10**6) + b"\x7f" * 10**6),
        "more than 100000 imports, exports",
    ),
    "a million sections": (HEADER + b"\x07\x01\0" * 10**6, "more than 100000 imports, exports"),
    "a long name for each of many instances": (
        HEADER
        + section(4, HEADER + section(0, leb(10**6) + b"a" * 10**6))
        + section(5, leb(50_000) + b"\0\0\0" * 50_000),
        "more than 100000 imports, exports",
    ),
    "200,000 exports of a core module": (
        with_core_module(section(7, names(200_000))),
        "more than 100000 imports, exports",
    ),
    "a number without an end": (HEADER + b"\x07" + b"\x80" * 10**6, "too many bytes"),
    "a section beyond the file": (HEADER + b"\x07\xff\xff\xff\x7f", "truncated"),
    "a core module beyond its section": (
        HEADER + section(1, CORE_HEADER + b"\x01\x7f") + component(COMMAND)[8:],
        "truncated",
    ),
    "the same export twice": (
        with_core_module(section(7, b"\x02" + b"\x01a\0\0" * 2)),
        "a core module exports 'a' twice",
    ),
    "control characters in names": (
        HEADER + section(10, b"\x01\0\x05\x1b[2J\n\x05\x00"),
        "imports",
    ),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_hostile_components_are_rejected(tmp_path: Path, name: str) -> None:
    """In seconds, with one message."""
    content, message = COMPONENTS[name]
    write_files(tmp_path, {"m.wasm": content, "modules.toml": manifest_of({"m.wasm": ""})})
    for command in ("check", "inspect"):
        arguments = ["m.wasm"] if command == "inspect" else []
        done = run_wagi(tmp_path, command, *arguments)
        assert done.returncode in ((2,) if command == "check" else (0, 1)), done
        assert message in done.stdout + done.stderr, done
        assert "\x1b" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_neighbors_of_a_hostile_component_are_served(tmp_path: Path) -> None:
    """A reload with such a component fails, and the previous routes stay."""
    modules: dict[str, str | bytes] = {"hello.wat": HELLO, "m.wasm": component(COMMAND)}
    with serving(tmp_path, manifest_of(modules), modules=modules) as server:
        assert server.get("/m").text == "hello from a component\n"
        write_files(tmp_path, {"m.wasm": nested(40, 2)})
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("more than 100000 imports, exports")
        assert server.get("/hello").text == "hello\n"
        assert server.get("/m").text == "hello from a component\n"
