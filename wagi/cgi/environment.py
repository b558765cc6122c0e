"""Build the environment and the arguments of a guest from a request (RFC 3875 §4.1). Pure.

Each request header becomes a variable, so clients control the names of variables. These
headers are dropped:

- ``Proxy`` would become HTTP_PROXY, which programs take for their configuration (CVE-2016-5385).
- A name with an underscore could pass for another header: ``X_Real_IP`` and ``X-Real-IP`` would
  become the same variable.
- ``Authorization`` and ``Proxy-Authorization`` hold credentials (RFC 3875 §4.1.18 and §9.2). The
  first is passed on if the route is configured to do so.
- ``Connection`` and ``Transfer-Encoding`` describe the connection between the client and the
  gateway, not the request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from wagi.cgi.spin import CLIENT_ADDRESS, SpinRoute, client_address

SERVER_SOFTWARE = "WAGI/1"
DEFAULT_PORTS = {"http": "80", "https": "443"}
"""The port of a URL that has none, by its scheme (RFC 9110 §4.2)."""
DROPPED_HEADERS = frozenset((b"connection", b"proxy", b"proxy-authorization", b"transfer-encoding"))
"""Header fields that no guest gets."""
_PLACEHOLDER = re.compile(r"\$\{(SCRIPT_NAME|ARGS)\}")
_RESERVED_NAMES = frozenset(
    (
        *("GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT"),
        *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "X_RAW_PATH_INFO", "PATH_TRANSLATED"),
        *("QUERY_STRING", "X_MATCHED_ROUTE", "X_FULL_URL", "CONTENT_LENGTH", "CONTENT_TYPE"),
        *("REMOTE_ADDR", "REMOTE_HOST", "REMOTE_USER", "AUTH_TYPE", "REQUEST_URI"),
        *("REQUEST_SCHEME", "HTTPS", "REMOTE_PORT", "SERVER_ADDR"),
    )
)


_REQUEST_VARIABLES = 17  # those that every request has


class BadRequest(ValueError):
    """A request that cannot be passed to a guest; the message is fit for the client (400)."""


class RequestTooLarge(BadRequest):
    """A request whose variables and arguments exceed the limit of the route (431)."""


class RequestHead(NamedTuple):
    """The parts of a request that become variables.

    Attributes:
        method: The method.
        path: The path as sent, valid UTF-8.
        query: The query as sent, valid UTF-8; None for a target without ``?``.
        protocol: The protocol version that the client used, such as ``HTTP/1.1``.
        headers: Names and values in arrival order, undecoded.
        content_length: The length of the body in bytes, whether or not the client sent it.
        scheme: The scheme of the requested URL, ``http`` or ``https``.
        server_name: The host of that URL; an IPv6 address is in brackets.
        server_port: The port of that URL.
        remote_address: The IP address of the client, empty if unknown.
        remote_port: The port of the client, empty if unknown.
        server_address: The local IP address of the connection, empty for a unix socket.
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
    remote_port: str
    server_address: str


@dataclass(frozen=True, slots=True)
class RouteVariables:
    """The part of the environment that is the same for all requests of a route, encoded once.

    Attributes:
        fixed: The variables that do not depend on the request, each as ``NAME=value`` and a NUL.
        header_like: Configured variables whose names begin with HTTP_; headers replace them.
        pass_authorization: Whether guests get the Authorization header.
        is_spin: Whether it is a route of a spin.toml, whose guests get X_CLIENT_ADDR.
    """

    fixed: bytes
    header_like: Mapping[str, str]
    pass_authorization: bool
    is_spin: bool = False

    @classmethod
    def prepare(
        cls,
        script_name: str,
        matched_route: str,
        configured: Mapping[str, str],
        pass_authorization: bool = False,
        spin_route: SpinRoute | None = None,
    ) -> RouteVariables:
        """Encode the variables that do not depend on the request.

        Args:
            script_name: The matched route without ``/...``.
            matched_route: The route as configured.
            configured: The operator's variables. Those with the name of a CGI variable are left
                out.
            pass_authorization: Whether guests get the Authorization header.
            spin_route: The route of a component of Spin; None for any other route.
        """
        values = {k: v for k, v in configured.items() if k not in _RESERVED_NAMES}
        header_like = {k: values.pop(k) for k in list(values) if k.startswith("HTTP_")}
        values |= {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": SERVER_SOFTWARE,
            "SCRIPT_NAME": script_name,
            "X_MATCHED_ROUTE": matched_route,
            "REMOTE_USER": "",
            "AUTH_TYPE": "",
        }
        if spin_route is not None:
            values |= spin_route.variables
            values.pop(CLIENT_ADDRESS, None)
        fixed = "".join(f"{name}={value}\0" for name, value in values.items()).encode()
        return cls(fixed, header_like, pass_authorization, spin_route is not None)

    def environment(self, head: RequestHead, raw_path_info: str) -> bytes:
        """Return all variables of a request, each as ``NAME=value`` and terminated by a NUL.

        Args:
            head: The request.
            raw_path_info: The part of its path that follows SCRIPT_NAME, as sent.

        Raises:
            BadRequest: A value has a NUL byte, or the decoded path is not UTF-8.
        """
        path_info = decode_path(raw_path_info)
        query = head.query or ""
        uri = head.path if head.query is None else f"{head.path}?{query}"
        scheme, authority = head.scheme, head.server_name
        if head.server_port != DEFAULT_PORTS[scheme]:
            authority = f"{authority}:{head.server_port}"
        from_headers = _header_variables(head.headers)
        content_type = from_headers.get("HTTP_CONTENT_TYPE", "")
        if not self.pass_authorization:
            from_headers.pop("HTTP_AUTHORIZATION", None)
        if self.header_like:
            from_headers = {**self.header_like, **from_headers}
        # One text, encoded once, takes less time than encoding each variable.
        variables = (
            f"SERVER_PROTOCOL={head.protocol}\0SERVER_NAME={head.server_name}\0"
            f"SERVER_PORT={head.server_port}\0SERVER_ADDR={head.server_address}\0"
            f"REQUEST_METHOD={head.method}\0REQUEST_URI={uri}\0REQUEST_SCHEME={scheme}\0"
            f"PATH_INFO={path_info}\0X_RAW_PATH_INFO={raw_path_info}\0"
            f"PATH_TRANSLATED={path_info}\0QUERY_STRING={query}\0"
            f"X_FULL_URL={scheme}://{authority}{uri}\0"
            f"CONTENT_LENGTH={head.content_length}\0CONTENT_TYPE={content_type}\0"
            f"REMOTE_ADDR={head.remote_address}\0REMOTE_HOST={head.remote_address}\0"
            f"REMOTE_PORT={head.remote_port}\0"
        )
        count = _REQUEST_VARIABLES + len(from_headers)
        if scheme == "https":
            variables += "HTTPS=on\0"
            count += 1
        if self.is_spin:
            client = client_address(head.remote_address, head.remote_port)
            variables += f"{CLIENT_ADDRESS}={client}\0"
            count += 1
        variables += "".join([f"{name}={value}\0" for name, value in from_headers.items()])
        if variables.count("\0") != count:
            raise BadRequest("The request has a NUL byte in its path or headers.")
        return self.fixed + variables.encode()


