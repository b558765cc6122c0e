"""Handlers: compiled modules with their limits, made by ``guest.module`` and ``guest.engine``."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.guest.capi.engine import Memory
from wagi.guest.capi.linker import InstancePre
from wagi.guest.capi.store_config import (
    MODULE,
    Canonical,
    MemoryImage,
    MemoryImageSpec,
    StoreConfig,
    StoreLimits,
)
from wagi.guest.component.interfaces import PROXY
from wagi.limits import Limits


@dataclass(frozen=True, slots=True)
class Preopen:
    """A directory of the host (absolute path) that a guest sees at ``guest_path``."""

    host_path: str
    guest_path: str
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A handler without its compiled module; it can be sent to another process.

    Attributes:
        name: The module's name, for messages.
        key: The key of the compiled module's artefact.
        memory: The allocator of the engine that the module was compiled for.
        calls: The exports to call, in order.
        limits: The limits of its entry.
        store_limits: The limits of each guest's store.
        preopens: The directories that guests can access.
        image: The specification of the image that is mapped into the guests' memory, if any.
        opens_files: Whether the module can open files, if there are preopens.
        canonical: How the functions of a component are called.
        world: The world of a component, such as ``wasi:cli/command``; empty for a module.
    """

    name: str
    key: str
    memory: Memory
    calls: tuple[bytes, ...]
    limits: Limits
    store_limits: StoreLimits
    preopens: tuple[Preopen, ...]
    image: MemoryImageSpec | None
    opens_files: bool
    canonical: Canonical = MODULE
    world: str = ""

    @property
    def handles_http(self) -> bool:
        """Whether it handles requests of wasi:http, in contrast to CGI."""
        return self.world == PROXY

    @property
    def artefacts(self) -> tuple[str, ...]:
        """The keys of all artefacts that the handler needs."""
        return (self.key,) if self.image is None else (self.key, self.image.key)


class Handler:
    """A compiled module with its limits, ready to run guests.

    Attributes:
        spec: The specification of the handler.
        store_config: The configuration that the stores of its guests share.
    """

    def __init__(self, spec: HandlerSpec, pre: InstancePre, image: MemoryImage | None) -> None:
        """Make a handler.

        Args:
            spec: The specification.
            pre: The compiled module with its imports resolved.
            image: The data to map into the memory of guests, if any.
        """
        self.spec = spec
        self.store_config = StoreConfig(
            pre,
            spec.calls,
            spec.store_limits,
            spec.limits.output_buffer,
            has_preopens=bool(spec.preopens),
            image=image,
            canonical=spec.canonical,
        )

    @property
    def name(self) -> str:
        """The module's name, for messages."""
        return self.spec.name
