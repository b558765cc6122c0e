"""Rewrite a recorded case so that it expects the response that was received."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wagi.config.text import read_text
from wagi.errors import ConfigurationError, WagiError
from wagi.routemap.lines import toml_statements
from wagi.testing.cases import (
    CaseFile,
    RecordedResponse,
    differences,
    format_body,
    format_headers,
    is_matched,
    parse_case,
)
from wagi.testing.local_gateway import Answer


class RewriteError(WagiError):
    """The file has to be edited by hand; the message is the reason."""


def rewrite_case(file: CaseFile, answer: Answer) -> None:
    """Replace the values in a case that differ from the response.

    Comments, the request, and what the case does not compare stay as they are.

    Args:
        file: The case.
        answer: The response that was received.

    Raises:
        RewriteError: The values cannot be replaced, or the file cannot be written.
    """
    text = rewritten(file.path, read_text(file.path), file.case.response, answer)
    try:
        file.path.write_bytes(text.encode())
    except OSError as error:
        raise RewriteError(f"cannot be written: {error.strerror}") from None


def rewritten(path: Path, text: str, expected: RecordedResponse, answer: Answer) -> str:
    """Replace the values in the text of a case; see ``rewrite_case``."""
    if not is_matched(expected, answer):
        raise RewriteError("the body does not match body_matches: change the pattern by hand")
    lines = text.splitlines(keepends=True)
    statements = {statement.path: statement for statement in toml_statements(text)}
    changes = [
        (statements.get(("response", key)), key, new) for key, new in _changes(expected, answer)
    ]
    for statement, key, (new_key, value) in sorted(
        changes, key=lambda change: change[0].first if change[0] else 0, reverse=True
    ):
        if statement is None:
            raise RewriteError(f"cannot replace {key}: expected it in a table [response]")
        name = lines[statement.first - 1].partition("=")[0].rstrip().removesuffix(key)
        lines[statement.first - 1 : statement.last] = [f"{name}{new_key} = {value}\n"]
    new_text = "".join(lines)
    if "\r\n" in text:
        new_text = new_text.replace("\r\n", "\n").replace("\n", "\r\n")
    try:
        remaining = list(differences(parse_case(path, new_text).response, answer))
    except ConfigurationError as error:
        remaining = [str(error)]
    if remaining:
        raise RewriteError(
            "cannot replace the values: write each key of [response] on its own line"
        )
    return new_text


def _changes(expected: RecordedResponse, answer: Answer) -> Iterator[tuple[str, tuple[str, str]]]:
    """The keys to replace, each with its new key and value."""
    if expected.status not in (None, answer.status):
        yield "status", ("status", str(answer.status))
    found = [(name.lower(), value) for name, value in answer.headers]
    if any((name.lower(), value) not in found for name, value in expected.headers):
        yield "headers", ("headers", format_headers(_matching_headers(expected, answer)))
    body = answer.body
    if expected.body is not None and expected.body.encode() != body:
        yield "body", format_body(body)
    if expected.body_base64 not in (None, body):
        yield "body_base64", format_body(body)


def _matching_headers(expected: RecordedResponse, answer: Answer) -> list[tuple[str, str]]:
    """The expected headers with the values of the response, without those that it does not have."""
    left = list(answer.headers)
    headers = []
    for name, value in expected.headers:
        same_name = [item for item in left if item[0].lower() == name.lower()]
        chosen = next((item for item in same_name if item[1] == value), None)
        chosen = chosen or next(iter(same_name), None)
        if chosen is not None:
            left.remove(chosen)
            headers.append((name, chosen[1]))
    return headers
