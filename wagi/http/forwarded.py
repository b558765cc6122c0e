"""Determine the client of a request that arrives through trusted proxies (RFC 7239). Pure.

X-Forwarded-* and Forwarded are ordinary headers unless they come from a trusted proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Sequence[tuple[bytes, bytes]]

_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,\s"]*)\s*(?:;|\Z)')
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """The client of a request.

    Attributes:
        address: IP address, empty if unknown.
        scheme: Scheme of the requested URL; None to use that of the connection.
        host: Host of the requested URL; None to use that of the request.
        trusted: Whether the peer of the connection is a trusted proxy.
        is_peer: Whether the address is that of the peer, not one from a forwarding header.
    """

    address: str
    scheme: str | None = None
    host: str | None = None
    trusted: bool = False
    is_peer: bool = True


class TrustedProxies:
    """The proxies whose X-Forwarded-* and Forwarded headers are honored."""

    def __init__(self, peers: Iterable[Network | Literal["unix"]] = ()) -> None:
        peers = tuple(peers)
        self._unix = "unix" in peers
        self._networks = tuple(peer for peer in peers if peer != "unix")

    def client(self, peer: str | None, headers: Headers) -> ClientInfo:
        """Determine the client of a request.

        Args:
            peer: IP address of the peer; None for a unix socket.
            headers: Header fields of the request.
        """
        direct_client = self.direct_client(peer)
        if direct_client is not None:
            return direct_client
        forwarded = _x_forwarded(headers) or _forwarded(headers)
        client = next((a for a in reversed(forwarded.chain) if not self._trusts(a)), None)
        if client is None:
            client = (
                forwarded.chain[0]
                if forwarded.chain
                else ""
                if peer is None
                else normalize_address(peer)
            )
        return ClientInfo(
            client, forwarded.scheme, forwarded.host, trusted=True, is_peer=not forwarded.chain
        )

    def direct_client(self, peer: str | None) -> ClientInfo | None:
        """Return the client of a connection, or None if the peer is a trusted proxy."""
        address = "" if peer is None else normalize_address(peer)
        if self._unix if peer is None else self._trusts(address):
            return None
        return _direct_client(address)

    def _trusts(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


@lru_cache(maxsize=4096)
def _direct_client(address: str) -> ClientInfo:
    return ClientInfo(address)


@dataclass(frozen=True, slots=True)
class _Forwarded:
    """The values of the forwarding headers.

    Attributes:
        chain: The client first, then the peer of each proxy; the last one is the nearest.
        scheme: Scheme that the client used.
        host: Host that the client used.
    """

    chain: tuple[str, ...] = ()
    scheme: str | None = None
    host: str | None = None

    def __bool__(self) -> bool:
        return bool(self.chain or self.scheme or self.host)


def _x_forwarded(headers: Headers) -> _Forwarded:
    hosts = _values(headers, b"x-forwarded-host")
    return _Forwarded(
        _addresses(_values(headers, b"x-forwarded-for")),
        _scheme(_values(headers, b"x-forwarded-proto")),
        hosts[-1] if hosts else None,
    )


def _forwarded(headers: Headers) -> _Forwarded:
    chain: list[str] = []
    last: dict[str, str] = {}
    text = ",".join(value for name, value in _decoded(headers) if name == b"forwarded")
    for element in _ELEMENT.findall(text):
        last = {name.lower(): _unquote(value) for name, value in _PAIR.findall(element)}
        chain.append(last.get("for", ""))
    return _Forwarded(_addresses(chain), _scheme([last.get("proto", "")]), last.get("host"))


def _addresses(names: Iterable[str]) -> tuple[str, ...]:
    """Return the IP addresses after the last invalid entry; what precedes it is untrusted."""
    found: list[str] = []
    for name in reversed(list(names)):
        address = normalize_address(name)
        if not address:
            break
        found.append(address)
    return tuple(reversed(found))


# Clients and proxies recur, and parsing an address costs as much as matching a route.
@lru_cache(maxsize=4096)
def normalize_address(name: str) -> str:
    """Return an IP address without port and brackets, or an empty string if it is invalid."""
    match = re.fullmatch(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+", name)
    text = (match[1] or match[2]) if match else name
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def _scheme(values: Sequence[str]) -> str | None:
    return values[-1].lower() if values and values[-1].lower() in ("http", "https") else None


def _values(headers: Headers, wanted: bytes) -> list[str]:
    text = ",".join(value for name, value in _decoded(headers) if name == wanted)
    return [item.strip() for item in text.split(",") if item.strip()]


def _decoded(headers: Headers) -> Iterable[tuple[bytes, str]]:
    return ((name.lower(), value.decode("latin-1")) for name, value in headers)


def _unquote(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
