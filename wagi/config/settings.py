"""The settings of a server (docs/contract.md, "Command line of Wagi").

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

from wagi.config.resources import core_count, memory_for_guests
from wagi.config.values import HostPort, Size, UnixPath, parse_listen, parse_pair, parse_size

MAX_WORKERS = 512


@dataclass(frozen=True, slots=True)
class Flag:
    """How a setting is given on the command line.

    Parameters: ``names`` its flags; ``metavar`` what its value is called in the help;
    ``variable`` the environment variable that sets it; ``repeatable`` whether it may come often;
    ``is_switch`` whether it takes no value.
    """

    names: tuple[str, ...]
    metavar: str
    variable: str | None = None
    repeatable: bool = False
    is_switch: bool = False


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


def parse_workers(text: str) -> int | Literal["auto"]:
    """Read how many workers there are to be. Raises: ValueError."""
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"expected auto or a number from 1 to {MAX_WORKERS}, found {text!r}")
    return int(text)


def _parse_budget(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        return parse_size(value)
    except ValueError:
        raise ValueError(f"expected auto or a size such as 2GiB, found {value!r}") from None


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
        description="The host and port of requests whose Host header lacks them.",
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
    workers: Annotated[
        int | Literal["auto"],
        _parsed(parse_workers),
        Flag(("--workers",), "N|auto", "WAGI_WORKERS"),
    ] = Field(
        default="auto",
        description="Worker processes; auto is one for each core, or each of a quota.",
    )
    artefact_cache: Annotated[
        Path | None, Flag(("--artefact-cache",), "DIR", "WAGI_ARTEFACT_CACHE")
    ] = Field(
        default=None,
        description="Where compiled modules are kept: wagi/artefacts in the user's cache directory"
        " unless given.",
    )
    artefact_cache_size: Annotated[
        Size, Flag(("--artefact-cache-size",), "SIZE", "WAGI_ARTEFACT_CACHE_SIZE")
    ] = Field(
        default=1024**3,
        description="The room for compiled modules; those used longest ago go first.",
    )
    cache: Annotated[Path | None, Flag(("--cache",), "FILE", "WAGI_CACHE")] = Field(
        default=None,
        description="wasmtime's cache configuration (TOML): compiled modules are kept as it says.",
    )
    module_cache: Annotated[Path | None, Flag(("--module-cache",), "DIR", "WAGI_MODULE_CACHE")] = (
        Field(
            default=None,
            description="Where modules from registries, bindles and the web are kept: wagi/modules"
            " in the user's cache directory unless given.",
        )
    )
    max_module_size: Annotated[
        Size, Flag(("--max-module-size",), "SIZE", "WAGI_MAX_MODULE_SIZE")
    ] = Field(default=256 * 1024**2, description="The largest module that is downloaded.")
    insecure_registry: Annotated[
        tuple[str, ...],
        Flag(("--insecure-registry",), "HOST[:PORT]", "WAGI_INSECURE_REGISTRY", repeatable=True),
    ] = Field(default=(), description="A registry that speaks plain HTTP, as loopback ones do.")
    bindle: Annotated[str | None, Flag(("-b", "--bindle"), "NAME/VERSION", "WAGI_BINDLE")] = Field(
        default=None, description="Serve the handlers of a bindle instead of a modules.toml."
    )
    bindle_path: Annotated[Path | None, Flag(("--bindle-path",), "DIR", "WAGI_BINDLE_PATH")] = (
        Field(
            default=None,
            description="The directory of standalone bindles; goes before --bindle-url.",
        )
    )
    bindle_url: Annotated[str | None, Flag(("--bindle-url",), "URL", "BINDLE_URL")] = Field(
        default=None, description="The Bindle server, with the version's path: http://HOST:8080/v1."
    )
    bindle_http_user: Annotated[
        str | None, Flag(("--bindle-http-user",), "USER", "BINDLE_HTTP_USER")
    ] = Field(default=None, description="Who asks the Bindle server (basic authentication).")
    bindle_http_password: Annotated[
        str | None, Flag(("--bindle-http-password",), "PASSWORD", "BINDLE_HTTP_PASSWORD")
    ] = Field(default=None, repr=False, description="The password of --bindle-http-user.")
    bindle_insecure: Annotated[
        bool, Flag(("-k", "--bindle-insecure"), "", "WAGI_BINDLE_INSECURE", is_switch=True)
    ] = Field(default=False, description="Take any certificate of the Bindle server.")
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
    spool_limit: Annotated[Size, Flag(("--spool-limit",), "SIZE", "WAGI_SPOOL_LIMIT")] = Field(
        default=64 * 1024**2,
        description="The largest request body without Content-Length: it is read whole first.",
    )
    spool_total: Annotated[Size, Flag(("--spool-total",), "SIZE", "WAGI_SPOOL_TOTAL")] = Field(
        default=1024**3,
        description="The room for all such bodies together; without room the answer is 503.",
    )
    max_concurrency: Annotated[int, Flag(("--max-concurrency",), "N", "WAGI_MAX_CONCURRENCY")] = (
        Field(default=1000, ge=1, le=10_000, description="Guests that run at a time.")
    )
    memory_budget: Annotated[
        int | Literal["auto"],
        BeforeValidator(_parse_budget),
        Flag(("--memory-budget",), "SIZE|auto", "WAGI_MEMORY_BUDGET"),
    ] = Field(
        default="auto",
        description="The memory of all guests of all workers together; auto is the limit of the"
        " container less what the server needs itself, or three quarters of the machine's memory;"
        " 0 for no limit.",
    )
    memory: Annotated[
        Literal["auto", "pool"], Flag(("--memory",), "[auto|pool]", "WAGI_MEMORY")
    ] = Field(
        default="auto",
        description="Who allocates the memory of guests: auto is the compiled core if it is"
        " there, otherwise wasmtime's pool.",
    )
    max_connections: Annotated[int, Flag(("--max-connections",), "N", "WAGI_MAX_CONNECTIONS")] = (
        Field(default=10_000, ge=1, description="Connections; one more is closed.")
    )
    max_request_line: Annotated[
        Size, Flag(("--max-request-line",), "SIZE", "WAGI_MAX_REQUEST_LINE")
    ] = Field(default=8 * 1024, ge=64, description="The longest request target; 414 beyond.")
    max_request_header: Annotated[
        Size, Flag(("--max-request-header",), "SIZE", "WAGI_MAX_REQUEST_HEADER")
    ] = Field(default=64 * 1024, ge=64, description="The largest head of a request; 431 beyond.")
    header_timeout: Annotated[
        float, Flag(("--header-timeout",), "SECONDS", "WAGI_HEADER_TIMEOUT")
    ] = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        description="How long the head of a request may take.",
    )
    keep_alive: Annotated[float, Flag(("--keep-alive",), "SECONDS", "WAGI_KEEP_ALIVE")] = Field(
        default=75.0,
        gt=0,
        allow_inf_nan=False,
        description="How long a connection may be idle between two requests.",
    )
    min_body_rate: Annotated[Size, Flag(("--min-body-rate",), "SIZE", "WAGI_MIN_BODY_RATE")] = (
        Field(
            default=240,
            description="Bytes per second that a client has to send of a body that is waited for,"
            " after 5 seconds of grace; 0 for no floor.",
        )
    )
    log_size: Annotated[Size, Flag(("--log-size",), "SIZE", "WAGI_LOG_SIZE")] = Field(
        default=10 * 1024**2,
        ge=1024,
        description="A module's log of this size is moved to module.stderr.1.",
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
    watch: Annotated[bool, Flag(("--watch",), "", "WAGI_WATCH", is_switch=True)] = Field(
        default=False,
        description="For development: reload, and build before that, when a file changes.",
    )
    dev: Annotated[bool, Flag(("--dev",), "", "WAGI_DEV", is_switch=True)] = Field(
        default=False,
        description="For development: --watch, file and line in backtraces, and a page on loopback"
        " that shows what handlers see and do.",
    )
    dev_listen: Annotated[
        HostPort, _parsed(HostPort.parse), Flag(("--dev-listen",), "HOST:PORT", "WAGI_DEV_LISTEN")
    ] = Field(
        default=HostPort("127.0.0.1", 3001), description="Where the page of --dev is, on loopback."
    )
    access_log: Annotated[
        Literal["text", "json", "off"],
        Flag(("--access-log",), "[text|json|off]", "WAGI_ACCESS_LOG"),
    ] = Field(default="text", description="One line on stdout for each request.")

    @property
    def worker_count(self) -> int:
        """How many workers that is here: as many as cores that this process may use."""
        if self.workers == "auto":
            return min(core_count(), MAX_WORKERS)
        return self.workers

    @property
    def memory_budget_size(self) -> int:
        """Bytes that all guests may have together; 0 for no limit."""
        if self.memory_budget == "auto":
            return memory_for_guests(self.worker_count)
        return self.memory_budget
