"""What programs write for a terminal, as plain text."""

from __future__ import annotations

import pytest

from wagi.dev.terminal import plain_text

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (b"plain\n\ttext\n", "plain\n\ttext\n"),
        (b"\x1b[1m\x1b[38;5;9merror[E0308]\x1b[0m\x1b[1m: no\x1b[0m", "error[E0308]: no"),
        (b"\x1b]8;;https://gcc.gnu.org\x1b\\-Wall\x1b]8;;\x07", "-Wall"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b(Btext\x1b=\x1b7", "text"),
        (b"  1%\r 50%\r100%\r\ndone\r\n", "100%\ndone\n"),
        (b"\x1b[2K\x1b[1Gdone\x1b", "done"),
        (b"\xff\x00", "\ufffd\ufffd"),
        (b"\x1b]unfinished", ""),
    ],
)  # fmt: skip
def test_escape_sequences_are_removed(output: bytes, text: str) -> None:
    assert plain_text(output) == text
