"""Chooses between a file and its compressed variants (RFC 9110 §12.5.3). Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_ITEM = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*
        (?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?\Z""",
    re.VERBOSE,
)
_ALIASES = {"x-gzip": "gzip"}  # RFC 9110 §8.4.1.3
_MAX_SIZE = 1024  # characters; a longer field is ignored, as no client has use for it


class Coding(NamedTuple):
    """A content coding.

    Attributes:
        name: Its name in Accept-Encoding and Content-Encoding.
        extension: What the names of compressed files end with.
    """

    name: str
    extension: str


CODINGS = (Coding("br", ".br"), Coding("zstd", ".zst"), Coding("gzip", ".gz"))
"""The supported codings. The first one is preferred if a client accepts several equally."""


def preferred_codings(accept: str) -> tuple[Coding, ...]:
    """Return the codings that a client prefers to the file itself, best first.

    A client that accepts a coding without a preference for ``identity`` gets the compressed file.

    Args:
        accept: The value of Accept-Encoding; empty without that field.
    """
    return _parse(accept) if 0 < len(accept) <= _MAX_SIZE else ()


@lru_cache(maxsize=256)  # browsers send few different values
def _parse(accept: str) -> tuple[Coding, ...]:
    weights: dict[str, float] = {}
    for text in accept.lower().split(","):
        if item := _ITEM.match(text):
            weights[_ALIASES.get(item[1], item[1])] = 1.0 if item[2] is None else float(item[2])
    rest = weights.get("*", 0.0)
    identity = weights.get("identity", 0.0)
    weighted = [(weights.get(coding.name, rest), coding) for coding in CODINGS]
    accepted = [(weight, coding) for weight, coding in weighted if weight > 0]
    accepted.sort(key=lambda item: -item[0])  # stable: the order of CODINGS decides a tie
    return tuple(coding for weight, coding in accepted if weight >= identity)
