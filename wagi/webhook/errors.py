"""Why a review is not answered with a patch."""

from __future__ import annotations


class Denied(Exception):
    """The pod is rejected; the message is for its author, who sees it in ``kubectl apply``."""


class InvalidReview(Exception):
    """The request is not a review of a pod; the message is for the client."""
