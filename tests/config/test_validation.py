"""The explanation of validation errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
)

from wagi.config.validation import InvalidValue, KeyPath, explain_validation_error


def _check_even(value: int) -> int:
    if value % 2:
        raise ValueError("expected an even number")
    return value


def _check_not_13(value: int) -> int:
    if value == 13:
        raise ValueError("13 brings bad luck")
    return value


class Wheel(BaseModel):
    """A nested table."""

    model_config = ConfigDict(extra="forbid")

    size: Annotated[StrictInt, Field(ge=1, le=30)] = 1


class Car(BaseModel):
    """A document."""

    model_config = ConfigDict(extra="forbid")

    name: StrictStr
    kind: Literal["van", "bus"] = "van"
    is_new: StrictBool = False
    speed: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    seats: Annotated[int, AfterValidator(_check_even), AfterValidator(_check_not_13)] = 2
    plate: Annotated[str, Field(pattern="^[A-Z]+$")] = "A"
    wheels: list[Wheel] = Field(default_factory=list)
    spares: dict[StrictStr, Wheel] = Field(default_factory=dict)


def explain(document: dict[str, Any], *names: Any) -> list[InvalidValue]:
    with pytest.raises(ValidationError) as caught:
        Car.model_validate(document)
    return explain_validation_error(caught.value, Car, *names)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 5, "name: expected a string, found 5"),
        ("kind", "car", "kind: expected 'van' or 'bus', found 'car'"),
        ("is_new", 1, "is_new: expected true or false, found 1"),
        ("speed", 0, "speed: expected more than 0, found 0"),
        ("speed", "fast", "speed: expected a number, found 'fast'"),
        ("speed", float("nan"), "speed: expected a finite number, found nan"),
        ("seats", 3, "seats: expected an even number, found 3"),
        ("seats", True, "seats: expected an even number, found true"),
        ("seats", "two", "seats: expected a whole number, found 'two'"),
        ("plate", "a", "plate: expected a string that matches ^[A-Z]+$, found 'a'"),
        ("wheels", {}, "wheels: expected an array, found a table"),
        ("wheels", [5], "wheels.0: expected a table, found 5"),
        ("wheels", [{"size": 0}], "wheels.0.size: expected 1 or more, found 0"),
        ("wheels", [{"size": 31}], "wheels.0.size: expected at most 30, found 31"),
        ("wheels", [{"size": []}], "wheels.0.size: expected a whole number, found an array"),
        ("wheels", [{"sizes": 1}], "unknown key 'sizes': did you mean 'size'?"),
        ("spares", [], "spares: expected a table, found an array"),
        ("spares", {"x": {"xyz": 1}}, "unknown key 'xyz': known keys: size"),
        ("spares", {"size": {"xyz": 1}}, "unknown key 'xyz': known keys: size"),
        ("nmae", 1, "unknown key 'nmae': did you mean 'name'?"),
    ],
)
def test_messages(key: str, value: object, message: str) -> None:
    assert [mistake.message for mistake in explain({"name": "a", key: value})] == [message]


def test_a_missing_key() -> None:
    assert explain({}) == [InvalidValue(("name",), "required key 'name' is missing")]


def test_a_message_without_an_expectation_is_unchanged() -> None:
    class Lucky(BaseModel):
        number: Annotated[int, AfterValidator(_check_not_13)]

    with pytest.raises(ValidationError) as caught:
        Lucky.model_validate({"number": 13})
    (mistake,) = explain_validation_error(caught.value, Lucky)
    assert mistake.message == "number: 13 brings bad luck"


def test_long_values_are_cut() -> None:
    (mistake,) = explain({"name": "a", "kind": "x" * 200})
    assert len(mistake.message) < 120


def test_every_error_is_explained_with_its_path() -> None:
    mistakes = explain({"name": 1, "wheels": [{"size": 2}, {"size": "x"}]})
    assert [mistake.path for mistake in mistakes] == [("name",), ("wheels", 1, "size")]


def test_the_caller_names_values() -> None:
    def last(path: KeyPath) -> str:
        return f"<{path[-1]}>"

    assert explain({"name": "a", "wheels": [{"size": 0}]}, last) == [
        InvalidValue(("wheels", 0, "size"), "<size>: expected 1 or more, found 0")
    ]
