"""The allowlist of outbound requests: the meaning of ``allowed_hosts``. Pure.

An entry is a URL (whose scheme and port, if it has one, must match as well), a host, an address or
a network. A host may be ``*``, or begin with ``*.`` for all of its subdomains. An address that is
not public has to be listed itself: otherwise a guest could reach the machine that it runs on, its
network or a cloud's metadata service through a host name (SSRF).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

ALL = "insecure:allow-all"
_EXPECTED = (
    "expected https://HOST, http://HOST:PORT, a host, *.DOMAIN, an address, a network such as"
    f" 10.0.0.0/8, or {ALL}"
)
_ANY = "*"
_HOST = re.compile(r"\*|(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    scheme: str = ""
    port: int | None = None

    def matches(self, scheme: str, host: str, port: int) -> bool:
        if self.scheme not in ("", scheme) or self.port not in (None, port):
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return self.host in (host, _ANY)


class Destinations:
    """The servers that a handler may send requests to."""

    def __init__(self, allowed_hosts: tuple[str, ...]) -> None:
        """Parse the allowlist.

        Args:
            allowed_hosts: The entries.

        Raises:
            ValueError: An entry is invalid.
        """
        self._entries: list[_Entry] = []
        self._networks: list[Network] = []
        for text in allowed_hosts:
            if text == ALL:
                self._entries.append(_Entry(_ANY))
            else:
                self._add(text)

    def _add(self, text: str) -> None:
        if "://" not in text and "/" in text:
            try:
                self._networks.append(ipaddress.ip_network(text))
            except ValueError:
                raise ValueError(f"{text!r}: {_EXPECTED}") from None
            return
        address = _parse_address(text[1:-1] if text[:1] + text[-1:] == "[]" else text)
        if address is not None:
            self._entries.append(_Entry(str(address)))
            return
        try:
            parts = urlsplit(text if "://" in text else f"//{text}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise ValueError(f"{text!r}: {_EXPECTED}") from None
        address = _parse_address(host)
        if parts.scheme not in ("", "http", "https") or "@" in parts.netloc:
            raise ValueError(f"{text!r}: {_EXPECTED}")
        if address is None and not _HOST.fullmatch(host):
            raise ValueError(f"{text!r}: {_EXPECTED}")
        self._entries.append(_Entry(str(address or host), parts.scheme, port))

    def why_denied(self, scheme: str, host: str, port: int) -> str:
        """Return the reason why a request is denied, or an empty text if it is allowed.

        The addresses of a host name are checked later, by ``allows_address``.
        """
        if "%" in host:
            return f"{host} has a zone, which refers to a network interface of this machine"
        address = _parse_address(host)
        name = str(address or host)
        matching = [entry.host for entry in self._entries if entry.matches(scheme, name, port)]
        if name in matching or (address is not None and self._in_networks(address)):
            return ""
        if matching and (address is None or _is_public(address)):
            return ""
        origin = f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}"
        if matching:
            return f"{origin} is not a public address: add it to allowed_hosts"
        return f"{origin} is not in allowed_hosts"

    def allows_address(self, text: str, port: int) -> bool:
        """Return whether a host name that is allowed may resolve to this address."""
        address = _parse_address(text.partition("%")[0])
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


def _parse_address(text: str) -> Address | None:
    try:
        return _unwrap(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:  # other notations that systems accept: 127.1, 0x7f000001
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address that is embedded in an IPv6 address, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped or address.sixtofour:
            return address.ipv4_mapped or address.sixtofour or address
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast
