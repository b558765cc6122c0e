"""``fields`` of ``wasi:http/types``: the header and trailer fields of requests and responses.

The rules are those of wasmtime: names are in lowercase, and names and values that HTTP does not
permit, or that the host manages, are errors of the guest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum

from wagi.guest.errno import GuestTrap
from wagi.guest.http_exchange import HeaderFields

MAX_FIELDS = 1024
"""Maximum number of fields in one collection."""
MAX_SIZE = 4 * 1024**2
"""Maximum size of all fields that a guest can change, in bytes."""
_FIELD_OVERHEAD = 128  # bytes of a field in the memory of the gateway
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
FORBIDDEN = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization"),
        *(b"proxy-connection", b"transfer-encoding", b"upgrade", b"host", b"http2-settings"),
    )
)
"""Fields that the host manages."""


class HeaderError(IntEnum):
    """The variant ``header-error``."""

    INVALID_SYNTAX = 0
    FORBIDDEN = 1
    IMMUTABLE = 2


class Fields:
    """The resource ``fields``.

    Attributes:
        items: Names and values, in order.
        is_immutable: Whether they belong to a request or response, so that changes are errors.
    """

    __slots__ = ("_account", "_size", "is_immutable", "items")

    def __init__(self, items: HeaderFields = (), account: FieldsAccount | None = None) -> None:
        """Create fields.

        Args:
            items: The initial fields.
            account: Where their size counts; None for fields that the guest cannot change.
        """
        self.items = items
        self.is_immutable = account is None
        self._account = account
        self._size = 0
        self._settle()

    def replace(self, items: HeaderFields) -> None:
        """Replace all fields.

        Raises:
            GuestTrap: There are too many of them.
        """
        self.items = items
        self._settle()

    def _settle(self) -> None:
        if self._account is None:
            return
        if len(self.items) > MAX_FIELDS:
            raise GuestTrap(f"it made more than {MAX_FIELDS} header fields")
        size = sum([len(name) + len(value) + _FIELD_OVERHEAD for name, value in self.items])
        self._account.change(size - self._size)
        self._size = size

    def take(self) -> HeaderFields:
        """Return the fields, which the guest can no longer change."""
        self.close()
        return self.items

    def close(self) -> None:
        """Free their part of the account."""
        if self._account is not None:
            self._account.change(-self._size)
            self._size = 0


class FieldsAccount:
    """The size of all fields that a guest can change."""

    __slots__ = ("_size",)

    def __init__(self) -> None:
        self._size = 0

    def change(self, difference: int) -> None:
        """Add a number of bytes.

        Raises:
            GuestTrap: The guest holds too many.
        """
        self._size += difference
        if self._size > MAX_SIZE:
            raise GuestTrap(f"it holds more than {MAX_SIZE} bytes of header fields")


def check_field(raw_name: bytes, values: Iterable[bytes]) -> tuple[bytes, HeaderError | None]:
    """Return a name in lowercase, and why a field is not valid."""
    name = raw_name.lower()
    if not _NAME.fullmatch(name):
        return name, HeaderError.INVALID_SYNTAX
    if name in FORBIDDEN:
        return name, HeaderError.FORBIDDEN
    for value in values:
        if _FORBIDDEN_IN_VALUE.search(value):
            return name, HeaderError.INVALID_SYNTAX
        if name == b"content-length" and not _LENGTH.fullmatch(value):
            return name, HeaderError.INVALID_SYNTAX
    return name, None
