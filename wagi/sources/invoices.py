"""Invoices: what a bindle says that it has (Bindle specification, "Invoices"). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated

import tomli
from pydantic import BaseModel, Field, ValidationError

from wagi.sources.ends import FetchError

WASM = "application/wasm"


class Label(BaseModel):
    """What a parcel is: its sha256 as hex, its size in bytes, media type, name and features."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    mediaType: str = ""
    name: str = ""
    feature: dict[str, dict[str, str]] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """As images and the cache write it."""
        return f"sha256:{self.sha256}"

    @property
    def wagi(self) -> dict[str, str]:
        """The features that are for us."""
        return self.feature.get("wagi", {})


class Conditions(BaseModel):
    """How a parcel belongs to others: the groups it is in, and those it cannot do without."""

    memberOf: list[str] = Field(default_factory=list)
    requires: list[str] = Field(default_factory=list)


class Parcel(BaseModel):
    """One file of a bindle."""

    label: Label
    conditions: Conditions = Field(default_factory=Conditions)

    @property
    def is_module(self) -> bool:
        """Whether it may be a handler: a module that belongs to no group."""
        return self.label.mediaType == WASM and not self.conditions.memberOf


class Group(BaseModel):
    """A set of parcels; those who require it get the groups that it requires, too."""

    name: str
    requires: list[str] = Field(default_factory=list)


class Bindle(BaseModel):
    """The bindle's own name."""

    name: str
    version: str


class Invoice(BaseModel):
    """All that a bindle has."""

    bindle: Bindle
    group: list[Group] = Field(default_factory=list)
    parcel: list[Parcel] = Field(default_factory=list)

    def module(self, parcel: str) -> Parcel:
        """The module of a bindle: the first one, or the one of this sha256. Raises: FetchError."""
        for item in self.parcel:
            if item.label.sha256 == parcel if parcel else item.is_module:
                return item
        raise FetchError(f"no parcel of it is a module ({WASM}, in no group)")

    def files(self, parcel: Parcel) -> dict[str, Label]:
        """The files of a handler by their paths: of the groups that it requires.

        Raises: FetchError for a group that is not there or requires itself, and for a path that
        leaves the folder.
        """
        found: dict[str, Label] = {}
        for group in self._required(parcel.conditions.requires, (), set()):
            for item in self._members(group):
                if item.label.wagi.get("file") == "true":
                    path = _checked_path(item.label.name)
                    if found.setdefault(path, item.label).sha256 != item.label.sha256:
                        raise FetchError(f"two parcels are the file {path!r}")
        for path in found:
            if folder := next((str(p) for p in PurePosixPath(path).parents if str(p) in found), ""):
                raise FetchError(f"{folder!r} is a file, and the folder of {path!r}")
        return found

    def _members(self, group: str) -> list[Parcel]:
        return [item for item in self.parcel if group in item.conditions.memberOf]

    def _required(self, groups: list[str], path: tuple[str, ...], seen: set[str]) -> Iterator[str]:
        """Groups, and what they require in turn, themselves or by their parcels; each once."""
        for group in groups:
            if group in path:
                circle = " → ".join((*path, group))
                raise FetchError(f"groups require each other in a circle: {circle}")
            if group in seen:
                continue
            seen.add(group)
            declared = [item for item in self.group if item.name == group]
            members = self._members(group)
            if not declared and not members:
                raise FetchError(f"the group {group!r} is required, and it is not there")
            yield group
            further = [item for either in declared for item in either.requires]
            further += [item for member in members for item in member.conditions.requires]
            yield from self._required(further, (*path, group), seen)


def parse_invoice(name: str, content: bytes) -> Invoice:
    """Read an invoice.

    Parameters: ``name`` NAME/VERSION that it has to be for. Raises: FetchError.
    """
    try:
        invoice = Invoice.model_validate(tomli.loads(content.decode()))
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise FetchError(f"the invoice is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise FetchError(f"the invoice is not valid: {place}: {first['msg']}") from None
    found = f"{invoice.bindle.name}/{invoice.bindle.version}"
    if found != name:
        raise FetchError(f"the invoice is for another bindle: {found}")
    return invoice


def _checked_path(path: str) -> str:
    """A path below the folder that a guest sees. Raises: FetchError."""
    parts = PurePosixPath(path).parts
    bad = not parts or path.startswith("/") or ".." in parts or "\\" in path
    if bad or any(ord(letter) < 32 for letter in path) or len(path.encode()) > 1024:
        raise FetchError(f"the name of a file parcel leaves the folder or cannot be one: {path!r}")
    return str(PurePosixPath(path))
