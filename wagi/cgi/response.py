"""From a guest's output to the head of a response (RFC 3875 §6, contract §2). Pure.

The parser is fed pieces and asked for the head; where the pieces were cut makes no difference.
Guest bytes are hostile: what HTTP forbids in a header is dropped here and nowhere else, so that a
header can never split the response (RFC 9110 §5.5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_MAX_WARNINGS = 10

_END_OF_HEADERS = re.compile(rb"(?:\A|\n)\r?\n")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer")
)
_ONCE = frozenset(("content-type", "location", "status", "content-length"))
_REQUIRED = ("Content-Type", "Location", "Status")


class BadResponse(ValueError):
    """Output that is not a CGI response.

    Attributes: ``status`` of the answer that the client gets instead; the message is fit for it.
    """

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers of a guest's response.

    Attributes: ``headers`` in order, repeated ones kept, without Status and Content-Length;
    ``content_length`` in bytes, if the guest promised one; ``warnings`` what was dropped and why.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    content_length: int | None
    warnings: tuple[str, ...]


class ResponseParser:
    """Finds the header block in a guest's output. Feed it, ask for ``head``, then take the body."""

    def __init__(self, header_limit: int) -> None:
        """Parameters: ``header_limit`` in bytes."""
        self._limit = header_limit
        self._buffer = bytearray()  # until the head is found
        self._body: list[bytes] = []  # then: pieces as they come, not copied together
        self._searched = 0
        self._head: ResponseHead | None = None

    def feed(self, data: bytes) -> None:
        """Add a piece of output. Nothing is looked at before the next question."""
        if self._head is None:
            self._buffer += data
        else:
            self._body.append(data)

    @property
    def held(self) -> int:
        """Bytes that have been fed and not taken."""
        return len(self._buffer) + sum(map(len, self._body))

    def head(self) -> ResponseHead | None:
        """The head, or None while the header block is not whole.

        Raises: BadResponse if the output cannot become a CGI response.
        """
        if self._head is None:
            # The empty line may have begun in the last three bytes that were looked at.
            found = _END_OF_HEADERS.search(self._buffer, max(0, self._searched - 3))
            end = found.end() if found else len(self._buffer)
            # At most an empty line's bytes of slack: the answer must not hang on where it was cut.
            if end > self._limit + (0 if found else 3):
                raise BadResponse(_TOO_LARGE)
            if not found:
                self._searched = end
                return None
            block = bytes(self._buffer[:end])
            self._head = _parse_again(block) if end <= _CACHED_SIZE else _parse(block)
            self._body.append(bytes(self._buffer[end:]))
            self._buffer.clear()
        return self._head

    def take_body(self) -> bytes:
        """The output after the head that has not been taken yet."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        return body

    def end(self) -> ResponseHead:
        """The head, once all output has been fed. Raises: BadResponse if there is none."""
        head = self.head()
        if head is None:
            raise _no_head(self._buffer)
        return head


def whole_response(output: bytes, header_limit: int) -> tuple[ResponseHead, bytes]:
    """Head and body of a guest's whole output: what a parser that is fed all of it would find.

    Raises: BadResponse if the output cannot become a CGI response.
    """
    found = _END_OF_HEADERS.search(output, 0, header_limit + 4)
    if found is None or found.end() > header_limit:
        if len(output) > header_limit + (0 if found else 3):
            raise BadResponse(_TOO_LARGE)
        raise _no_head(output)
    end = found.end()
    block = output[:end]
    return (_parse_again(block) if end <= _CACHED_SIZE else _parse(block)), output[end:]


_TOO_LARGE = "The handler's header block is too large."


def _no_head(output: bytes | bytearray) -> BadResponse:
    if not output:
        return BadResponse("The handler printed nothing.")
    return BadResponse("The handler printed no empty line after its headers.")


# Most handlers print the same header block every time.
_CACHED_SIZE = 512


@lru_cache(maxsize=256)
def _parse_again(block: bytes) -> ResponseHead:
    return _parse(block)


def _parse(block: bytes) -> ResponseHead:
    headers: list[tuple[str, str]] = []
    single: dict[str, str] = {}
    warnings: list[str] = []
    for line in re.split(rb"\r?\n", block):
        if not line:
            continue
        raw_name, colon, raw_value = line.partition(b":")
        raw_value = raw_value.strip(b" \t")
        why = _why_forbidden(raw_name, colon, raw_value)
        if why:
            warnings.append(f"dropped header {raw_name[:64]!r}: {why}")
            continue
        name, value = raw_name.decode("ascii"), raw_value.decode()
        lower = name.lower()
        if lower in single:
            warnings.append(f"dropped header {name!r}: it can be there only once")
        elif lower in _ONCE:
            single[lower] = value
            if lower not in ("status", "content-length"):
                headers.append((name, value))
        elif lower not in _HOP_BY_HOP and not lower.startswith("proxy-"):
            headers.append((name, value))
    if not single.keys() & {name.lower() for name in _REQUIRED}:
        raise BadResponse(
            "The handler's response has none of the headers Content-Type, Location and Status."
        )
    content_length = single.get("content-length")
    if content_length is not None and not re.fullmatch(r"[0-9]{1,18}", content_length):
        warnings.append("dropped header 'Content-Length': not a number")
        content_length = None
    return ResponseHead(
        _status(single),
        tuple(headers),
        None if content_length is None else int(content_length),
        tuple(_bounded(warnings)),
    )


def _bounded(warnings: list[str]) -> list[str]:
    """What a hostile guest may write into the log at once."""
    more = len(warnings) - _MAX_WARNINGS
    return warnings if more <= 0 else [*warnings[:_MAX_WARNINGS], f"and {more} more like these"]


def _why_forbidden(name: bytes, colon: bytes, value: bytes) -> str | None:
    if not colon:
        return "no colon"
    if not _TOKEN.fullmatch(name):
        return "HTTP forbids its name"
    if _FORBIDDEN.search(value):
        return "HTTP forbids its value"
    try:
        value.decode()
    except UnicodeDecodeError:
        return "its value is not UTF-8"
    return None


def _status(single: dict[str, str]) -> int:
    if "status" not in single:
        return 302 if "location" in single else 200
    number = single["status"].partition(" ")[0]
    # An interim response (1xx) is never the last word of a request: RFC 9110 §15.2.
    if not re.fullmatch(r"[2-5][0-9][0-9]", number):
        raise BadResponse("The handler's Status is not a number from 200 to 599.", 502)
    return int(number)
