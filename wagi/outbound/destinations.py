"""Where guests may send requests: what ``allowed_hosts`` means. Pure.

An entry is a URL (its scheme, and its port if it has one, must match too), a host, an address, or
a network. Whatever else is allowed, an address that is not a public one has to be named itself: a
guest must not reach the machine it runs on, its neighbours, or a cloud's metadata service through
a name that leads there.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

ALL = "insecure:allow-all"
_EXPECTED = (
    "expected https://HOST, http://HOST:PORT, a host, an address, a network such as 10.0.0.0/8, or"
    f" {ALL}"
)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    scheme: str = ""
    port: int | None = None

    def matches(self, scheme: str, host: str, port: int) -> bool:
        return self.host == host and self.scheme in ("", scheme) and self.port in (None, port)


class Destinations:
    """The servers that a handler may ask."""

    def __init__(self, allowed_hosts: tuple[str, ...]) -> None:
        """Raises: ValueError for an entry that is none."""
        self._all = ALL in allowed_hosts
        self._entries: list[_Entry] = []
        self._networks: list[Network] = []
        for text in allowed_hosts:
            if text != ALL:
                self._add(text)

    def _add(self, text: str) -> None:
        if "://" not in text and "/" in text:
            try:
                self._networks.append(ipaddress.ip_network(text))
            except ValueError:
                raise ValueError(f"{text!r}: {_EXPECTED}") from None
            return
        address = _address(text[1:-1] if text[:1] + text[-1:] == "[]" else text)
        if address is not None:
            self._entries.append(_Entry(str(address)))
            return
        try:
            parts = urlsplit(text if "://" in text else f"//{text}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError(f"{text!r}: {_EXPECTED}") from None
        address = _address(host)
        if parts.scheme not in ("", "http", "https") or "@" in parts.netloc:
            raise ValueError(f"{text!r}: {_EXPECTED}")
        if address is None and not _HOST.fullmatch(host):
            raise ValueError(f"{text!r}: {_EXPECTED}")
        self._entries.append(_Entry(str(address or host), parts.scheme, port))

    def why_denied(self, scheme: str, host: str, port: int) -> str:
        """Why a request must not be sent; empty if it may.

        What the name leads to is asked of ``allows_address`` once it is known.
        """
        if "%" in host:
            return f"{host} names an interface of this machine"
        address = _address(host)
        name = str(address or host)
        if any(entry.matches(scheme, name, port) for entry in self._entries):
            return ""
        if address is not None and self._in_networks(address):
            return ""
        if self._all and (address is None or _is_public(address)):
            return ""
        what = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}"
        if self._all:
            return f"{what} is not a public address: name it in allowed_hosts"
        return f"{what} is not in allowed_hosts"

    def allows_address(self, text: str, port: int) -> bool:
        """Whether a name may lead to this address."""
        address = _address(text.partition("%")[0])
        if address is None:
            return False
        if _is_public(address) or self._in_networks(address):
            return True
        return any(
            entry.port in (None, port)
            and (entry.host == str(address) or (entry.host == "localhost" and address.is_loopback))
            for entry in self._entries
        )

    def _in_networks(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _address(text: str) -> Address | None:
    try:
        return _unwrapped(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:  # spellings that systems take for addresses, too: 127.1, 0x7f000001
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, if it is of that kind."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped or address.sixtofour:
            return address.ipv4_mapped or address.sixtofour or address
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast
