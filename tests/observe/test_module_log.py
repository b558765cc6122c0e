"""Lines of stderr."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wagi.observe.module_log import LINE_LIMIT, ModuleLog, Stderr
from wagi.observe.text import one_line, paragraph


def written(folder: Path, pieces: list[bytes]) -> bytes:
    log = ModuleLog(folder, "/")
    log.path.unlink(missing_ok=True)
    stderr = Stderr(log, "id")
    for piece in pieces:
        stderr.write(piece)
    stderr.close()
    return log.path.read_bytes() if log.path.exists() else b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"x" * 5000, b"y" * 20_000]), max_size=8))
def test_cuts_make_no_difference(tmp_path: Path, pieces: list[bytes]) -> None:
    whole = written(tmp_path, [b"".join(pieces)])
    assert written(tmp_path, pieces) == whole
    assert all(len(line) <= LINE_LIMIT for line in whole.split(b"\n"))
    assert whole == b"" or whole.endswith(b"\n")


def test_a_log_that_cannot_be_written_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    stderr = Stderr(ModuleLog(tmp_path / "file", "/"), "id")
    with caplog.at_level(logging.INFO, "wagi"):
        stderr.write(b"one\n")
        stderr.write(b"two\n")
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "lines of stderr are lost" in errors[0].message


def test_text_for_a_log_is_one_line() -> None:
    assert one_line("a\nb\x1b[0m\u2028\udc80é\t") == "a\\x0ab\\x1b[0m\\x2028\\xdc80é\t"
    assert paragraph("a\nb\x1b\n") == "a\n    b\\x1b"
