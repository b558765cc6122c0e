"""A handler: a compiled module with its limits. Values only; ``guest.engine`` makes them."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.guest.capi.engine import Memory
from wagi.guest.capi.linker import InstancePre
from wagi.guest.capi.store import Image, ImagePlace, StoreLimits, StorePlan
from wagi.limits import Limits


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
        memory: The allocator of the engine that it was compiled for.
        calls: The exports to call, in order.
        limits: The limits of its entry.
        store_limits: What the store of a guest allows.
        preopens: The directories that its guests see.
        image: The place of the data that is mapped into its guests' memory, if any is.
    """

    name: str
    key: str
    memory: Memory
    calls: tuple[bytes, ...]
    limits: Limits
    store_limits: StoreLimits
    preopens: tuple[Preopen, ...]
    image: ImagePlace | None

    @property
    def artefacts(self) -> tuple[str, ...]:
        """The keys of its artefacts."""
        return (self.key,) if self.image is None else (self.key, self.image.key)


class Handler:
    """A compiled module with its limits, ready to run guests.

    Attributes:
        spec: What it was made from.
        plan: What the stores of its guests have in common.
    """

    def __init__(self, spec: HandlerSpec, pre: InstancePre, image: Image | None) -> None:
        """Make a handler.

        Args:
            spec: All of it but the compiled module.
            pre: The module with its imports resolved.
            image: The data that is mapped into the memory of its guests.
        """
        self.spec = spec
        self.plan = StorePlan(
            pre,
            spec.calls,
            spec.store_limits,
            spec.limits.output_buffer,
            has_preopens=bool(spec.preopens),
            image=image,
        )

    @property
    def name(self) -> str:
        """The module's name, for messages."""
        return self.spec.name
