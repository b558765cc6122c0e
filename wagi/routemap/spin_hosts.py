"""Translate the network permissions of a spin.toml to ``allowed_hosts``. Pure.

In Spin, an entry without a port stands for the default port of its scheme, and each part of
``SCHEME://HOST:PORT`` may be ``*``. In ``allowed_hosts``, a part that is left out may have any
value.
"""

from __future__ import annotations

import re

from wagi.cgi.environment import DEFAULT_PORTS

_ALL = "insecure:allow-all"
_ANY = "*"
_EXPECTED = "expected SCHEME://HOST or SCHEME://HOST:PORT"
_ENTRY = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|(?:\*|(?:\*\.)?[\w-][\w.-]*))(?P<bits>/[0-9]+)?"
    r"(?::(?P<port>\*|[0-9.]+))?/?",
    re.ASCII,
)
_PORTS = re.compile(r"([0-9]{1,5})\.\.([0-9]{1,5})")
_MAX_PORTS = 100


def has_template(text: str) -> bool:
    """Return whether a text has an expression of Spin: ``{{ variable }}``."""
    return re.search(r"\{\{.*?\}\}", text, re.DOTALL) is not None


def allowed_hosts(text: str) -> list[str]:
    """Translate an entry of ``allowed_outbound_hosts``.

    Raises:
        ValueError: It is invalid, or allows something that handlers cannot do here.
    """
    scheme, separator, rest = _checked(text).partition("://")
    found = _ENTRY.fullmatch(rest)
    if not separator or not found:
        raise ValueError(f"{_EXPECTED}, found {text!r}")
    if scheme not in (*DEFAULT_PORTS, _ANY):
        raise ValueError(
            f"{text!r}: handlers can send only HTTP requests: expected http, https or *, found"
            f" {scheme!r}"
        )
    _check_host(text, found["host"])
    port = found["port"] or DEFAULT_PORTS.get(scheme, "")
    if not port:
        raise ValueError(f"{text!r}: expected a port, as the scheme {scheme!r} has no default one")
    if found["bits"]:
        if (scheme, port) != (_ANY, _ANY):
            raise ValueError(
                f"{text!r}: networks can be allowed only for all schemes and ports: write"
                f" *://{found['host']}{found['bits']}:*"
            )
        return [f"{found['host']}{found['bits']}"]
    origin = found["host"] if scheme == _ANY else f"{scheme}://{found['host']}"
    if port == _ANY:
        return [_ALL if origin == _ANY else origin]
    return [f"{origin}:{number}" for number in _ports(text, port)]


def allowed_http_hosts(text: str) -> list[str]:
    """Translate an entry of the older ``allowed_http_hosts``: a host, with a port or without.

    Raises:
        ValueError: It is invalid, or allows something that handlers cannot do here.
    """
    if _checked(text) == _ALL:
        return [_ALL]
    host = text.strip().partition("://")[2] or text.strip()
    found = _ENTRY.fullmatch(host)
    if not found or found["bits"] or found["port"] == _ANY:
        raise ValueError(f"expected HOST, HOST:PORT or {_ALL}, found {text!r}")
    _check_host(text, found["host"])
    if found["port"]:
        return [f"{found['host']}:{number}" for number in _ports(text, found["port"])]
    return [f"{scheme}://{found['host']}:{port}" for scheme, port in DEFAULT_PORTS.items()]


def _checked(text: str) -> str:
    if has_template(text):
        raise ValueError(f"{text!r}: variables are not supported: write the host itself")
    return text.strip()


def _check_host(text: str, host: str) -> None:
    if host in ("self", "self.alt") or f".{host}".endswith(".spin.internal"):
        raise ValueError(
            f"{text!r}: requests to the application's own components are not supported: allow the"
            " address of the server, and send them there"
        )


def _ports(text: str, port: str) -> range:
    """The port, or the ports of a range whose end is excluded."""
    found = _PORTS.fullmatch(port)
    start, end = (int(found[1]), int(found[2])) if found else (0, 0)
    if port.isdecimal():
        start, end = int(port), int(port) + 1
    if not 0 <= start < end <= 65536:
        raise ValueError(f"{text!r}: expected a port, or a range of ports such as 8000..8010")
    if end - start > _MAX_PORTS:
        raise ValueError(
            f"{text!r}: expected a range of at most {_MAX_PORTS} ports: write * for all ports"
        )
    return range(start, end)
