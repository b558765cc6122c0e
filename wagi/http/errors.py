"""The error response to a request that no handler answers."""

from __future__ import annotations

from http import HTTPStatus

RETRY_SOON = (("Retry-After", "1"),)
"""The header of a response that reports a shortage that will pass (RFC 9110 §10.2.3)."""
_CLOSING = frozenset((400, 408, 413, 414, 431, 501, 505))


class HTTPError(Exception):
    """Ends a request with an error page.

    Args:
        status: The status of the response.
        message: One sentence for the client.
        reason: What the log says; the message if it is empty.
        headers: Further headers of the response.
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
        """Whether the connection ends: what the client sends next may be a part of this request."""
        return self.status in _CLOSING
