"""Strings in the form that guests get them."""

from __future__ import annotations

from collections.abc import Iterable


def block(strings: Iterable[bytes]) -> bytes:
    """Join arguments or variables into one block; each is terminated by a NUL."""
    return b"".join(text + b"\0" for text in strings)
