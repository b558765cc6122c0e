"""Quantities of Kubernetes, such as ``500m`` and ``64Mi``. Pure."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_QUANTITY = re.compile(
    r"([+-]?[0-9.]{1,30})(?:([eE][+-]?[0-9]{1,2})|(n|u|m|k|M|G|T|P|E|[KMGTPE]i)?)"
)
_FACTORS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def parse_quantity(value: object) -> Decimal:
    """Read a quantity.

    Raises:
        ValueError: It is none.
    """
    match = _QUANTITY.fullmatch(str(value))
    try:
        if match:
            return Decimal(match[1] + (match[2] or "")) * _FACTORS[match[3] or ""]
    except ArithmeticError:
        pass
    raise ValueError(f"expected a quantity such as 500m or 64Mi, found {value!r}")


def format_quantity(value: Decimal) -> str:
    """Write a quantity as a whole number, if possible of mebibytes, or else in thousandths."""
    if value and value % _FACTORS["Mi"] == 0:
        return f"{int(value / _FACTORS['Mi'])}Mi"
    if value == value.to_integral_value():
        return str(int(value))
    return f"{int((value * 1000).to_integral_value(ROUND_CEILING))}m"


def add_quantities(values: list[object]) -> object:
    """Add quantities; a single one keeps its notation.

    Raises:
        ValueError: One of them is none.
    """
    total = sum(map(parse_quantity, values), Decimal(0))
    return values[0] if len(values) == 1 else format_quantity(total)
