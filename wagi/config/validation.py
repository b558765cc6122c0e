"""One explanation of validation errors, for configuration files, options and manifests alike."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

KeyPath = tuple[str | int, ...]
"""The keys and indices that lead to a value in a document."""

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "{table}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "at most {le:g}",
    "list_type": "an array",
    "literal_error": "{expected}",
    "model_attributes_type": "{table}",
    "model_type": "{table}",
    "pattern_regex": "a regular expression",
    "string_pattern_mismatch": "a string that matches {pattern}",
    "string_too_short": "a string of at least {min_length} characters",
    "string_type": "a string",
}
"""What was expected, by pydantic's type of error."""
_PSEUDO_KEY = re.compile(r"\[(?:key|[A-Z][A-Za-z]+)\]")
"""What pydantic adds to a path: ``[key]`` after a key of a table that is itself invalid, and the
tag of a table that may have several models, which is the name of its model in brackets."""


@dataclass(frozen=True, slots=True)
class InvalidValue:
    """A value that a model does not accept.

    Attributes:
        path: Where the value is, or would be if it were there.
        message: The name of the value, what was expected and what was found.
        is_key: Whether the key is wrong, and not its value.
    """

    path: KeyPath
    message: str
    is_key: bool = False


def dotted(path: KeyPath) -> str:
    """Write a path of keys: ``module.0.route``."""
    return ".".join(map(str, path))


def explain_validation_error(
    error: ValidationError,
    model: type[BaseModel],
    name: Callable[[KeyPath], str] = dotted,
    table: str = "a table",
) -> list[InvalidValue]:
    """Explain every error that pydantic has found.

    Args:
        error: What pydantic raised.
        model: The model that was validated; it knows which keys there are. The class attribute
            ``UNSUPPORTED_KEYS`` of a table explains keys that users may expect there.
        name: How messages name a value.
        table: The term of the format for a table, with an article: "a mapping" in YAML.

    Returns:
        At least one, in pydantic's order.
    """
    return [_explain(item, model, name, table) for item in error.errors()]


def _explain(
    item: Any, model: type[BaseModel], name: Callable[[KeyPath], str], table: str
) -> InvalidValue:
    path: KeyPath = tuple(key for key in item["loc"] if not _PSEUDO_KEY.fullmatch(str(key)))
    context = {"table": table, **item.get("ctx", {})}
    found = _describe(item["input"], table)
    match item["type"]:
        case "missing":
            return InvalidValue(path, f"required key {name(path)!r} is missing")
        case "extra_forbidden":
            return InvalidValue(path, _explain_unknown_key(item["loc"], model), is_key=True)
        case "value_error":
            message = str(context["error"])
            if message.startswith("expected ") and "found " not in message:
                message += f", found {found}"
        case kind if kind in _EXPECTED:
            message = f"expected {_EXPECTED[kind].format(**context)}, found {found}"
        case _:
            message = item["msg"][:1].lower() + item["msg"][1:]
    label = name(path)
    text = f"{label}: {message}" if label else message
    return InvalidValue(path, text, is_key=item["loc"][-1:] == ("[key]",))


def _explain_unknown_key(path: KeyPath, model: type[BaseModel]) -> str:
    table = _model_at(model, path[:-1])
    known = sorted(table.model_fields)
    key = str(path[-1])
    if explanation := getattr(table, "UNSUPPORTED_KEYS", {}).get(key):
        return f"unsupported key {key!r}: {explanation}"
    nearest = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"
    return f"unknown key {key!r}: {hint}"


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The model of the table that a path leads to, which may include pseudo keys."""
    candidates = [model]
    for key in path:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if key in fields:
            candidates = list(_models_in(fields[key].annotation)) or candidates
            model = candidates[0]
        elif named := [item for item in candidates if f"[{item.__name__}]" == key]:
            model = named[0]
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type refers to: ``Volume`` of ``dict[str, Volume]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _describe(value: object, table: str) -> str:
    if isinstance(value, dict):
        return table
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value!r:.80}"
