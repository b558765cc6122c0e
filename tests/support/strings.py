"""Strings as guests get them."""

from __future__ import annotations

from collections.abc import Iterable


def block(strings: Iterable[bytes]) -> bytes:
    """Arguments or variables in one block: each is ended by a NUL."""
    return b"".join(text + b"\0" for text in strings)