def _header_variables(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the HTTP_* variables; values of a repeated header are joined in arrival order."""
    values: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = _variable_name(raw_name)
        if name is None:
            continue
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            # The historical encoding of header values (RFC 9110 §5.5), in which all bytes are
            # characters. The guest gets UTF-8 in either case.
            value = raw_value.decode("iso-8859-1")
        if name in values:
            # RFC 9110 §5.3; cookies are pairs, not a list (RFC 6265bis §5.8).
            separator = "; " if name == "HTTP_COOKIE" else ", "
            value = f"{values[name]}{separator}{value}"
        values[name] = value
    return values


# Browsers send the same few dozen names. The size bounds the memory that a client can use by
# inventing names.
@lru_cache(maxsize=1024)
def _variable_name(raw_name: bytes) -> str | None:
    """Return the variable for a header; None if the header is dropped."""
    lower = raw_name.lower()
    if lower in DROPPED_HEADERS or b"_" in lower:
        return None
    return "HTTP_" + lower.decode("ascii").upper().replace("-", "_")


def decode_path(raw: str) -> str:
    """Percent-decode a path once; ``+`` stays ``+``.

    Raises:
        BadRequest: The decoded path is not UTF-8.
    """
    if "%" not in raw:
        return raw
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadRequest("The request's path is not UTF-8 when decoded.") from None


def arguments(template: str | None, path: str, query: str | None) -> bytes:
    """A guest's argv (docs/contract.md, "Arguments"): each argument is ended by a NUL.

    The template is split before parts of the request are substituted into it, so a client cannot
    add words to its fixed part. ``${SCRIPT_NAME}`` stands for the path of the request, not for
    the variable SCRIPT_NAME, as in the original. ``${ARGS}`` as a word of its own becomes
    one word for each query item.

    Args:
        template: The ``argv`` key of the entry; None for the default, the path and the query items.
        path: The path of the request as sent.
        query: The query as sent, None or empty for no query items.

    Raises:
        BadRequest: An argument has a NUL byte.
    """
    if template is None and not query and "\0" not in path:
        return f"{path}\0".encode()
    items = query.split("&") if query else []
    if template is None:
        words = [path, *items]
    else:
        values = {"SCRIPT_NAME": path, "ARGS": " ".join(items)}
        words = []
        for word in template.split():
            if word == "${ARGS}":
                words += items
            else:
                # In one pass: a path or a query item that reads like a placeholder stays as it is.
                words.append(_PLACEHOLDER.sub(lambda found: values[found[1]], word))
    words.append("")
    block = "\0".join(words)
    if block.count("\0") != len(words) - 1:
        raise BadRequest("The request has a NUL byte in its target.")
    return block.encode()


def check_size(environment: bytes, argv: bytes, limit: int | None) -> None:
    """Check that variables and arguments are not too large together.

    Args:
        environment: The variables, each ended by a NUL.
        argv: The arguments, each ended by a NUL.
        limit: The largest sum of their lengths in bytes, without the NULs; None for no limit.

    Raises:
        RequestTooLarge: They are larger.
    """
    if limit is None or len(environment) + len(argv) <= limit:
        return
    if len(environment) - environment.count(0) + len(argv) - argv.count(0) > limit:
        message = "The request's header fields and target are too large together"
        raise RequestTooLarge(f"{message} (environment_limit).")
