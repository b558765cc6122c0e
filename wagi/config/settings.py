"""The options of a server (docs/contract.md, "Command line of Wagi").

Each is declared here, once: its flag, environment variable, default, validation and help derive
from the field.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from wagi.config.resources import core_count, memory_for_guests
from wagi.config.values import (
    HostPort,
    Size,
    UnixPath,
    format_size,
    parse_listen,
    parse_pair,
    parse_size,
)

MAX_WORKERS = 512


class Topic(Enum):
    """The section of the help that lists an option, in the order of the sections."""

    LISTENING = "Listening"
    TLS = "TLS"
    LIMITS = "Limits"
    PROCESSES = "Processes"
    LOGGING = "Logging"
    MODULES = "Modules"
    BINDLE = "Bindle"
    DEVELOPMENT = "Development"


@dataclass(frozen=True, slots=True)
class Flag:
    """What the command line cannot derive from the name and the type of a field.

    Attributes:
        metavar: What the help calls the value; empty for a switch, which takes none.
        short: A short flag, such as ``-l``.
        alias: Another long flag.
        variable: The environment variable; None for no variable. It is derived by default.
    """

    metavar: str = ""
    short: str = ""
    alias: str = ""
    variable: str | None = "WAGI_{NAME}"


@dataclass(frozen=True, slots=True)
class Option:
    """A setting as an option of the command line.

    Attributes:
        flags: Its flags, the short one first.
        variable: The environment variable that sets it, if any.
        metavar: What the help calls the value; empty for a switch.
        is_repeatable: Whether it may be given more than once.
        topic: The section of the help that lists it.
        default: Its default as a user would type it; empty for no default.
        help: The help text.
    """

    flags: tuple[str, ...]
    variable: str | None
    metavar: str
    is_repeatable: bool
    topic: Topic
    default: str
    help: str


def _format_default(value: object, metavar: str) -> str:
    if value is None or value is False or value == ():
        return ""
    if isinstance(value, int) and metavar.startswith("SIZE"):
        return format_size(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


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
    """Read a number of workers, or ``auto``.

    Raises:
        ValueError: For anything else.
    """
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


Count = Annotated[int, Flag("N")]
Seconds = Annotated[float, Flag("SECONDS"), Field(allow_inf_nan=False)]
SizeOption = Annotated[Size, Flag("SIZE")]
Switch = Annotated[bool, Flag()]
FilePath = Annotated[Path | None, Flag("FILE")]
DirectoryPath = Annotated[Path | None, Flag("DIR")]


class Settings(BaseModel):
    """The options of a server; its routes are in a route map.

    The name of a field is also its name on the command line: ``max_request_line`` is the flag
    ``--max-request-line`` and the environment variable ``WAGI_MAX_REQUEST_LINE``. ``Flag`` has the
    exceptions.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="forbid")

    listen: Annotated[
        HostPort | UnixPath, _parsed(parse_listen), Flag("ADDRESS", short="-l"), Topic.LISTENING
    ] = Field(
        HostPort("127.0.0.1", 3000),
        description="Address to listen on: HOST:PORT, :PORT, [IPV6]:PORT or"
        " unix:/path[,mode=0660][,group=NAME].",
    )
    admin_listen: Annotated[
        HostPort | UnixPath | None, _parsed(parse_listen), Flag("ADDRESS"), Topic.LISTENING
    ] = Field(
        None,
        description="Address for probes, metrics and the routes in force (/livez, /readyz,"
        " /metrics, /config); none by default.",
    )
    hostname: Annotated[
        HostPort | None,
        _parsed(HostPort.parse),
        Flag("HOST:PORT", alias="--default-host"),
        Topic.LISTENING,
    ] = Field(
        None,
        description="Host and port for requests whose Host header lacks them.",
    )
    env: Annotated[
        tuple[tuple[str, str], ...],
        _parse_each(parse_pair),
        Flag("KEY=VALUE", short="-e", variable=None),
        Topic.MODULES,
    ] = Field((), description="Environment variable for every handler.")
    env_file: Annotated[tuple[Path, ...], Flag("FILE", variable=None), Topic.MODULES] = Field(
        (),
        description="File of KEY=VALUE lines: environment variables for every handler; --env takes"
        " precedence.",
    )
    log_dir: Annotated[Path | Literal["none"] | None, Flag("DIR|none"), Topic.LOGGING] = Field(
        None,
        description="Directory for the handlers' stderr, or none for the server's log only; a new"
        " temporary directory by default.",
    )
    workers: Annotated[
        int | Literal["auto"], _parsed(parse_workers), Flag("N|auto"), Topic.PROCESSES
    ] = Field(
        "auto",
        description="Worker processes; auto is one per core, or per core of a CPU quota.",
    )
    artefact_cache: Annotated[DirectoryPath, Topic.MODULES] = Field(
        None,
        description="Directory for compiled modules; wagi/artefacts in the user's cache directory"
        " by default.",
    )
    artefact_cache_size: Annotated[SizeOption, Topic.MODULES] = Field(
        1024**3,
        description="Size limit of the compiled-module cache; least recently used entries are"
        " evicted.",
    )
    cache: Annotated[FilePath, Topic.MODULES] = Field(
        None,
        description="wasmtime's cache configuration (TOML), used for compiled modules.",
    )
    module_cache: Annotated[DirectoryPath, Topic.MODULES] = Field(
        None,
        description="Directory for modules from registries, bindles and the web; wagi/modules in"
        " the user's cache directory by default.",
    )
    max_module_size: Annotated[SizeOption, Topic.MODULES] = Field(
        256 * 1024**2, description="Maximum size of a downloaded module."
    )
    insecure_registry: Annotated[tuple[str, ...], Flag("HOST[:PORT]"), Topic.MODULES] = Field(
        (),
        description="Connect to this registry over plain HTTP; loopback registries always are.",
    )
    registry_config: Annotated[DirectoryPath, Topic.MODULES] = Field(
        None,
        description="Directory of further Docker configuration files (*.json) with credentials for"
        " registries, such as the pull secrets of a pod.",
    )
    bindle: Annotated[str | None, Flag("NAME/VERSION", short="-b"), Topic.BINDLE] = Field(
        None, description="Serve the handlers of a bindle instead of a modules.toml."
    )
    bindle_path: Annotated[DirectoryPath, Topic.BINDLE] = Field(
        None,
        description="Directory of standalone bindles; takes precedence over --bindle-url.",
    )
    bindle_url: Annotated[str | None, Flag("URL", variable="{NAME}"), Topic.BINDLE] = Field(
        None, description="URL of the Bindle server, with the API version: http://HOST:8080/v1."
    )
    bindle_http_user: Annotated[str | None, Flag("USER", variable="{NAME}"), Topic.BINDLE] = Field(
        None, description="User name for the Bindle server (HTTP Basic authentication)."
    )
    bindle_http_password: Annotated[
        str | None, Flag("PASSWORD", variable="{NAME}"), Topic.BINDLE
    ] = Field(None, repr=False, description="Password for --bindle-http-user.")
    bindle_insecure: Annotated[bool, Flag(short="-k"), Topic.BINDLE] = Field(
        False, description="Accept any certificate of the Bindle server."
    )
    tls_cert: Annotated[FilePath, Topic.TLS] = Field(
        None, description="Certificate chain (PEM) for HTTPS; requires --tls-key."
    )
    tls_key: Annotated[FilePath, Topic.TLS] = Field(
        None, description="Private key (PEM) for --tls-cert."
    )
    trusted_proxy: Annotated[
        tuple[Network | Literal["unix"], ...],
        _parse_each(_parse_peer),
        Flag("CIDR|unix"),
        Topic.LISTENING,
    ] = Field((), description="Trust X-Forwarded-* and Forwarded headers from this peer.")
    spool_limit: Annotated[SizeOption, Topic.LIMITS] = Field(
        64 * 1024**2,
        description="Maximum size of a request body without Content-Length, which is spooled"
        " before the handler starts.",
    )
    spool_total: Annotated[SizeOption, Topic.LIMITS] = Field(
        1024**3,
        description="Maximum size of all spooled bodies together, per worker; requests beyond it"
        " are answered with 503.",
    )
    max_concurrency: Annotated[Count, Field(ge=1, le=10_000), Topic.LIMITS] = Field(
        1000, description="Maximum guests running concurrently, per worker."
    )
    memory_budget: Annotated[
        int | Literal["auto"], BeforeValidator(_parse_budget), Flag("SIZE|auto"), Topic.LIMITS
    ] = Field(
        "auto",
        description="Memory for all guests of all workers together; auto is the container's limit"
        " less what the server itself needs, or three quarters of the machine's memory; 0 disables"
        " the limit.",
    )
    memory: Annotated[Literal["auto", "pool"], Flag("[auto|pool]"), Topic.PROCESSES] = Field(
        "auto",
        description="Allocator of guest memory: auto is the compiled core if it is available,"
        " otherwise wasmtime's pool.",
    )
    max_connections: Annotated[Count, Field(ge=1), Topic.LIMITS] = Field(
        10_000,
        description="Maximum open connections, per worker; further ones are closed.",
    )
    max_request_line: Annotated[SizeOption, Field(ge=64), Topic.LIMITS] = Field(
        8 * 1024,
        description="Maximum size of a request target; larger ones are answered with 414.",
    )
    max_request_header: Annotated[SizeOption, Field(ge=64), Topic.LIMITS] = Field(
        64 * 1024,
        description="Maximum size of the header section of a request; larger ones are answered"
        " with 431.",
    )
    header_timeout: Annotated[Seconds, Field(gt=0), Topic.LIMITS] = Field(
        10.0, description="Time limit for receiving the head of a request."
    )
    keep_alive: Annotated[Seconds, Field(gt=0), Topic.LISTENING] = Field(
        75.0, description="Time an idle connection stays open between requests."
    )
    min_body_rate: Annotated[SizeOption, Topic.LIMITS] = Field(
        240,
        description="Minimum upload rate of a request body in bytes per second, after a grace"
        " period of 5 s, while the handler waits for it; 0 disables it.",
    )
    log_size: Annotated[SizeOption, Field(ge=1024), Topic.LOGGING] = Field(
        10 * 1024**2,
        description="Size at which the log of a module is rotated to module.stderr.1.",
    )
    shutdown_timeout: Annotated[Seconds, Field(ge=0), Topic.PROCESSES] = Field(
        30.0, description="Grace period for running requests after SIGTERM."
    )
    shutdown_delay: Annotated[Seconds, Field(ge=0), Topic.PROCESSES] = Field(
        0.0,
        description="Time after SIGTERM in which the service is not ready but still accepts"
        " connections, before the grace period begins.",
    )
    reload_on_change: Annotated[Switch, Topic.PROCESSES] = Field(
        False,
        description="Reload when modules.toml, a module, an env file or the TLS certificate"
        " changes; a failed reload is retried.",
    )
    loop: Annotated[
        Literal["auto", "asyncio", "uvloop"], Flag("[auto|asyncio|uvloop]"), Topic.PROCESSES
    ] = Field("auto", description="Event loop; auto is uvloop if it is installed.")
    watch: Annotated[Switch, Topic.DEVELOPMENT] = Field(
        False, description="For development: rebuild and reload when a file changes."
    )
    dev: Annotated[Switch, Topic.DEVELOPMENT] = Field(
        False,
        description="For development: --watch, file and line in backtraces, and a page on loopback"
        " that shows what handlers see and do.",
    )
    dev_listen: Annotated[
        HostPort, _parsed(HostPort.parse), Flag("HOST:PORT"), Topic.DEVELOPMENT
    ] = Field(HostPort("127.0.0.1", 3001), description="Loopback address of the --dev page.")
    log_format: Annotated[Literal["text", "json"], Flag("[text|json]"), Topic.LOGGING] = Field(
        "text",
        description="Format of the server's log on stderr, with the handlers' stderr, and of the"
        " access log unless --access-log is given; json is one object per line.",
    )
    access_log: Annotated[
        Literal["text", "json", "off"], Flag("[text|json|off]"), Topic.LOGGING
    ] = Field(
        "text",
        description="Format of the access log on stdout, one line per request; text is shorter on"
        " a terminal; --log-format sets the default.",
    )

    @classmethod
    def option(cls, name: str) -> Option:
        """Derive the command-line option of a field.

        Args:
            name: The name of the field.
        """
        field = cls.model_fields[name]
        flag = next(item for item in field.metadata if isinstance(item, Flag))
        flags = (flag.short, f"--{name.replace('_', '-')}", flag.alias)
        return Option(
            flags=tuple(filter(None, flags)),
            variable=flag.variable and flag.variable.format(NAME=name.upper()),
            metavar=flag.metavar,
            is_repeatable=get_origin(field.annotation) is tuple,
            topic=next(item for item in field.metadata if isinstance(item, Topic)),
            default=_format_default(field.default, flag.metavar),
            help=field.description or "",
        )

    @property
    def access_log_format(self) -> str:
        """The format of the access log: that of the other logs unless it is given."""
        return self.access_log if "access_log" in self.model_fields_set else self.log_format

    @property
    def worker_count(self) -> int:
        """The number of workers; ``auto`` is the number of cores that this process may use."""
        if self.workers == "auto":
            return min(core_count(), MAX_WORKERS)
        return self.workers

    @property
    def memory_budget_size(self) -> int:
        """Bytes of memory for all guests together; 0 for no limit."""
        if self.memory_budget == "auto":
            helpers = (self.admin_listen is not None) + self.reload_on_change
            return memory_for_guests(self.worker_count, helpers=helpers)
        return self.memory_budget
