"""Glob patterns of paths. Pure.

``?``, ``*`` and ``[…]`` match within a segment of a path, and a segment ``**`` matches any number
of segments. Names that begin with a dot are not special.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAGIC = re.compile(r"[*?\[]")
_SET = re.compile(r"\[(!?)(\]?[^\]]*)\]")


def is_glob(path: str) -> bool:
    """Return whether a path contains characters that are special in patterns."""
    return bool(_MAGIC.search(path))


@dataclass(frozen=True, slots=True)
class Glob:
    """A parsed pattern.

    Attributes:
        base: The path before the first segment with special characters; empty for none.
        depth: How many segments a matching path has after ``base``; None for any number.
    """

    base: str
    depth: int | None
    _regex: re.Pattern[str]

    @classmethod
    def parse(cls, pattern: str, crosses_slash: bool = False) -> Glob:
        """Parse a pattern.

        Args:
            pattern: The pattern, with slashes.
            crosses_slash: Whether ``*`` and ``?`` match slashes, too.

        Raises:
            ValueError: The pattern is invalid.
        """
        segments = pattern.split("/")
        for segment in segments:
            if "**" in segment and segment != "**":
                raise ValueError(
                    f"expected ** only as a whole segment of a path, such as a/**/*.txt, found"
                    f" {pattern!r}"
                )
        fixed = next((i for i, part in enumerate(segments) if is_glob(part)), len(segments))
        depth = None if "**" in segments or crosses_slash else len(segments) - fixed
        any_character = "." if crosses_slash else "[^/]"
        text = ""
        for index, segment in enumerate(segments):
            is_last = index == len(segments) - 1
            if segment != "**":
                text += _translate(segment, any_character, pattern) + ("" if is_last else "/")
            elif is_last:
                # What is below a directory, and in an exclusion the directory itself.
                text = f"{text.removesuffix('/')}(?:/.*)?" if index else ".*"
            else:
                text += "(?:[^/]+/)*"
        return cls("/".join(segments[:fixed]), depth, re.compile(text, re.DOTALL))

    def matches(self, path: str) -> bool:
        """Return whether the pattern matches a whole path."""
        return self._regex.fullmatch(path) is not None


def _translate(segment: str, any_character: str, pattern: str) -> str:
    """Translate a segment of a pattern to a regular expression."""
    text, at = "", 0
    while at < len(segment):
        character = segment[at]
        at += 1
        if character == "*":
            text += f"{any_character}*"
        elif character == "?":
            text += any_character
        elif character == "[":
            found = _SET.match(segment, at - 1)
            if not found or not found[2]:
                raise ValueError(f"expected a ] after the [ in {pattern!r}")
            at = found.end()
            text += _translate_set(found[1], found[2], pattern)
        else:
            text += re.escape(character)
    return text


def _translate_set(negation: str, members: str, pattern: str) -> str:
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    text = f"(?!/)[{'^' if negation else ''}{escaped}]"
    try:
        re.compile(text)
    except re.error:
        raise ValueError(
            f"expected a set such as [a-z], found [{members}] in {pattern!r}"
        ) from None
    return text
