"""Recorded cases: a request and its expected response, in a TOML file.

``wagi call --record`` writes them, ``wagi test`` replays them. Parts of the response that are not
in the file are not compared, so parts that vary can be deleted.
"""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    model_validator,
)

from wagi.config.text import read_text
from wagi.config.validation import explain_validation_error
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.lines import parse_toml, toml_lines
from wagi.testing.local_gateway import Answer

# They vary, or follow from the body.
_OMITTED_HEADERS = frozenset(("date", "x-request-id", "server", "content-length"))


def _base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("expected base64")
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise ValueError("expected base64") from None


Header = tuple[StrictStr, StrictStr]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RecordedRequest(_Table):
    """The request to send. The body is text, or bytes as base64."""

    method: StrictStr = "GET"
    target: StrictStr
    headers: list[Header] = Field(default_factory=list)
    body: StrictStr = ""
    body_base64: Annotated[bytes, BeforeValidator(_base64)] = b""

    @model_validator(mode="after")
    def _one_body(self) -> RecordedRequest:
        if self.body and self.body_base64:
            raise ValueError("expected either body or body_base64, found both")
        return self

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        return self.body_base64 or self.body.encode()


class RecordedResponse(_Table):
    """The expected response; ``body_matches`` is a regular expression for the whole body."""

    status: int | None = None
    headers: list[Header] = Field(default_factory=list)
    body: StrictStr | None = None
    body_base64: Annotated[bytes, BeforeValidator(_base64)] | None = None
    body_matches: re.Pattern[str] | None = None


class Case(_Table):
    """A recorded request and its expected response."""

    request: RecordedRequest
    response: RecordedResponse


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A case and its file."""

    path: Path
    case: Case


def find_cases(paths: Sequence[Path]) -> list[CaseFile]:
    """Read cases from files, and from all .toml files in directories.

    Raises:
        ConfigurationError: Files are missing or invalid; it has a problem for each mistake.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        files += sorted(path.rglob("*.toml")) if path.is_dir() else [path]
    cases: list[CaseFile] = []
    for path in files:
        try:
            cases.append(CaseFile(path, _read(path)))
        except ConfigurationError as error:
            problems += error.problems
    if not files:
        problems.append(Problem(f"no cases (.toml files) in {', '.join(map(str, paths))}"))
    if problems:
        raise ConfigurationError(problems)
    return cases


def _read(path: Path) -> Case:
    return parse_case(path, read_text(path))


def parse_case(path: Path, text: str) -> Case:
    """Parse a case.

    Args:
        path: Its file, for messages.
        text: The content of the file.

    Raises:
        ConfigurationError: It has a problem for each mistake.
    """
    try:
        return Case.model_validate(parse_toml(text, path))
    except ValidationError as error:
        lines = toml_lines(text)
        raise ConfigurationError(
            lines.problem(mistake.message, path, mistake.path, mistake.is_key)
            for mistake in explain_validation_error(error, Case)
        ) from None


def differences(expected: RecordedResponse, answer: Answer) -> Iterator[str]:
    """Compare a response with the expected one, and yield differences as lines of a diff."""
    if expected.status not in (None, answer.status):
        yield f"-status = {expected.status}"
        yield f"+status = {answer.status}"
    found = [(name.lower(), value) for name, value in answer.headers]
    for name, value in expected.headers:
        if (name.lower(), value) not in found:
            yield f"-{name}: {value}"
            yield from (f"+{name}: {other}" for key, other in found if key == name.lower())
    body = answer.body
    if expected.body_base64 not in (None, body):
        yield f"-body_base64 = {base64.b64encode(expected.body_base64 or b'').decode()!r}"
        yield f"+body_base64 = {base64.b64encode(body).decode()!r}"
    text = body.decode(errors="backslashreplace")
    if expected.body is not None and expected.body != text:
        lines = difflib.unified_diff(
            expected.body.splitlines(), text.splitlines(), lineterm="", n=2
        )
        yield from list(lines)[2:] or ["-body with different line ends"]
    if not is_matched(expected, answer):
        assert expected.body_matches is not None
        yield f"-body_matches = {expected.body_matches.pattern!r}"
        yield f"+body = {text[:500]!r}"


def is_matched(expected: RecordedResponse, answer: Answer) -> bool:
    """Whether the body matches the pattern ``body_matches``, if there is one."""
    text = answer.body.decode(errors="backslashreplace")
    pattern = expected.body_matches
    return pattern is None or re.fullmatch(pattern.pattern, text, re.S) is not None


def format_case(
    method: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    status: int,
    response_headers: Sequence[tuple[str, str]],
    response_body: bytes,
) -> str:
    """Format a case that expects this response, except for headers that vary."""
    kept = [item for item in response_headers if item[0].lower() not in _OMITTED_HEADERS]
    lines = [
        "# Replayed by `wagi test`. Only the response parts listed here are compared.",
        "[request]",
        f"method = {_text(method)}",
        f"target = {_text(target)}",
        *_assign("headers", format_headers(headers), bool(headers)),
        *_assign(*format_body(body), bool(body)),
        "",
        "[response]",
        f"status = {status}",
        *_assign("headers", format_headers(kept), bool(kept)),
        *_assign(*format_body(response_body)),
    ]
    return "\n".join(lines) + "\n"


def _assign(key: str, value: str, is_given: bool = True) -> list[str]:
    return [f"{key} = {value}"] if is_given else []


def format_headers(headers: Sequence[tuple[str, str]]) -> str:
    """Format the value of the key ``headers``."""
    rows = "".join(f"    [{_text(name)}, {_text(value)}],\n" for name, value in headers)
    return f"[\n{rows}]" if rows else "[]"


def format_body(body: bytes) -> tuple[str, str]:
    """Format a body. Returns: the key, ``body`` or ``body_base64``, and its value."""
    try:
        return "body", _text(body.decode())
    except UnicodeDecodeError:
        return "body_base64", f'"{base64.b64encode(body).decode()}"'


_ESCAPED = re.compile(r'[\x00-\x08\x0a-\x1f\x7f"\\]')
_SHORT = {"\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def _text(text: str) -> str:
    """Format a basic string of TOML, or a multi-line one."""
    escaped = _ESCAPED.sub(lambda found: _escape(found[0]), text)
    if "\n" not in text.removesuffix("\n"):
        return f'"{escaped}"'
    lines = escaped.replace("\\n", "\n")
    return f'"""\n{lines}"""'


def _escape(letter: str) -> str:
    return _SHORT.get(letter, f"\\u{ord(letter):04x}")
