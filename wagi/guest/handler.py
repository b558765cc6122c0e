"""A handler: a compiled module with its limits. Values only; ``guest.engine`` makes them."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.guest.capi import InstancePre, StoreLimits
from wagi.guest.scheduler import Ticker


@dataclass(frozen=True, slots=True)
class Limits:
    """What a guest may use.

    Attributes:
        memory: Bytes of linear memory; tables get an eighth of it besides.
        output_buffer: Bytes of output that have not been sent at which the guest has to wait.
    """

    memory: int
    output_buffer: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class Preopen:
    """A directory of the host (absolute path) that a guest sees at ``guest_path``."""

    host_path: str
    guest_path: str
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """All of a handler but the compiled module itself, fit to be sent to another process.

    Attributes:
        name: The module's name, for messages.
        key: The key of its artefact.
        pooled: Which engine it was compiled for.
        calls: The exports to call, in order.
        limits: What a guest may use.
        store_limits: What the store of a guest allows.
        preopens: The directories that its guests see.
    """

    name: str
    key: str
    pooled: bool
    calls: tuple[bytes, ...]
    limits: Limits
    store_limits: StoreLimits
    preopens: tuple[Preopen, ...]


@dataclass(frozen=True, slots=True)
class Handler:
    """A compiled module with its limits, ready to run guests.

    Attributes:
        spec: What it was made from.
        pre: The module with its imports resolved.
        ticker: The clock of the engine that runs it.
    """

    spec: HandlerSpec
    pre: InstancePre
    ticker: Ticker

    @property
    def name(self) -> str:
        """The module's name, for messages."""
        return self.spec.name
