"""Quantities of Kubernetes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from wagi.webhook.quantities import add_quantities, parse_quantity

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1", "1"), ("500m", "0.5"), ("1.5", "1.5"), ("64Mi", "67108864"), ("1k", "1000")),
        *(("2e3", "2000"), ("1E3", "1000"), ("1E", "1e18"), ("1Ei", "1152921504606846976")),
        ("100n", "1e-7"),
    ],
)
def test_notations(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1g", "1e", ".", "--1", "NaN", "1" * 100, None])
def test_invalid(text: object) -> None:
    with pytest.raises(ValueError, match="expected a quantity"):
        parse_quantity(text)


def test_sums() -> None:
    assert add_quantities(["500m", "1"]) == "1500m"
    assert add_quantities(["1Gi", "1Gi"]) == "2048Mi"
    assert add_quantities(["1Gi"]) == "1Gi"
    assert add_quantities(["1", "0"]) == "1"
    assert add_quantities(["100n", "1"]) == "1001m"
