"""Build the request that a handler of wasi:http gets. Pure.

Handlers get the header fields of the client in order and undecoded, with these exceptions:

- The fields that CGI programs do not get (``wagi.cgi.environment``) are left out. Names with an
  underscore are among them: a handler that is a proxy may pass them on to a CGI program.
- ``Authorization`` is passed on unless the entry withholds it: other servers of wasi:http pass it
  on, so handlers expect it.
- For the routes of a spin.toml, the fields that Spin adds replace those that a client sends.

https://github.com/WebAssembly/wasi-http
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from wagi.cgi.environment import DEFAULT_PORTS, DROPPED_HEADERS, RequestHead, RequestTooLarge
from wagi.cgi.spin import SpinRoute, client_address
from wagi.guest.http_exchange import HeaderFields, HttpRequest

_AUTHORIZATION = b"authorization"
_SPIN_HEADERS = {
    "X_BASE_PATH": b"spin-base-path",
    "X_RAW_COMPONENT_ROUTE": b"spin-raw-component-route",
    "X_COMPONENT_ROUTE": b"spin-component-route",
}
"""The header fields that have the values of variables of CGI programs."""
_SPIN_PREFIX = b"spin-"


@dataclass(frozen=True, slots=True)
class RequestRules:
    """How the requests for a route become those that its handler gets.

    Attributes:
        environment: The configured variables, each as NAME=value and terminated by a NUL. Handlers
            of wasi:http get no variables of CGI.
        pass_authorization: Whether handlers get the Authorization header.
        spin_headers: The fields that Spin adds to every request; None if it is not the route of a
            spin.toml.
    """

    environment: bytes
    pass_authorization: bool
    spin_headers: HeaderFields | None = None

    @classmethod
    def prepare(
        cls,
        matched_route: str,
        configured: Mapping[str, str],
        pass_authorization: bool,
        spin_route: SpinRoute | None,
    ) -> RequestRules:
        """Prepare the parts that are the same for all requests.

        Args:
            matched_route: The route as configured.
            configured: The operator's variables.
            pass_authorization: Whether handlers get the Authorization header.
            spin_route: The route of a component of Spin; None for any other route.
        """
        environment = "".join(f"{name}={value}\0" for name, value in configured.items()).encode()
        spin_headers = None
        if spin_route is not None:
            values = spin_route.variables
            spin_headers = (
                (b"spin-matched-route", matched_route.encode()),
                *((header, values[name].encode()) for name, header in _SPIN_HEADERS.items()),
            )
        return cls(environment, pass_authorization, spin_headers)

    def request(self, head: RequestHead, raw_path_info: str, limit: int | None) -> HttpRequest:
        """Build a request.

        Args:
            head: The request of the client.
            raw_path_info: The part of the path after the route, not decoded.
            limit: Maximum size of the path, the query and the header fields in bytes; None for no
                limit.

        Raises:
            RequestTooLarge: The request is larger.
        """
        uri = head.path if head.query is None else f"{head.path}?{head.query}"
        authority = head.server_name
        if head.server_port != DEFAULT_PORTS[head.scheme]:
            authority = f"{authority}:{head.server_port}"
        fields = [
            (name, value)
            for raw_name, value in head.headers
            if (name := _passed_name(raw_name)) is not None
        ]
        if not self.pass_authorization:
            fields = [field for field in fields if field[0] != _AUTHORIZATION]
        if self.spin_headers is not None:
            fields = [field for field in fields if not field[0].startswith(_SPIN_PREFIX)]
            fields += self.spin_headers
            fields.append((b"spin-path-info", raw_path_info.encode()))
            fields.append((b"spin-full-url", f"{head.scheme}://{authority}{uri}".encode()))
            client = client_address(head.remote_address, head.remote_port)
            fields.append((b"spin-client-addr", client.encode()))
        if limit is not None:
            size = len(uri) + sum([len(name) + len(value) for name, value in fields])
            if size > limit:
                message = "The request's header fields and target are too large together"
                raise RequestTooLarge(f"{message} (environment_limit).")
        return HttpRequest(head.method, uri, head.scheme, authority, tuple(fields))


# As in ``wagi.cgi.environment``, the size bounds the memory that clients can use.
@lru_cache(maxsize=1024)
def _passed_name(raw_name: bytes) -> bytes | None:
    """Return the name of a header field in lowercase; None if the field is left out."""
    name = raw_name.lower()
    return None if name in DROPPED_HEADERS or b"_" in name else name
