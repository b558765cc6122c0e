"""Values as people write them: sizes, addresses, pairs."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {
    "": 1,
    "B": 1,
    "K": 1024,
    "M": 1024**2,
    "G": 1024**3,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
}


def parse_size(value: object) -> int:
    """Read a size: bytes as a number, or a text such as ``"64MiB"``.

    Returns: the size in bytes. Raises: ValueError for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("expected a size of 0 bytes or more")
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]*)", value.strip())
        if match and match[2].upper() in _UNITS:
            return int(match[1]) * _UNITS[match[2].upper()]
    raise ValueError('expected a size: bytes, or a text such as "64MiB"')


def format_size(size: int) -> str:
    """Format a number of bytes as ``parse_size`` reads it, such as ``64MiB``.

    Args:
        size: Bytes; only exact multiples get a unit.
    """
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str)]
"""Bytes, in a model."""


def parse_port(text: str) -> int:
    """Read the number of a TCP port; 0 selects a free one.

    Raises:
        ValueError: For anything else.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError(f"expected a port from 0 to 65535, found {text!r}")
    return int(text)


_EXPECTED_ADDRESS = "expected HOST:PORT, :PORT, [IPV6]:PORT or unix:/path"


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host name or IP address and a port, either of which may be missing (empty, None)."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Read ``host``, ``host:port``, ``[v6]``, ``[v6]:port`` or ``:port`` (RFC 3986 §3.2).

        An IPv6 host keeps its brackets. Raises: ValueError for anything else.
        """
        match = re.fullmatch(
            r"(\[[0-9A-Fa-f:.]+\]|[^\x00-\x20:/?#@\[\]\\\x7f-\U0010ffff]*)(?::(\d{0,5}))?", text
        )
        if not match:
            raise ValueError("expected HOST, HOST:PORT or [IPV6]:PORT")
        port = int(match[2]) if match[2] else None
        if port is not None and port > 65535:
            raise ValueError("expected a port of at most 65535")
        if match[1].startswith("["):
            ipaddress.IPv6Address(match[1][1:-1])
        return cls(match[1], port)

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """The host as a socket wants it: without brackets."""
        return self.host.strip("[]")


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A unix socket and who may connect to it.

    Attributes:
        path: Its file.
        mode: The permissions of the file.
        group: The name or number of the group that owns the file; empty for the server's own.
    """

    path: Path
    mode: int = 0o660
    group: str = ""

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @classmethod
    def parse(cls, text: str) -> UnixPath:
        """Read ``PATH[,mode=OCTAL][,group=NAME]``.

        Raises:
            ValueError: The path is missing, or an option is unknown, invalid or given twice.
        """
        path, *options = text.split(",")
        if not path:
            raise ValueError(_EXPECTED_ADDRESS)
        values: dict[str, str] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key not in ("mode", "group") or not value:
                raise ValueError(
                    f"expected mode=0660 or group=NAME after the path, found {option!r}"
                )
            if key in values:
                raise ValueError(f"expected one {key}, found {values[key]!r} and {value!r}")
            values[key] = value
        return cls(Path(path), _parse_mode(values.get("mode", "0660")), values.get("group", ""))


def _parse_mode(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f"expected a mode of three octal digits, such as 0660, found {text!r}")
    mode = int(text, 8)
    if not mode & 0o222:
        raise ValueError(f"mode {text} lets no user connect: connecting requires write permission")
    return mode


def parse_listen(text: str) -> HostPort | UnixPath:
    """Read where to listen: ``HOST:PORT``, ``:PORT``, ``[IPV6]:PORT`` or ``unix:PATH``.

    ``UnixPath.parse`` describes the options that may follow a path.

    Raises:
        ValueError: For anything else.
    """
    if text.startswith("unix:"):
        return UnixPath.parse(text.removeprefix("unix:"))
    try:
        address = HostPort.parse(text)
    except ValueError:
        raise ValueError(f"{_EXPECTED_ADDRESS}, found {text!r}") from None
    if address.port is None:
        raise ValueError(f"{_EXPECTED_ADDRESS}, found no port in {text!r}")
    return address


def parse_pair(text: str) -> tuple[str, str]:
    """Read ``KEY=VALUE`` as the original does: one pair of quotes around the value is stripped.

    Raises: ValueError for an empty key or a missing ``=``.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"expected KEY=VALUE, found {text!r}")
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    check_variable(key, value)
    return key, value


def check_variable(key: str, value: str) -> None:
    """Refuse what cannot be an environment variable. Raises: ValueError."""
    if not key or "=" in key or "\0" in key:
        raise ValueError(f"expected the name of a variable, found {key!r}")
    if "\0" in value:
        raise ValueError(f"the value of {key} has a NUL byte, which no variable can carry")
    try:
        f"{key}={value}".encode()
    except UnicodeEncodeError:  # what a terminal made of other bytes
        raise ValueError(f"expected UTF-8, found {f'{key}={value}'!r}") from None
