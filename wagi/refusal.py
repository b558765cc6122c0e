"""The answer to a request that gets no response of a handler."""

from __future__ import annotations

from http import HTTPStatus

RETRY_SOON = (("Retry-After", "1"),)
"""The header of an answer that says that there is no room now (RFC 9110 §10.2.3)."""
_CLOSING = frozenset((400, 408, 413, 414, 431, 505))


class Refusal(Exception):
    """A request gets an error page.

    Parameters: ``status`` of the answer; ``message`` for the client; ``reason`` for the log, if it
    says more; ``headers`` of the answer.
    """

    def __init__(
        self,
        status: HTTPStatus | int,
        message: str,
        reason: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = HTTPStatus(status)
        self.message = message
        self.reason = reason or message
        self.headers = headers

    @property
    def closes(self) -> bool:
        """Whether the connection ends: what the client sends next may be the rest of this."""
        return self.status in _CLOSING
