"""Streams of bytes (``wasi:io/streams``): the interface of all kinds, and the standard streams.

Other kinds, such as files and bodies of HTTP, are subclasses elsewhere.
"""

from __future__ import annotations

from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.polling import Event
from wagi.guest.wasi.context import WaitReason

READ_MAX = 64 * 1024
"""Maximum number of bytes that one call reads, skips or splices: the guest may ask for any."""
WRITE_MAX = 64 * 1024
"""Maximum number of bytes that ``check-write`` grants."""


class StreamClosedError(Exception):
    """The stream is closed: the guest gets ``stream-error.closed``."""


class StreamFailedError(Exception):
    """An operation failed: the guest gets ``stream-error.last-operation-failed``.

    Attributes:
        error: The error, for the guest.
    """

    def __init__(self, error: IoError) -> None:
        super().__init__(error.text)
        self.error = error


class IoError:
    """The resource ``error`` of ``wasi:io/error``.

    Other interfaces can find a code of theirs in it, by subclasses of this class.

    Attributes:
        text: What ``to-debug-string`` returns.
    """

    def __init__(self, text: str) -> None:
        self.text = text


class InputStream(Event):
    """The resource ``input-stream``. Its event is that a read returns at once."""

    def read(self, length: int) -> bytes:
        """Read what is available.

        Args:
            length: Maximum number of bytes, from 1 to ``READ_MAX``.

        Returns:
            The bytes; empty if there are none at present.

        Raises:
            StreamClosedError: There will be no more.
            StreamFailedError: Reading failed.
        """
        raise NotImplementedError


class OutputStream(Event):
    """The resource ``output-stream``. Its event is that there is room, or that writing fails.

    Attributes:
        granted: Bytes that the guest may write before it calls ``check-write`` again.
    """

    granted = 0

    def check(self) -> int:
        """Return the number of bytes that can be written now.

        Raises:
            StreamClosedError: Nothing can be written any more.
            StreamFailedError: A write before has failed.
        """
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Write bytes.

        Args:
            data: The bytes, not more than ``check`` has returned.

        Raises:
            StreamClosedError: Nothing can be written any more.
            StreamFailedError: Writing failed.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Begin to pass on what has been written. Most kinds do so in any case.

        Raises:
            StreamClosedError: Nothing can be written any more.
            StreamFailedError: A write before has failed.
        """

    @property
    def is_flushed(self) -> bool:
        """Whether everything that was written has been passed on."""
        return True


class StdinStream(InputStream):
    """The standard input: the body of the request."""

    def __init__(self, guest: ComponentContext) -> None:
        """Make a stream of the guest's standard input."""
        self._stdin = guest.stdin

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return self._stdin.readable

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""
        wait.input = True

    def read(self, length: int) -> bytes:
        """As ``InputStream.read``."""
        data = self._stdin.take(length)
        if not data and self._stdin.readable:
            raise StreamClosedError
        return data


class EmptyStream(InputStream):
    """A stream without any bytes."""

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return True

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""

    def read(self, length: int) -> bytes:
        """As ``InputStream.read``."""
        raise StreamClosedError


class StdoutStream(OutputStream):
    """The standard output: the response."""

    def __init__(self, guest: ComponentContext) -> None:
        """Make a stream of the guest's standard output."""
        self._stdout = guest.stdout

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return self._stdout.room > 0

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``: the gateway sends the output whenever the guest is suspended."""
        wait.turn = True

    def check(self) -> int:
        """As ``OutputStream.check``."""
        return self._stdout.room

    def write(self, data: bytes) -> None:
        """As ``OutputStream.write``."""
        self._stdout.write(data)


class StderrStream(OutputStream):
    """The standard error: the log."""

    def __init__(self, guest: ComponentContext) -> None:
        """Make a stream of the guest's standard error."""
        self._write = guest.stderr

    @property
    def is_ready(self) -> bool:
        """As ``Event.is_ready``."""
        return True

    def wait_on(self, wait: WaitReason) -> None:
        """As ``Event.wait_on``."""

    def check(self) -> int:
        """As ``OutputStream.check``."""
        return WRITE_MAX

    def write(self, data: bytes) -> None:
        """As ``OutputStream.write``."""
        self._write(data)
