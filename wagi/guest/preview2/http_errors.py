"""The variant ``error-code`` of ``wasi:http/types``, in both directions.

The layout of an ``error-code``, 32 bytes::

    offset  size  field
    0       1     case
    8       24    payload of the case

Most cases have no payload, or an optional one, which the host leaves out unless it is a size.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack

from wagi.guest.http_error_code import HttpErrorCode
from wagi.guest.preview2.context import ComponentContext
from wagi.guest.preview2.streams import IoError

SIZE = 32
"""Bytes of an ``error-code``."""
_MAX_TEXT = 1024  # bytes of a message of the guest


_WITH_TEXT = (
    HttpErrorCode.HTTP_RESPONSE_TRANSFER_CODING,
    HttpErrorCode.HTTP_RESPONSE_CONTENT_CODING,
    HttpErrorCode.INTERNAL_ERROR,
)
"""The cases whose payload is an optional string."""
_WITH_SIZE = (HttpErrorCode.HTTP_REQUEST_BODY_SIZE, HttpErrorCode.HTTP_RESPONSE_BODY_SIZE)
"""The cases whose payload is an optional number of 64 bits."""


@dataclass(frozen=True, slots=True)
class HttpError:
    """An ``error-code`` for a guest.

    Attributes:
        code: The case.
        size: The payload of a case with a size, in bytes; None for none.
    """

    code: HttpErrorCode
    size: int | None = None

    def packed(self) -> bytes:
        """Return it in the layout of the canonical ABI."""
        if self.size is not None and self.code in _WITH_SIZE:
            return pack("<QQQQ", self.code, 1, self.size, 0)
        return pack("<QQQQ", self.code, 0, 0, 0)


class HttpIoError(IoError):
    """An error of a stream that is a body.

    Attributes:
        error: What ``http-error-code`` returns.
    """

    def __init__(self, error: HttpError) -> None:
        super().__init__(error.code.text)
        self.error = error


def read_error(guest: ComponentContext, code: int, has_text: int, pointer: int, length: int) -> str:
    """Describe an ``error-code`` that a guest passes.

    Args:
        guest: The guest.
        code: The case.
        has_text: In a case with a string, whether there is one.
        pointer: Address of the string.
        length: Size of the string in bytes.

    Raises:
        GuestFault: The string does not lie in the guest's memory.
        ValueError: There is no such case.
    """
    case = HttpErrorCode(code)
    if case not in _WITH_TEXT or not has_text:
        return case.text
    guest.memory.require(pointer, length)
    text = guest.memory.read(pointer, min(length, _MAX_TEXT)).decode(errors="replace")
    return f"{case.text}: {text}"
