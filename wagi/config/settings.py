"""The settings of a server (contract §5).

A setting is declared here, once: the command line takes its flags, its environment variable, its
default, its check and its help from the field.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from wagi.config.values import HostPort, UnixPath, parse_listen, parse_pair, parse_size

DEFAULT_HOST = "localhost:3000"


@dataclass(frozen=True, slots=True)
class Flag:
    """How a setting is given on the command line.

    Parameters: ``names`` its flags; ``metavar`` what its value is called in the help;
    ``variable`` the environment variable that sets it; ``repeatable`` whether it may come often.
    """

    names: tuple[str, ...]
    metavar: str
    variable: str | None = None
    repeatable: bool = False


def _parsed(parse: Callable[[str], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _parse_each(parse: Callable[[str], Any]) -> BeforeValidator:
    return BeforeValidator(
        lambda values: tuple(parse(item) if isinstance(item, str) else item for item in values)
    )


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _parse_peer(text: str) -> Network | Literal["unix"]:
    if text == "unix":
        return "unix"
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"expected a network such as 10.0.0.0/8 or the word unix, found {text!r}"
        ) from None


class Settings(BaseModel):
    """All that can be set for a server besides its routes."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="forbid")

    listen: Annotated[
        HostPort | UnixPath,
        _parsed(parse_listen),
        Flag(("-l", "--listen"), "ADDRESS", "WAGI_LISTEN"),
    ] = Field(
        default=HostPort("127.0.0.1", 3000),
        description="Where to listen: HOST:PORT, :PORT, [IPV6]:PORT or unix:/path.",
    )
    hostname: Annotated[
        HostPort | None,
        _parsed(HostPort.parse),
        Flag(("--hostname", "--default-host"), "HOST:PORT", "WAGI_HOSTNAME"),
    ] = Field(
        default=None,
        description="The host of requests whose Host header lacks name or port.",
    )
    env: Annotated[
        tuple[tuple[str, str], ...],
        _parse_each(parse_pair),
        Flag(("-e", "--env"), "KEY=VALUE", repeatable=True),
    ] = Field(default=(), description="A variable for every handler.")
    env_file: Annotated[
        tuple[Path, ...],
        Flag(("--env-file",), "FILE", repeatable=True),
    ] = Field(
        default=(), description="A file of KEY=VALUE lines for every handler; --env goes before it."
    )
    log_dir: Annotated[Path | None, Flag(("--log-dir",), "DIR", "WAGI_LOG_DIR")] = Field(
        default=None,
        description="Where the handlers' stderr is kept: a new temporary folder unless given.",
    )
    cache: Annotated[Path | None, Flag(("--cache",), "FILE", "WAGI_CACHE")] = Field(
        default=None,
        description="wasmtime's cache configuration (TOML): compiled modules are kept as it says.",
    )
    module_cache: Annotated[Path | None, Flag(("--module-cache",), "DIR", "WAGI_MODULE_CACHE")] = (
        Field(default=None, description="Where modules from registries are kept.")
    )
    tls_cert: Annotated[Path | None, Flag(("--tls-cert",), "FILE", "WAGI_TLS_CERT")] = Field(
        default=None, description="Certificate chain (PEM): serve HTTPS. Needs --tls-key."
    )
    tls_key: Annotated[Path | None, Flag(("--tls-key",), "FILE", "WAGI_TLS_KEY")] = Field(
        default=None, description="Private key (PEM) of --tls-cert."
    )
    trusted_proxy: Annotated[
        tuple[Network | Literal["unix"], ...],
        _parse_each(_parse_peer),
        Flag(("--trusted-proxy",), "CIDR|unix", "WAGI_TRUSTED_PROXY", repeatable=True),
    ] = Field(
        default=(),
        description="A peer whose X-Forwarded-* and Forwarded headers are believed.",
    )
    spool_limit: Annotated[
        int, BeforeValidator(parse_size), Flag(("--spool-limit",), "SIZE", "WAGI_SPOOL_LIMIT")
    ] = Field(
        default=64 * 1024**2,
        description="The largest request body without Content-Length: it is read whole first.",
    )
    shutdown_timeout: Annotated[
        float, Flag(("--shutdown-timeout",), "SECONDS", "WAGI_SHUTDOWN_TIMEOUT")
    ] = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="How long running requests may go on after SIGTERM.",
    )
    loop: Annotated[
        Literal["auto", "asyncio", "uvloop"],
        Flag(("--loop",), "[auto|asyncio|uvloop]", "WAGI_LOOP"),
    ] = Field(default="auto", description="The event loop; auto takes uvloop if it is installed.")
    access_log: Annotated[
        Literal["text", "json", "off"],
        Flag(("--access-log",), "[text|json|off]", "WAGI_ACCESS_LOG"),
    ] = Field(default="text", description="One line on stdout for each request.")
