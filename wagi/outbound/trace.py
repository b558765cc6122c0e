"""What the client needs for traces; ``wagi.observe.traces`` implements it."""

from __future__ import annotations

from typing import Protocol

from multidict import CIMultiDict


class OutboundSpan(Protocol):
    """The span of one hop of a request."""

    def respond(self, status: int) -> None:
        """End it with the status of the response."""

    def fail(self, kind: str, reason: str) -> None:
        """End it without a response.

        Args:
            kind: The kind of error, of which there are few.
            reason: The reason.
        """


class OutboundTrace(Protocol):
    """Makes the spans of a guest's requests."""

    def begin_outbound(
        self,
        method: str,
        url: str,
        host: str,
        port: int,
        headers: CIMultiDict[str],
        resend: int,
    ) -> OutboundSpan:
        """Begin the span of a hop, and add the headers that name it.

        Args:
            method: The method.
            url: The URL.
            host: Its host.
            port: Its port.
            headers: The header fields, which are changed.
            resend: How many redirects were followed before.
        """
