"""Module logs: what handlers write to stderr."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.waiting import wait_until
from wagi.observe.module_log import LINE_LIMIT, MAX_LINES, ModuleLogs, Stderr
from wagi.observe.text import one_line, paragraph
from wagi.observe.writer import Output, Writer, to_descriptor

pytestmark = pytest.mark.fast


def written(folder: Path, pieces: list[bytes], limit: int | None = None) -> bytes:
    logs = ModuleLogs(folder, 1024**3)
    log = logs.of("/", "a.wasm")
    assert log.path is not None
    log.path.unlink(missing_ok=True)
    stderr = Stderr(log, "id", limit)
    for piece in pieces:
        stderr.write(piece)
    stderr.close()
    logs.close()
    return log.path.read_bytes() if log.path.exists() else b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"x" * 5000, b"y" * 20_000]), max_size=8),
    st.sampled_from([None, 10, 9000]),
)
def test_write_boundaries_do_not_matter(
    tmp_path: Path, pieces: list[bytes], limit: int | None
) -> None:
    whole = written(tmp_path, [b"".join(pieces)], limit)
    assert written(tmp_path, pieces, limit) == whole
    assert all(len(line) <= LINE_LIMIT for line in whole.split(b"\n"))
    assert whole == b"" or whole.endswith(b"\n")


def test_excess_stderr_is_dropped_and_counted(tmp_path: Path) -> None:
    """Both by size and by number of lines."""
    lines = written(tmp_path, [b"1234567\n"] * 10, limit=16).splitlines()
    assert lines[:2] == [b"1234567"] * 2
    assert lines[2:] == [b"[dropped 64 more bytes of stderr: see stderr_limit]"]
    lines = written(tmp_path, [b"\n" * 60_000] * 5).splitlines()
    assert len(lines) == MAX_LINES + 1
    assert lines[-1].startswith(b"[dropped 290000 more bytes")


def test_a_full_log_is_rotated(tmp_path: Path) -> None:
    logs = ModuleLogs(tmp_path, 1024)
    log = logs.of("/", "a.wasm")
    assert log.path is not None
    path, rotated = log.path, log.path.with_name("module.stderr.1")
    for number in range(40):
        log.append([b"%d" % number * 50], "id")
        wait_until(lambda: rotated.exists() or path.exists(), seconds=10)
        time.sleep(0.01)  # one write per line
    logs.close()
    current = path.stat().st_size if path.exists() else 0
    assert current < 1024
    assert 1024 <= rotated.stat().st_size < 3 * 1024


def test_an_unwritable_log_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    logs = ModuleLogs(tmp_path / "file", 1024**3)
    stderr = Stderr(logs.of("/", "a.wasm"), "id", None)
    with caplog.at_level(logging.INFO, "wagi"):
        for _ in range(5):
            stderr.write(b"one\n")
            time.sleep(0.02)
        logs.close()
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "dropping records: Not a directory (1 so far)" in errors[0]
    assert "dropped 5 records in total" in errors[1]


def test_a_blocked_writer_does_not_block_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """The other end of the pipe is open but never read."""
    reading, writing = os.pipe()
    writer = Writer()
    output: Output[bytes] = Output("pipe", to_descriptor(writing), b"".join)
    try:
        began = time.monotonic()
        for _ in range(200):
            writer.enqueue(output, b"x" * 100_000, 100_000)
        writer.close(0.1)
        assert time.monotonic() - began < 5
        assert "the writer cannot keep up" in caplog.text
    finally:
        os.close(reading)
        writer.close(10)
        os.close(writing)


def test_control_characters_are_escaped() -> None:
    assert one_line("a\nb\x1b[0m\u2028\udc80é\t") == "a\\x0ab\\x1b[0m\\x2028\\xdc80é\t"
    assert paragraph("a\nb\x1b\n") == "a\n    b\\x1b"
