"""From the head of a request to a guest's variables and argv (RFC 3875 §4.1, contract §1). Pure.

A header becomes a variable, so the names of headers decide which variables a client can set:

- ``Proxy`` would become HTTP_PROXY, which programs take for their configuration (CVE-2016-5385).
- ``X_Real_IP`` would become what ``X-Real-IP`` becomes: names with an underscore are dropped.
- ``Authorization`` holds the client's secret, ``Connection`` belongs to the hop before us.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

SERVER_SOFTWARE = "WAGI/1"
_HIDDEN_HEADERS = frozenset((b"authorization", b"connection", b"proxy"))
_OWN_VARIABLES = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_NAMES = frozenset(
    (
        *("GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT"),
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "X_RAW_PATH_INFO", "PATH_TRANSLATED"),
        *("QUERY_STRING", "X_MATCHED_ROUTE", "X_FULL_URL", "CONTENT_LENGTH", "CONTENT_TYPE"),
        *("REMOTE_ADDR", "REMOTE_HOST", "REMOTE_USER", "AUTH_TYPE"),
    )
)


class BadRequest(ValueError):
    """A request that no guest can be given; the message is fit for the client (400)."""


class RequestTooLarge(BadRequest):
    """A request that makes more variables and arguments than a guest is to be given (431)."""


class RequestHead(NamedTuple):
    """All that variables are made of.

    Attributes: ``path`` and ``query`` as sent, valid UTF-8 (``query`` is None without a ``?``);
    ``protocol`` as spoken by the client; ``headers`` in arrival order, undecoded;
    ``content_length`` the true length of the body in bytes; ``scheme``, ``server_name``
    and ``server_port`` of the URL that the client asked for; ``remote_address`` its IP address.
    """

    method: str
    path: str
    query: str | None
    protocol: str
    headers: Sequence[tuple[bytes, bytes]]
    content_length: int
    scheme: str
    server_name: str
    server_port: str
    remote_address: str


@dataclass(frozen=True, slots=True)
class RouteVariables:
    """The part of the environment that is the same for all requests of a route, encoded once."""

    script_name: str
    fixed: tuple[bytes, ...]
    header_like: Mapping[str, str]

    @classmethod
    def prepare(
        cls, script_name: str, matched_route: str, configured: Mapping[str, str]
    ) -> RouteVariables:
        """Encode what is known before any request.

        Parameters: ``configured`` the operator's variables; those with the name of a CGI variable
        are left out, and those that begin with HTTP_ yield to a header of the request.
        """
        values = {k: v for k, v in configured.items() if k not in _NAMES}
        header_like = {k: values.pop(k) for k in list(values) if k.startswith("HTTP_")}
        values |= {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": SERVER_SOFTWARE,
            "SCRIPT_NAME": script_name,
            "X_MATCHED_ROUTE": matched_route,
            "REMOTE_USER": "",
            "AUTH_TYPE": "",
        }
        fixed = tuple(f"{name}={value}".encode() for name, value in values.items())
        return cls(script_name, fixed, header_like)

    def environment(self, head: RequestHead, raw_path_info: str) -> list[bytes]:
        """All variables of a request as ``NAME=value``.

        Raises: BadRequest if the request has a value that a variable cannot carry.
        """
        path_info = decode_path(raw_path_info)
        query = head.query or ""
        host = f"{head.server_name}:{head.server_port}"
        target = head.path if head.query is None else f"{head.path}?{query}"
        content_type, from_headers = _header_variables(head.headers)
        if self.header_like:
            from_headers = {**self.header_like, **from_headers}
        lines = [
            f"SERVER_PROTOCOL={head.protocol}",
            f"SERVER_NAME={head.server_name}",
            f"SERVER_PORT={head.server_port}",
            f"REQUEST_METHOD={head.method}",
            f"PATH_INFO={path_info}",
            f"X_RAW_PATH_INFO={raw_path_info}",
            f"PATH_TRANSLATED={path_info}",
            f"QUERY_STRING={query}",
            f"X_FULL_URL={head.scheme}://{host}{target}",
            f"CONTENT_LENGTH={head.content_length}",
            f"CONTENT_TYPE={content_type}",
            f"REMOTE_ADDR={head.remote_address}",
            f"REMOTE_HOST={head.remote_address}",
        ]
        lines += [f"{name}={value}" for name, value in from_headers.items()]
        text = "\0".join(lines)
        if text.count("\0") != len(lines) - 1:
            raise BadRequest("The request has a NUL byte in its path or headers.")
        return [*self.fixed, *text.encode().split(b"\0")]


def _header_variables(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, dict[str, str]]:
    """CONTENT_TYPE and the HTTP_* variables; a repeated header is joined in arrival order."""
    values: dict[str, str] = {}
    try:
        for raw_name, raw_value in headers:
            name = _variable_name(raw_name)
            if name is None:
                continue
            value = raw_value.decode()
            if name in values:
                # RFC 9110 §5.3; cookies are not a list but pairs (RFC 6265bis §5.8).
                separator = "; " if name == "HTTP_COOKIE" else ", "
                value = f"{values[name]}{separator}{value}"
            values[name] = value
    except UnicodeDecodeError:
        raise BadRequest("The request has a header that is not UTF-8.") from None
    values.pop("CONTENT_LENGTH", None)
    return values.pop("CONTENT_TYPE", ""), values


# Browsers send the same few dozen names; a client that makes names up cannot fill the memory.
@lru_cache(maxsize=1024)
def _variable_name(raw_name: bytes) -> str | None:
    lower = raw_name.lower()
    if lower in _HIDDEN_HEADERS or b"_" in lower:
        return None
    own = _OWN_VARIABLES.get(lower)
    return own or "HTTP_" + lower.decode("ascii").upper().replace("-", "_")


def decode_path(raw: str) -> str:
    """Percent-decode a path once; ``+`` stays ``+``. Raises: BadRequest if it is not UTF-8."""
    if "%" not in raw:
        return raw
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadRequest("The request's path is not UTF-8 when decoded.") from None


def arguments(template: str | None, script_name: str, query: str | None) -> list[bytes]:
    """A guest's argv (contract §1).

    The template is split before anything of the request is put into it: a client cannot add words
    to its fixed part. ``${ARGS}`` as a word of its own becomes one word for each query item.

    Raises: BadRequest if an argument cannot be carried.
    """
    if template is None and not query:
        return [script_name.encode()]
    items = query.split("&") if query else []
    words: list[str] = []
    for word in ("${SCRIPT_NAME} ${ARGS}" if template is None else template).split():
        if word == "${ARGS}":
            words += items
        else:
            # The items go in last, so that one that reads ${SCRIPT_NAME} stays what it is.
            named = word.replace("${SCRIPT_NAME}", script_name)
            words.append(named.replace("${ARGS}", " ".join(items)))
    encoded = [word.encode() for word in words]
    if any(b"\0" in word for word in encoded):
        raise BadRequest("The request has a NUL byte in its query.")
    return encoded


def check_size(environment: Iterable[bytes], argv: Iterable[bytes], limit: int | None) -> None:
    """Refuse what is more than ``limit`` bytes together. Raises: RequestTooLarge."""
    if limit is not None and sum(map(len, environment)) + sum(map(len, argv)) > limit:
        raise RequestTooLarge("The request's header fields and target are too large together.")
