"""The keys of a ``[[module]]`` that serves static files: ``static`` in place of ``module``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, ClassVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictStr,
    field_validator,
    model_validator,
)

from wagi.routemap.entries import Entry, ModuleEntry, NonEmptyText

_HEADER_VALUE = re.compile(r"[!-~]+(?: [!-~]+)*")
_OF_HANDLERS = "it applies to handlers, and no handler runs for static files: remove it"


def _check_path(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError(f"expected the path of a file below the directory, found {value!r}")
    return str(path)


def _check_name(value: str) -> str:
    if "/" in value or value in (".", ".."):
        raise ValueError(f"expected the name of a file, without a slash, found {value!r}")
    return value


def _check_header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError(f"expected a value such as 'public, max-age=3600', found {value!r}")
    return value


def _by_pattern(value: object) -> object:
    return {"*": value} if isinstance(value, str) else value


_FileBelow = Annotated[NonEmptyText, AfterValidator(_check_path)]
_CacheControl = Annotated[StrictStr, AfterValidator(_check_header_value)]


class StaticEntry(Entry):
    """One ``[[module]]`` with ``static``: a route and the directory behind it."""

    UNSUPPORTED_KEYS: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(ModuleEntry.model_fields.keys() - {"route"}, _OF_HANDLERS),
        "module": "an entry has either `module` or `static`: remove one of them",
    }

    static: NonEmptyText = Field(
        description="The directory whose files are served, relative to the file with the entry."
    )
    index: Annotated[NonEmptyText, AfterValidator(_check_name)] = Field(
        default="index.html", description="The file that is served for a directory."
    )
    fallback: _FileBelow | None = Field(
        default=None,
        description="The file that is served with status 200 for every path without a file, as"
        " single-page applications need it.",
    )
    not_found: _FileBelow | None = Field(
        default=None,
        description="The page that is served with status 404 for paths without a file.",
    )
    cache_control: Annotated[
        dict[StrictStr, _CacheControl],
        BeforeValidator(_by_pattern, json_schema_input_type=StrictStr | dict[StrictStr, StrictStr]),
    ] = Field(
        default_factory=dict,
        description="The Cache-Control header, or a table of values by patterns of paths. The"
        " first matching pattern counts; `*` matches any characters.",
    )

    @field_validator("route")
    @classmethod
    def _check_route(cls, value: str) -> str:
        if value.startswith("/") and not value.endswith("/..."):
            route = value.rstrip("/") + "/..."
            raise ValueError(
                f"expected a route for all paths of a directory, such as {route!r}, found {value!r}"
            )
        return value

    @model_validator(mode="after")
    def _check_one_page(self) -> StaticEntry:
        if self.fallback is not None and self.not_found is not None:
            raise ValueError(
                "expected either fallback or not_found, found both: with a fallback, every path has"
                " a file"
            )
        return self
