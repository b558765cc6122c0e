"""Saves a request of the dev page as a case for ``wagi test``."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wagi.cgi.response import BODILESS, BadResponse, ResponseHead, ResponseParser
from wagi.testing.cases import format_case

CASES_FOLDER = "cases"
"""The folder of the cases in the folder of the project."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# They describe the connection, or follow from the body.
_OMITTED_HEADERS = frozenset(("connection", "content-length", "transfer-encoding", "expect"))


class SaveError(ValueError):
    """The request cannot be saved. The message is the reason."""


def save_case(folder: Path, name: str, record: Mapping[str, Any]) -> Path:
    """Save a request and its response.

    Args:
        folder: The folder of the project.
        name: The name of the new file, without its suffix.
        record: The record of the request, as ``Publisher`` sends it.

    Returns:
        The file, in the folder.

    Raises:
        SaveError: It cannot be saved.
    """
    if not _NAME.fullmatch(name):
        raise SaveError(f"expected a name of letters, digits and hyphens, found {name!r}")
    path = folder / CASES_FOLDER / f"{name}.toml"
    try:
        text = _format(record).encode()
    except UnicodeEncodeError:
        raise SaveError("a header is not UTF-8") from None
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("xb") as file:
            file.write(text)
    except FileExistsError:
        raise SaveError(f"{CASES_FOLDER}/{name}.toml exists already: choose another name") from None
    except OSError as error:
        raise SaveError(f"{path}: {error.strerror}") from None
    return path


def _format(record: Mapping[str, Any]) -> str:
    method, target, guest = record["method"], record["target"], record["guest"]
    if not target.startswith("/"):
        raise SaveError("a case requires a path")
    headers = [
        (name, value) for name, value in record["headers"] if name.lower() not in _OMITTED_HEADERS
    ]
    if guest is None or record["failure"]:
        raise SaveError("the handler gave no response: only its responses can be saved")
    body, output = _stream(guest, "stdin"), _stream(guest, "stdout")
    parser = ResponseParser(len(output))
    parser.feed(output)
    try:
        head = parser.end()
    except BadResponse as error:
        raise SaveError(str(error)) from None
    expected = b"" if method == "HEAD" or head.status in BODILESS else parser.take_body()
    return format_case(method, target, headers, body, head.status, _fields(head), expected)


def _stream(guest: Mapping[str, Any], name: str) -> bytes:
    data = base64.b64decode(guest[name])
    if guest[f"{name}_size"] > len(data):
        what = "request body" if name == "stdin" else "response"
        raise SaveError(
            f"only the first {len(data)} bytes of the {what} were recorded:"
            " use `wagi call --record`"
        )
    return data


def _fields(head: ResponseHead) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
