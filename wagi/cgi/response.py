"""Parse the output of a guest into the head and the body of a response (RFC 3875, section 6). Pure.

docs/contract.md, "Response", has the rules for the people who write handlers.

The parser accepts what handlers print in practice, as the original did: lines that end in LF, CRLF
or CRCRLF, an empty line before the first header, white space around names and values, and a status
line (``HTTP/1.1 404 Not Found``) in place of a Status header. The gateway writes a new head from
the parsed names and values, one line for each header, so none of this reaches the client.

The output of a guest is not trusted. A name or a value that could end its line early or that holds
another control character never gets into a ``ResponseHead`` (RFC 9110, section 5.5), so a header
cannot split the response.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

BODILESS = frozenset((204, 205, 304))
"""Status codes of responses that have no body (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5)."""

_MAX_WARNINGS = 10
_CACHED_SIZE = 512  # bytes
_SHOWN_SIZE = 64  # bytes

# The LF that ends the last header, and the empty line. A program that prints "\r\n" to a stream in
# text mode may produce CRCRLF. An empty line at the beginning of the output has no LF before it and
# so does not match: it is skipped.
_BLOCK_END = re.compile(rb"\n\r{0,2}\n")
_BLOCK_END_MAX = 4  # bytes
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9](?=\s|\Z)")  # RFC 9112, section 4
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_CONTROL_CHARACTER = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_STATUS = re.compile(rb"[2-5][0-9][0-9](?![0-9])")

_CONTROL_HEADERS = frozenset((b"status", b"location", b"content-type"))
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer")
)
"""Header fields that describe the connection, not the response (RFC 9110, section 7.6.1)."""


class BadResponse(ValueError):
    """The output of a guest is not a response that can be sent.

    The message is a sentence for the client and holds no byte of the output.

    Attributes:
        status: Status code of the error response that the client gets instead: 500 where there is
            no header block, 502 where a header in it cannot be used.
        reason: The message for the log, with the value that cannot be used.
    """

    def __init__(self, message: str, status: int = 500, value: bytes | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = message if value is None else f"{message.rstrip('.')}: found {shown(value)}"


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status code and headers of a guest's response.

    Attributes:
        status: Status code, from 200 to 599.
        headers: Names and values as the guest printed them; a value may hold bytes above 127. The
            control headers Location and Content-Type come first and at most once, then all others
            in their order, repeated ones included. Status, Content-Length and hop-by-hop headers
            are left out.
        content_length: Length of the body in bytes if the guest gave one, otherwise None.
        warnings: For the server's log: which headers were dropped, and why.
        is_small: Whether the formatted head should be cached.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    content_length: int | None
    warnings: tuple[str, ...]
    is_small: bool = field(compare=False)


class ResponseParser:
    """Splits the output of a guest into head and body.

    The results depend only on the bytes that have been fed, not on how they were split.

    Attributes:
        is_complete: Whether all output has been fed.
    """

    __slots__ = ("_block", "_body", "_head", "_is_split", "_limit", "_searched", "is_complete")
    trailers: tuple[tuple[bytes, bytes], ...] = ()  # CGI has none

    def __init__(self, header_limit: int) -> None:
        """Create a parser without any output.

        Args:
            header_limit: Largest size of the header block in bytes, the empty line included.
        """
        self._limit = header_limit
        # Before the end of the header block is found: all output. Most guests print everything with
        # one call, so the first piece is kept as it is, and only a second one makes it a copy that
        # can grow. Afterwards: the header block, until it is parsed.
        self._block: bytes | bytearray = b""
        self._searched = 0
        self._is_split = False
        self._head: ResponseHead | None = None
        # After the end of the header block is found: the pieces of the body.
        self._body: list[bytes] = []
        self.is_complete = False

    def feed(self, data: bytes) -> None:
        """Add output. It is not parsed before ``head`` or ``end`` is called."""
        if not self._block and not self._is_split:
            self._block = data
        elif self._is_split or self._split():
            self._body.append(data)
        else:
            if isinstance(self._block, bytes):
                self._block = bytearray(self._block)
            self._block += data

    @property
    def buffered(self) -> int:
        """Number of bytes that were fed and belong neither to the head nor to a body taken."""
        return len(self._block) + sum(map(len, self._body))

    def head(self) -> ResponseHead | None:
        """Return the head, or None while the header block is incomplete.

        Raises:
            BadResponse: The output cannot become a CGI response, whatever follows.
        """
        if self._head is None and (self._is_split or self._split()):
            block = bytes(self._block)
            self._head = _parse_cached(block) if len(block) <= _CACHED_SIZE else _parse(block)
            self._block = b""
        elif self._head is None and len(self._block) > self._limit:
            raise BadResponse("The handler's header block is too large (header_limit).")
        return self._head

    def _split(self) -> bool:
        """Split the output at the end of the header block.

        Returns:
            Whether the end was found.
        """
        block = self._block
        found = _BLOCK_END.search(block, self._searched, self._limit)
        if found is None:
            # The end of the block may have begun in the last bytes.
            self._searched = max(0, len(block) - (_BLOCK_END_MAX - 1))
            return False
        end = found.end()
        if isinstance(block, bytes):
            self._block, body = block[:end], block[end:]
        else:
            with memoryview(block) as view:  # one copy instead of two
                self._block, body = bytes(view[:end]), bytes(view[end:])
        self._body = [body]
        self._is_split = True
        return True

    def take_body(self) -> bytes:
        """Return the output after the head that has not been taken yet."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return body

    def end(self) -> ResponseHead:
        """Return the head once all output has been fed.

        Raises:
            BadResponse: The output is not a CGI response.
        """
        self.is_complete = True
        head = self.head()
        if head is None:
            if not self._block:
                raise BadResponse("The handler printed nothing.")
            raise BadResponse("The handler printed no empty line after its headers.")
        return head


