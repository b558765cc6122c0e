"""Errors of snapshots."""

from __future__ import annotations

from wagi.errors import WagiError


class SnapshotError(WagiError):
    """A snapshot of a module cannot be made; the message has the reason."""


class MissingToolError(SnapshotError):
    """Binaryen is required, and is not installed."""
