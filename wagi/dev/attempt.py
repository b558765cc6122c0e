"""Sends the request of the dev page's form to the server."""

from __future__ import annotations

import base64
import codecs
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from string import punctuation
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

_RESPONSE_MAX = 1024 * 1024  # bytes that are shown of a response
_CHUNK_SIZE = 16 * 1024  # bytes
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN_HEADERS = frozenset(("connection", "content-length", "transfer-encoding"))
_AUTOMATIC = ("Accept-Encoding", "Content-Type", "User-Agent")


class InvalidAttempt(ValueError):
    """The form cannot be sent. The message describes which field is wrong, and why."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request to send.

    Attributes:
        method: Its method.
        target: Path and query, percent-encoded.
        headers: Names and values.
        body: The body.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Attempt:
        """Read the fields of the form.

        Args:
            fields: ``method``, ``path``, ``headers`` (one per line), ``type`` (the media type of
                the body, unless ``headers`` has one), and ``body`` or ``body_base64``.

        Raises:
            InvalidAttempt: A field is invalid.
        """
        method, path = _string(fields, "method"), _string(fields, "path").strip()
        if not _TOKEN.fullmatch(method):
            raise InvalidAttempt(f"method: expected a name such as GET, found {method!r}")
        path = path if path.startswith("/") else "/" + path
        target = quote(path.partition("#")[0], safe=punctuation, errors="replace")
        headers = parse_headers(_string(fields, "headers"))
        body = _body(fields)
        names = {name.lower() for name, _ in headers}
        content_type = _string(fields, "type")
        if body and content_type and "content-type" not in names:
            headers.append(("Content-Type", content_type))
        if "user-agent" not in names:
            headers.append(("User-Agent", "wagi-dev"))
        return cls(method, target, tuple(headers), body)


def parse_headers(text: str) -> list[tuple[str, str]]:
    """Parse header fields, one per line.

    Raises:
        InvalidAttempt: A line is not ``Name: value``, or has a field that is set automatically.
    """
    headers = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if not colon or not _TOKEN.fullmatch(name) or _CONTROL_CHARACTER.search(value):
            raise InvalidAttempt(f"headers, line {number}: expected Name: value, found {line!r}")
        if name.lower() in _OWN_HEADERS:
            raise InvalidAttempt(f"headers, line {number}: {name} is set automatically: remove it")
        headers.append((name, value))
    return headers


async def send(attempt: Attempt, server: str) -> AsyncIterator[dict[str, Any]]:
    """Send a request, and yield its response as it arrives.

    Args:
        attempt: The request.
        server: The URL of the server, or ``unix:PATH``.

    Yields:
        An event with ``status``, ``reason`` and ``headers``, events with ``text``, and a last one
        with ``ms`` and ``size``. An event with ``error`` ends an incomplete response.
    """
    started = time.perf_counter()
    connector, base = _connector(server)
    timeout = aiohttp.ClientTimeout(total=None)  # the server has time limits, the page a button
    try:
        async with (
            aiohttp.ClientSession(
                timeout=timeout,
                connector=connector,
                auto_decompress=False,
                skip_auto_headers=_AUTOMATIC,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.request(
                attempt.method,
                URL(base + attempt.target, encoded=True),
                headers=attempt.headers,
                data=attempt.body or None,
                allow_redirects=False,
                ssl=False,  # it is this server, whose certificate may be self-signed
            ) as response,
        ):
            yield {
                "status": response.status,
                "reason": response.reason,
                "headers": [
                    (name.decode(errors="replace"), value.decode(errors="replace"))
                    for name, value in response.raw_headers
                ],
            }
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            size = 0
            async for data in response.content.iter_chunked(_CHUNK_SIZE):
                size += len(data)
                yield {"text": decoder.decode(data)}
                if size > _RESPONSE_MAX:
                    yield {"error": f"the rest is not shown: it exceeds {_RESPONSE_MAX} bytes"}
                    return
            yield {"text": decoder.decode(b"", final=True)}
    except (aiohttp.ClientError, OSError, ValueError) as error:
        yield {"error": f"no complete response: {error}"}
    else:
        yield {"ms": (time.perf_counter() - started) * 1000, "size": size}


def _connector(url: str) -> tuple[aiohttp.BaseConnector | None, str]:
    """The connector and base URL for the server, which may listen on a Unix socket."""
    if url.startswith("unix:"):
        return aiohttp.UnixConnector(url.removeprefix("unix:")), "http://localhost"
    return None, url


def _string(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise InvalidAttempt(f"{name}: expected a string")
    return value


def _body(fields: Mapping[str, Any]) -> bytes:
    if encoded := _string(fields, "body_base64"):
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError:
            raise InvalidAttempt("body_base64: expected base64") from None
    return _string(fields, "body").encode("utf-8", "replace")
