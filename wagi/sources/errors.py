"""Errors of fetching modules."""

from __future__ import annotations

from wagi.errors import WagiError


class SourceError(WagiError):
    """A mistake of the user: a reference, tag or credential is wrong. The exit status is 2."""

    exit_status = 2


class FetchError(WagiError):
    """A failure outside the user's control, such as damaged content. The exit status is 1."""


class UnreachableError(FetchError):
    """A server does not answer, or is unavailable. Cached content may be used instead."""
