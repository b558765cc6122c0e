"""Whom to believe about the client: only peers that the operator named (RFC 7239). Pure.

From anybody else X-Forwarded-* and Forwarded are headers like any other.
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
class Client:
    """What is believed of the client.

    Attributes: ``address`` its IP address, empty if unknown; ``scheme`` and ``host`` of the URL it
    asked for, None where only our own connection tells; ``trusted`` whether the peer is.
    """

    address: str
    scheme: str | None = None
    host: str | None = None
    trusted: bool = False


class TrustedProxies:
    """The peers whose word counts."""

    def __init__(self, peers: Iterable[Network | Literal["unix"]] = ()) -> None:
        peers = tuple(peers)
        self._unix = "unix" in peers
        self._networks = tuple(peer for peer in peers if peer != "unix")

    def client(self, peer: str | None, headers: Headers) -> Client:
        """Who asks.

        Parameters: ``peer`` the IP address of the connection, None for a unix socket.
        """
        address = "" if peer is None else _plain(peer)
        if not (self._unix if peer is None else self._trusts(address)):
            return _stranger(address)
        forwarded = _x_forwarded(headers) or _forwarded(headers)
        client = next((a for a in reversed(forwarded.chain) if not self._trusts(a)), None)
        if client is None:
            client = forwarded.chain[0] if forwarded.chain else address
        return Client(client, forwarded.scheme, forwarded.host, trusted=True)

    def _trusts(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


@lru_cache(maxsize=4096)
def _stranger(address: str) -> Client:
    return Client(address)


@dataclass(frozen=True, slots=True)
class _Forwarded:
    """``chain``: the client first, then each proxy's peer, the last one nearest to us."""

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
    """The IP addresses of the nearest hops: what comes before one that is none is hearsay."""
    found: list[str] = []
    for name in reversed(list(names)):
        address = _plain(name)
        if not address:
            break
        found.append(address)
    return tuple(reversed(found))


# The same clients and proxies come again and again; parsing costs as much as a routing table.
@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    """An IP address without port and brackets; empty if it is none."""
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
