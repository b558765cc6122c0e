"""The answer to a request that gets no response of a handler."""

from __future__ import annotations

from http import HTTPStatus


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
