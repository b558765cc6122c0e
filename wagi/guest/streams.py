"""Buffers of a guest's standard input and output."""

from __future__ import annotations

from typing import Protocol


class Input(Protocol):
    """The standard input, as host calls in Python read it."""

    @property
    def readable(self) -> bool:
        """Whether a read returns at once, with bytes or with the end of file."""

    def take(self, length: int) -> bytes:
        """Remove and return at most ``length`` bytes; empty at the end of file."""


class Output(Protocol):
    """The standard output, as host calls in Python write it."""

    @property
    def room(self) -> int:
        """Bytes that can be written now; at 0 the guest has to wait."""

    def write(self, data: bytes) -> None:
        """Append output, at most ``room`` bytes."""


class Stdin:
    """The input that the guest has not read yet."""

    __slots__ = ("_at", "_chunk", "_ended")

    def __init__(self) -> None:
        self._chunk = b""
        self._at = 0
        self._ended = False

    @property
    def readable(self) -> bool:
        """Whether a read returns at once, with bytes or with the end of file."""
        return self._ended or self._at < len(self._chunk)

    def feed(self, data: bytes) -> None:
        """Append input."""
        self._chunk = self._chunk[self._at :] + data if self._at < len(self._chunk) else data
        self._at = 0

    def end(self) -> None:
        """Mark the end of the input."""
        self._ended = True

    def take(self, length: int) -> bytes:
        """Remove and return at most ``length`` bytes; empty at the end of file."""
        data = self._chunk[self._at : self._at + length]
        self._at += len(data)
        return data


class Stdout:
    """The output that the guest has written and the gateway has not taken yet.

    Attributes:
        room: Bytes that can be written now; at 0 the guest has to wait.
    """

    __slots__ = ("_limit", "_pieces", "room")

    def __init__(self, limit: int) -> None:
        """Create an empty buffer.

        Args:
            limit: The size of the buffer, in bytes.
        """
        self._limit = limit
        self._pieces: list[bytes] = []
        self.room = limit

    def write(self, data: bytes) -> None:
        """Append output, at most ``room`` bytes."""
        self._pieces.append(data)
        self.room -= len(data)

    def take(self) -> bytes:
        """Remove and return the buffered output."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.room = self._limit
        return data
