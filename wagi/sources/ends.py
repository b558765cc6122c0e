"""How getting a module fails."""

from __future__ import annotations

from wagi.errors import WagiError


class SourceError(WagiError):
    """What the user wrote leads nowhere: a name, a tag, a credential. The message says what to do.

    The command line ends with 2.
    """

    exit_status = 2


class FetchError(WagiError):
    """What the user wrote is fine, and the world is not: what was sent is wrong or damaged."""


class UnreachableError(FetchError):
    """A server gives no answer, or says that it cannot now: what is in the cache may do instead."""
