"""Access log: the format of its lines, and no line is lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wagi.observe.access_log import (
    AccessLog,
    Details,
    Entry,
    format_json,
    format_short,
    format_text,
)
from wagi.observe.exchange import Exchange
from wagi.observe.json_lines import replace_unsafe
from wagi.observe.text import one_line
from wagi.observe.writer import _pieces

SPECIAL = '"\\\n\r\t\0\x1b\x7f\x85\xa0é\u2028\u2029\udc80\U0001f600 ~!'
texts = st.text(
    st.one_of(st.characters(codec="ascii"), st.sampled_from(SPECIAL), st.characters()), max_size=8
)
clients = st.sampled_from(["", "127.0.0.1", "2001:db8::1"])
times = st.floats(0, 4e9)
durations = st.one_of(st.just(0.0), st.floats(0, 1e6), st.floats(0, 1e-5))
ids = st.from_regex(r"[0-9a-f]{12}-[0-9]{1,9}", fullmatch=True)
entries = st.tuples(
    clients, times, texts, texts, texts, st.integers(0, 999), st.integers(0, 2**50),
    texts, texts, texts, durations, durations, ids,
)  # fmt: skip


class Span:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    span_id = "b7ad6b7169203331"


details = st.tuples(
    texts, st.sampled_from(["", "completed", "trap"]), durations, st.integers(0, 2**32),
    st.sampled_from([None, Span()]),
)  # fmt: skip
PLAIN = (
    "127.0.0.1", 1.5, "GET", "/hello?a=b", "HTTP/1.1", 200, 6,
    "http://localhost/", "Mozilla/5.0 (X11; Linux x86_64)", "/hello", 0.25, 0.125, "0123456789ab-1",
)  # fmt: skip


def quoted(text: str) -> str:
    return one_line(text.replace("\\", "\\\\")).replace('"', '\\"')


@pytest.mark.fast
@given(entries)
@example(PLAIN)
def test_text_format(entry: Entry) -> None:
    """Fields are escaped; the fast path for plain fields writes the same line."""
    (
        client, received, method, target, protocol, status, sent,
        referer, user_agent, route, seconds, cpu_seconds, request_id,
    ) = entry  # fmt: skip
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(received))
    assert format_text(entry) == (
        f"{client or '-'} - - [{when}]"
        f' "{quoted(f"{method} {target} {protocol}")}" {status} {sent}'
        f' "{quoted(referer) or "-"}" "{quoted(user_agent) or "-"}"'
        f' route="{quoted(route)}" ms={seconds * 1000:.3f}'
        f" cpu_ms={cpu_seconds * 1000:.3f} id={request_id}\n"
    )


@pytest.mark.fast
@given(st.sampled_from([2, 3, 4, 7, 8, 9]), st.text(st.sampled_from(SPECIAL)))
def test_client_input_cannot_break_out_of_a_field_or_line(field: int, text: str) -> None:
    values = list(PLAIN)
    values[field] = text
    line = format_text(tuple(values))  # type: ignore[arg-type]
    string = r'"(?:[^"\\]|\\.)*"'
    pattern = rf"127\S+ - - \[[^]]*\] {string} 200 6 {string} {string} route={string} ms=\S+"
    assert re.fullmatch(rf"{pattern} cpu_ms=\S+ id=\S+\n", line)
    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", line)


@pytest.mark.fast
@given(entries, st.booleans())
@example((*PLAIN[:3], "/long" * 20, *PLAIN[4:]), True)
@example((*PLAIN[:2], "G\tT", "/\t", *PLAIN[4:]), True)
def test_the_line_for_a_terminal_has_80_columns(entry: Entry, has_color: bool) -> None:
    line = format_short(entry, has_color)
    plain = re.sub(r"\x1b\[\d+m", "", line)
    assert line.endswith(" ms\n")
    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", plain)
    if entry[10] < 1e6:
        assert len(plain) <= 80 + len("\n")


@pytest.mark.fast
@given(entries, details)
@example(PLAIN, ("hello.wasm", "completed", 0.0, 65536, None))
@example((*PLAIN[:3], "/\udcff\x7f", *PLAIN[4:]), ("", "", 0.0, 0, Span()))
def test_json_format(entry: Entry, details: Details) -> None:
    """Byte for byte what the standard library's json module writes."""
    (
        client, received, method, target, protocol, status, sent,
        referer, user_agent, route, seconds, cpu_seconds, request_id,
    ) = entry  # fmt: skip
    module, outcome, queue_seconds, memory, span = details
    fields: dict[str, object] = {
        "time": round(received, 3),
        "level": "info",
        "logger": "wagi.access",
        "message": f"{method} {target} {status}",
        "client": client,
        "method": method,
        "target": target,
        "protocol": protocol,
        "status": status,
        "bytes": sent,
        "referer": referer,
        "user_agent": user_agent,
        "route": route,
        "module": module,
        "ms": round(seconds * 1000, 3),
        "cpu_ms": round(cpu_seconds * 1000, 3),
        "queue_ms": round(queue_seconds * 1000, 3),
        "outcome": outcome,
        "memory_bytes": memory,
        "id": request_id,
    }
    if span is not None:
        fields |= {"trace_id": span.trace_id, "span_id": span.span_id}
    safe = {
        name: replace_unsafe(value) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    assert format_json((entry, details)) == json.dumps(safe) + "\n"


def record_many(log: AccessLog, count: int, prefix: str = "id") -> None:
    for number in range(count):
        log(Exchange(f"{prefix}-{number}", "GET", "/", "HTTP/1.1", "127.0.0.1", {}))


@pytest.mark.parametrize("kind", ["text", "json"])
def test_lines_are_written_in_order(tmp_path: Path, kind: str) -> None:
    """More lines than fit in one batch, and the log is closed immediately."""
    with (tmp_path / "log").open("w") as stream:
        log = AccessLog(kind, stream)
        record_many(log, 2000)
        log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [int(found) for found in re.findall(r"id-(\d+)", "\n".join(lines))] == [*range(2000)]
    assert len(lines) == 2000


def test_a_line_after_a_pause_wakes_the_writer_thread(tmp_path: Path) -> None:
    """Each line appears without waiting for another one or for the log to close."""
    with (tmp_path / "log").open("w") as stream:
        log = AccessLog("text", stream)
        for number in range(30):
            record_many(log, 1)
            deadline = time.monotonic() + 10
            while (tmp_path / "log").read_bytes().count(b"\n") <= number:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        log.close()


def test_several_threads_lose_no_lines(tmp_path: Path) -> None:
    """No line is lost while the writer thread goes to sleep and wakes up."""
    with (tmp_path / "log").open("w") as stream:
        log = AccessLog("text", stream)

        def run(name: str) -> None:
            for number in range(40):
                record_many(log, 10, f"{name}{number}")
                time.sleep(0.001 * (number % 8))

        threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.close()
    written = re.findall(r" id=(\S+)$", (tmp_path / "log").read_text(), re.MULTILINE)
    assert len(written) == len(set(written)) == 1200


def test_a_slow_reader_loses_no_lines(caplog: pytest.LogCaptureFixture) -> None:
    """20,000 lines are buffered, what a busy worker logs in a second."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        log = AccessLog("text", stream)
        record_many(log, 20_000)
        closing = threading.Thread(target=log._writer.close, args=(60,))
        closing.start()
        data = b""
        while data.count(b"\n") < 20_000 and (piece := os.read(reading, 1 << 20)):
            data += piece
        closing.join()
    os.close(reading)
    assert [int(found) for found in re.findall(rb"id-(\d+)\n", data)] == [*range(20_000)]
    assert "lost" not in caplog.text


@pytest.mark.parametrize(("size", "max_records"), [(0, 28_000), (50_000, 100)])
def test_the_buffer_is_bounded(
    size: int, max_records: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Every buffered byte counts towards the limit, including fields the client controls."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        log = AccessLog("text", stream)
        headers = {"User-Agent": "x" * size}
        number = 0
        while "the access log: dropping records: the writer cannot keep up" not in caplog.text:
            log(Exchange(str(number), "GET", "/", "HTTP/1.1", "", headers))
            number += 1
            assert number <= max_records
        os.close(reading)  # the thread ends
        log.close()
    assert re.search(r"the access log: dropped \d+ records in total", caplog.text)


WRITER = """
import sys
from wagi.observe.access_log import AccessLog
from wagi.observe.exchange import Exchange

log = AccessLog("text", sys.stdout)
for number in range(1500):
    target = "/" + "x" * (number % 300)
    log(Exchange(f"{sys.argv[1]}-{number}", "GET", target, "HTTP/1.1", "127.0.0.1", {}))
log._writer.close(60)
"""


def test_lines_of_several_workers_are_not_interleaved() -> None:
    """The workers share a stdout, a pipe that is always full."""
    reading, writing = os.pipe()
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, name], stdout=writing) for name in "abc"
    ]
    os.close(writing)
    data = b""
    with os.fdopen(reading, "rb", buffering=0) as stream:
        while piece := stream.read(3000):
            data += piece
            time.sleep(0.001)
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    lines = data.decode().splitlines()
    pattern = re.compile(r'127\.0\.0\.1 - - \[[^]]*\] "GET /x* HTTP/1\.1" [^/]*id=[abc]-\d+')
    assert [line for line in lines if not pattern.fullmatch(line)] == []
    assert len(lines) == 4500


@pytest.mark.fast
@given(st.lists(st.sampled_from([b"", b"a", b"bc", b"d" * 20])), st.integers(1, 12))
def test_output_is_split_at_line_ends(lines: list[bytes], size: int) -> None:
    pieces = list(_pieces(b"".join(line + b"\n" for line in lines), size))
    assert b"".join(pieces) == b"".join(line + b"\n" for line in lines)
    for piece in pieces:
        assert piece.endswith(b"\n")
        assert len(piece) <= size or piece.count(b"\n") == 1
