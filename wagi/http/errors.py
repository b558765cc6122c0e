"""The exception that the gateway turns into an error response."""

from __future__ import annotations

from http import HTTPStatus

RETRY_SOON = (("Retry-After", "1"),)
"""The header of responses to temporary shortages (RFC 9110 §10.2.3)."""
_CLOSING = frozenset((400, 408, 413, 414, 431, 501, 505))


class HTTPError(Exception):
    """Ends a request with an error page.

    Args:
        status: Status of the response.
        message: One sentence for the client.
        reason: Message for the log; defaults to ``message``.
        headers: Additional headers of the response.
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
        """Whether to close the connection: the next bytes may belong to this request."""
        return self.status in _CLOSING
