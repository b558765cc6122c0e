"""The list of limits, and what is derived from it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict

import pytest

from wagi.limits import Limits, Unit, limit_fields
from wagi.routemap.entries import Defaults


def test_limits_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().timeout = 1  # type: ignore[misc]


def test_every_limit_is_declared() -> None:
    declared = {limit.name: limit for limit in limit_fields()}
    assert {name: limit.default for name, limit in declared.items()} == asdict(Limits())
    for limit in declared.values():
        assert limit.description[0].isupper()
        assert limit.description.endswith(".")
        assert (limit.unit.value in limit.description) or limit.unit is Unit.COUNT


def test_descriptions_have_the_unit_and_the_meaning_of_0() -> None:
    texts = {limit.name: limit.description for limit in limit_fields()}
    assert texts["cpu_timeout"] == "CPU time of a guest (seconds; 0 disables the limit)."
    assert texts["header_limit"] == "Size of the header block of a response (bytes)."
    assert texts["stderr_limit"].endswith("(bytes; 0 disables the limit). The rest is dropped.")


def test_every_limit_is_a_key_with_its_default() -> None:
    assert Defaults.model_fields.keys() == {"environment", *asdict(Limits())}
    assert Defaults().limits == Limits()


def test_0_means_no_limit_if_the_limit_is_optional() -> None:
    """0 is converted to None for optional limits, and stays 0 for others."""
    for limit in limit_fields():
        if limit.minimum == 0:
            found = getattr(Defaults.model_validate({limit.name: 0}).limits, limit.name)
            assert found == (None if limit.zero_disables else 0), limit.name
    disabled = {limit.name for limit in limit_fields() if limit.zero_disables}
    assert disabled == {
        "timeout", "cpu_timeout", "queue_timeout", "body_limit", "environment_limit",
        "stderr_limit", "http_timeout", "http_response_limit",
    }  # fmt: skip
