"""Conditional requests and ranges (RFC 9110 §13, §14). Pure."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from time import strptime
from typing import NamedTuple

_NAMES = frozenset(
    (
        b"accept-encoding",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    )
)
_ENTITY_TAG = re.compile(r'(W/)?("[!\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"bytes[ \t]*=(.*)\Z", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(r"([0-9]*)-([0-9]*)\Z")
_DATE_FORMS = (
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %d %H:%M:%S %Y",
)
_DIGITS = 18  # a longer number is beyond the end of every file


class Validators(NamedTuple):
    """What identifies the content of a file (RFC 9110 §8.8).

    Attributes:
        etag: Its strong entity tag; None if it is not known.
        modified: When it was modified, in seconds since the epoch; None if that says nothing.
    """

    etag: str | None
    modified: int | None


class ByteRange(NamedTuple):
    """A part of a file: position and number of bytes."""

    offset: int
    size: int


class UnsatisfiableRangeError(Exception):
    """The range begins beyond the end of the file."""


def relevant_fields(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the header fields that this package evaluates, by lowercase names.

    The values of a field that occurs several times are joined (RFC 9110 §5.3).
    """
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        lower = raw_name.lower()
        if lower in _NAMES:
            name, value = lower.decode("ascii"), raw_value.decode("iso-8859-1")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def is_conditional(fields: Mapping[str, str]) -> bool:
    """Return whether the entity tag of the file has to be known."""
    return not fields.keys().isdisjoint(("if-match", "if-none-match", "if-range"))


def check_preconditions(fields: Mapping[str, str], validators: Validators) -> HTTPStatus | None:
    """Evaluate the preconditions of a GET or HEAD request for an existing file (RFC 9110 §13.2.2).

    Returns:
        304 or 412; None if the request is to be answered as usual.
    """
    etag, modified = validators
    if "if-match" in fields:
        if not _matches(fields["if-match"], etag, weakly=False):
            return HTTPStatus.PRECONDITION_FAILED
    elif _is_later(modified, fields.get("if-unmodified-since")):
        return HTTPStatus.PRECONDITION_FAILED
    if "if-none-match" in fields:
        if _matches(fields["if-none-match"], etag, weakly=True):
            return HTTPStatus.NOT_MODIFIED
    elif _is_later(modified, fields.get("if-modified-since")) is False:
        return HTTPStatus.NOT_MODIFIED
    return None


def select_range(fields: Mapping[str, str], validators: Validators, size: int) -> ByteRange | None:
    """Select the range of a file to send for a GET request.

    Returns:
        The range; None for the whole file: without a valid Range field, if If-Range does not match,
        and for several ranges, which a server may ignore (RFC 9110 §14.2).

    Raises:
        UnsatisfiableRangeError: The response is 416.
    """
    header = _RANGE.match(fields.get("range", ""))
    if header is None or not size or not _range_applies(fields.get("if-range"), validators):
        return None
    specs = [spec for text in header[1].split(",") if (spec := text.strip(" \t"))]
    spec = _SPEC.match(specs[0]) if len(specs) == 1 else None
    if spec is None:
        return None
    first, last = (_number(text) for text in spec.groups())
    if first is None:
        if last is None:
            return None
        if last == 0:
            raise UnsatisfiableRangeError
        count = min(last, size)
        return ByteRange(size - count, count)
    if last is not None and last < first:
        return None
    if first >= size:
        raise UnsatisfiableRangeError
    end = size if last is None else min(last + 1, size)
    return ByteRange(first, end - first)


def parse_date(text: str) -> int | None:
    """Parse an HTTP date in any of its three forms (RFC 9110 §5.6.7).

    Returns:
        Seconds since the epoch; None if it is not valid.
    """
    for form in _DATE_FORMS:
        with suppress(ValueError):
            return timegm(strptime(text.strip(" \t"), form))
    return None


def format_date(seconds: int) -> str:
    """Format seconds since the epoch as an HTTP date."""
    return formatdate(seconds, usegmt=True)


def _is_later(modified: int | None, field: str | None) -> bool | None:
    """Return whether a file was modified after the date of a field; None if a date is missing."""
    date = None if field is None else parse_date(field)
    return None if date is None or modified is None else modified > date


def _matches(value: str, etag: str | None, weakly: bool) -> bool:
    """Return whether a list of entity tags includes one, or is ``*`` (RFC 9110 §8.8.3.2)."""
    if value.strip(" \t") == "*":
        return True
    return any(
        opaque == etag and (weakly or not weak) for weak, opaque in _ENTITY_TAG.findall(value)
    )


def _range_applies(if_range: str | None, validators: Validators) -> bool:
    """Evaluate If-Range (RFC 9110 §13.1.5): an equal entity tag, not a weak one, or date."""
    if if_range is None:
        return True
    text = if_range.strip(" \t")
    if text.endswith('"'):
        return text == validators.etag
    return validators.modified is not None and parse_date(text) == validators.modified


def _number(text: str) -> int | None:
    if not text:
        return None
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS
