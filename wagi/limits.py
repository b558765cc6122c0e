"""The limits of a route. This is the only list of them.

To add a limit, add a field to ``Limits`` and enforce it where the resource is used. Its key in
modules.toml, the JSON schema, the reference page and the output of ``wagi routes --json`` derive
from the field; docs/security.md has to explain how its default was chosen.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints

_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3


class Unit(Enum):
    """What a limit counts. The value is how documentation names it."""

    SECONDS = "seconds"
    BYTES = "bytes"
    COUNT = ""


@dataclass(frozen=True, slots=True)
class _Documentation:
    unit: Unit
    summary: str
    note: str
    minimum: int


def _limit(
    default: float | None, unit: Unit, summary: str, note: str = "", minimum: int = 0
) -> Any:
    documentation = _Documentation(unit, summary, note, minimum)
    return field(default=default, metadata={"limit": documentation})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of an entry of a route map; all its routes share them.

    None means that there is no limit. Only configuration files write that as 0; see
    ``wagi.routemap.entries``.
    """

    timeout: float | None = _limit(
        30.0, Unit.SECONDS, "Time from the start of a guest to the end of its response"
    )
    cpu_timeout: float | None = _limit(10.0, Unit.SECONDS, "CPU time of a guest")
    memory_limit: int = _limit(
        256 * _MIB,
        Unit.BYTES,
        "Linear memory of a guest",
        "Its tables may take another eighth of that.",
    )
    max_concurrency: int | None = _limit(
        None,
        Unit.COUNT,
        "Guests that run at the same time, in all workers together",
        minimum=1,
    )
    max_queue: int = _limit(
        1000,
        Unit.COUNT,
        "Requests that wait for a slot or for memory, per worker",
        "Further requests are answered with 503.",
    )
    queue_timeout: float | None = _limit(
        10.0, Unit.SECONDS, "Time for which a request waits for a slot and for memory"
    )
    body_limit: int | None = _limit(1 * _GIB, Unit.BYTES, "Size of a request body")
    environment_limit: int | None = _limit(
        256 * _KIB, Unit.BYTES, "Size of the environment variables and the argv of a guest"
    )
    output_buffer: int = _limit(
        256 * _KIB,
        Unit.BYTES,
        "Output that has not been sent yet",
        "A guest that has written this much is suspended.",
        minimum=_KIB,
    )
    header_limit: int = _limit(
        64 * _KIB, Unit.BYTES, "Size of the header block of a response", minimum=_KIB
    )
    stderr_limit: int | None = _limit(
        1 * _MIB,
        Unit.BYTES,
        "Output to stderr that is kept of one guest",
        "The rest is dropped.",
    )
    http_max_concurrency: int = _limit(
        8, Unit.COUNT, "Responses of outbound HTTP that a guest may hold open at the same time"
    )
    http_timeout: float | None = _limit(
        30.0,
        Unit.SECONDS,
        "Time from the start of an outbound HTTP request to the end of its response",
    )
    http_response_limit: int | None = _limit(
        16 * _MIB, Unit.BYTES, "Size of the body of an outbound HTTP response"
    )


@dataclass(frozen=True, slots=True)
class LimitField:
    """What is declared about a limit.

    Attributes:
        name: The name of the field, which is also the key in configuration files.
        default: The default; None for no limit.
        unit: What it counts.
        minimum: The smallest value that a configuration file may give.
        zero_disables: Whether a configuration file disables the limit by giving 0.
        description: One or two sentences that include the unit.
    """

    name: str
    default: float | None
    unit: Unit
    minimum: int
    zero_disables: bool
    description: str


@cache
def limit_fields() -> tuple[LimitField, ...]:
    """The declarations of all limits, in order."""
    types = get_type_hints(Limits)
    return tuple(_declaration(item, types[item.name]) for item in fields(Limits))


def _declaration(item: Field[Any], annotation: object) -> LimitField:
    assert item.default is not MISSING
    documentation: _Documentation = item.metadata["limit"]
    zero_disables = NoneType in get_args(annotation) and documentation.minimum == 0
    details = [documentation.unit.value, "0 disables the limit" if zero_disables else ""]
    detail = "; ".join(filter(None, details))
    sentence = documentation.summary + (f" ({detail})." if detail else ".")
    return LimitField(
        item.name,
        item.default,
        documentation.unit,
        documentation.minimum,
        zero_disables,
        f"{sentence} {documentation.note}".strip(),
    )