def _parse(block: bytes) -> ResponseHead:
    """Parse a header block.

    Args:
        block: The output up to the empty line, which is included.

    Raises:
        BadResponse: None of the control headers is there, or one of them cannot be used.
    """
    control: dict[bytes, tuple[bytes, bytes]] = {}
    others: list[tuple[bytes, bytes]] = []
    lengths: list[bytes] = []
    warnings: list[str] = []
    for line in _lines(block):
        # CGI has no continuation lines (RFC 3875, section 6.3), and the original took an indented
        # line for a header of its own. Joining such a line to the one before it, as for obsolete
        # line folding (RFC 9112, section 5.2), would break indented output, and a header in it
        # would be lost in a value. Either way no fold reaches the client: each line is checked by
        # itself and sent as one line.
        raw_name, colon, raw_value = line.partition(b":")
        field, value = raw_name.rstrip(), raw_value.lstrip()
        key = field.lower()
        if key in _CONTROL_HEADERS:
            if key in control and control[key][1] != value:
                warnings.append(
                    f"ignored header {shown(field)} with the value {shown(control[key][1])}:"
                    " the last one counts"
                )
            control[key] = field, value
        elif key == b"content-length":
            lengths.append(value)
        elif problem := _problem(field, colon, value):
            warnings.append(f"dropped header {shown(field)}: {problem}")
        elif key not in HOP_BY_HOP and not key.startswith(b"proxy-"):
            others.append((field, value))
    if not control:
        raise BadResponse(
            "The handler's response has none of the headers Content-Type, Location and Status."
        )
    status = _status(control)
    control.pop(b"status", None)
    for key, (_, value) in control.items():
        if found := _CONTROL_CHARACTER.search(value):
            name, code = key.decode().title(), found[0][0]
            raise BadResponse(
                f"The handler's {name} header has a control character (0x{code:02x}).", 502, value
            )
    length = content_length(lengths, warnings)
    headers = (*control.values(), *others)
    is_small = len(block) <= _CACHED_SIZE
    return ResponseHead(status, headers, length, tuple(bounded(warnings)), is_small)


# Most handlers print the same header block every time. Large ones are not cached to save memory.
_parse_cached = lru_cache(maxsize=256)(_parse)


def _lines(block: bytes) -> list[bytes]:
    """Return the lines that are not blank, a status line as a Status header.

    The white space around them is trimmed, and with it the CRs at their ends.
    """
    lines = [line for line in map(bytes.strip, block.split(b"\n")) if line]
    if lines and (found := _STATUS_LINE.match(lines[0])):
        lines[0] = b"Status:" + lines[0][found.end() :]
    return lines


def _problem(name: bytes, colon: bytes, value: bytes) -> str | None:
    """Return why a line cannot be passed on as a header, or None if it can."""
    return header_problem(name, value) if colon else "the line has no colon"


def header_problem(name: bytes, value: bytes) -> str | None:
    """Return why a header field cannot be sent, or None if it can."""
    if not _TOKEN.fullmatch(name):
        return "the name is empty or has a character that HTTP forbids"
    if _CONTROL_CHARACTER.search(value):
        return "the value has a control character"
    return None


def _status(control: dict[bytes, tuple[bytes, bytes]]) -> int:
    """Return the status code that the control headers give.

    The status code is all decimal digits at the beginning of the value, and it is a number from 200
    to 599 with three digits. What follows the digits is ignored, since the gateway sends a reason
    phrase of its own: ``404``, ``404 Not Found``, ``404Not``, ``404;x`` and ``404 a\\0b`` are 404.
    No digits (``fine``, ``+200`` and an empty value), fewer (``99``, ``2e2``) or more (``4040``)
    are errors. So is an interim response (1xx), which cannot end a request (RFC 9110, section
    15.2).

    Raises:
        BadResponse: The Status header cannot be used.
    """
    if b"status" not in control:
        return 302 if b"location" in control else 200
    value = control[b"status"][1]
    found = _STATUS.match(value)
    if found is None:
        raise BadResponse("The handler's Status is not a number from 200 to 599.", 502, value)
    return int(found[0])


def content_length(values: list[bytes], warnings: list[str]) -> int | None:
    """Return the Content-Length in bytes, or None if the guest gave none that can be used.

    Equal values count as one. If values differ or one is not a number, it is unknown which one is
    correct, so all are dropped with a warning, and the gateway uses the actual length.
    """
    if not values:
        return None
    lengths = {int(value) if _LENGTH.fullmatch(value) else None for value in values}
    length = lengths.pop()
    if lengths or length is None:
        found = ", ".join(map(shown, values[:3]))
        warnings.append(
            f"dropped header 'Content-Length': expected one number of bytes, found {found}"
        )
        return None
    return length


def bounded(warnings: list[str]) -> list[str]:
    """Limit what one response can write to the log."""
    more = len(warnings) - _MAX_WARNINGS
    return warnings if more <= 0 else [*warnings[:_MAX_WARNINGS], f"and {more} more of these"]


def shown(data: bytes) -> str:
    """Return the beginning of a name or a value as printable ASCII in quotes."""
    return ascii(data[:_SHOWN_SIZE].decode("latin-1"))
