"""A guest's standard input and output, between its host calls and whoever runs it."""

from __future__ import annotations


class Stdin:
    """The input that has arrived and that the guest has not read yet."""

    __slots__ = ("_at", "_chunk", "_ended")

    def __init__(self) -> None:
        self._chunk = b""
        self._at = 0
        self._ended = False

    @property
    def readable(self) -> bool:
        """Whether a read would return at once: with bytes, or with the end of file."""
        return self._ended or self._at < len(self._chunk)

    def feed(self, data: bytes) -> None:
        """Add input."""
        self._chunk = self._chunk[self._at :] + data if self._at < len(self._chunk) else data
        self._at = 0

    def end(self) -> None:
        """No more input will come."""
        self._ended = True

    def take(self, length: int) -> bytes:
        """At most ``length`` bytes; empty at the end of file."""
        data = self._chunk[self._at : self._at + length]
        self._at += len(data)
        return data


class Stdout:
    """The output that the guest has written and that has not been taken yet.

    Attributes:
        room: Bytes that may still be written; without any the guest has to wait.
    """

    __slots__ = ("_limit", "_pieces", "room")

    def __init__(self, limit: int) -> None:
        """Args: limit: Bytes up to which the guest may write before it has to wait."""
        self._limit = limit
        self._pieces: list[bytes] = []
        self.room = limit

    def write(self, data: bytes) -> None:
        """Add output, not more than there is room for."""
        self._pieces.append(data)
        self.room -= len(data)

    def take(self) -> bytes:
        """All output so far, once."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.room = self._limit
        return data
