"""Parse invoices, the manifests of bindles (Bindle specification, "Invoices"). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated

import tomli
from pydantic import BaseModel, Field, ValidationError

from wagi.config.validation import explain_validation_error
from wagi.sources.errors import FetchError

WASM = "application/wasm"


class Label(BaseModel):
    """The description of a parcel: sha256 as hex, size in bytes, media type, name and features."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    mediaType: str = ""
    name: str = ""
    feature: dict[str, dict[str, str]] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest in OCI notation (``sha256:…``)."""
        return f"sha256:{self.sha256}"

    @property
    def wagi(self) -> dict[str, str]:
        """The features in the group ``wagi``."""
        return self.feature.get("wagi", {})


class Conditions(BaseModel):
    """The groups that a parcel is a member of, and those that it requires."""

    memberOf: list[str] = Field(default_factory=list)
    requires: list[str] = Field(default_factory=list)


class Parcel(BaseModel):
    """One file of a bindle."""

    label: Label
    conditions: Conditions = Field(default_factory=Conditions)

    @property
    def is_module(self) -> bool:
        """Whether it can be a handler: a module that is not a member of a group."""
        return self.label.mediaType == WASM and not self.conditions.memberOf


class Group(BaseModel):
    """A set of parcels, which may require other groups."""

    name: str
    requires: list[str] = Field(default_factory=list)


class Bindle(BaseModel):
    """The name and version of a bindle."""

    name: str
    version: str


class Invoice(BaseModel):
    """The contents of a bindle."""

    bindle: Bindle
    group: list[Group] = Field(default_factory=list)
    parcel: list[Parcel] = Field(default_factory=list)

    def module(self, parcel: str) -> Parcel:
        """Find a module by its sha256, or the first one if it is empty.

        Raises:
            FetchError: There is no such module.
        """
        for item in self.parcel:
            if item.label.sha256 == parcel if parcel else item.is_module:
                return item
        raise FetchError(f"no parcel is a module ({WASM}, not in a group)")

    def files(self, parcel: Parcel) -> dict[str, Label]:
        """Collect the files of a handler by path: those in the groups that it requires.

        Raises:
            FetchError: A group is missing or requires itself, or a path is invalid.
        """
        found: dict[str, Label] = {}
        for group in self._required(parcel.conditions.requires, (), set()):
            for item in self._members(group):
                if item.label.wagi.get("file") == "true":
                    path = _checked_path(item.label.name)
                    if found.setdefault(path, item.label).sha256 != item.label.sha256:
                        raise FetchError(f"two parcels have the file name {path!r}")
        for path in found:
            if folder := next((str(p) for p in PurePosixPath(path).parents if str(p) in found), ""):
                raise FetchError(f"{folder!r} is both a file and the directory of {path!r}")
        return found

    def _members(self, group: str) -> list[Parcel]:
        return [item for item in self.parcel if group in item.conditions.memberOf]

    def _required(self, groups: list[str], path: tuple[str, ...], seen: set[str]) -> Iterator[str]:
        """Yield groups and their transitive requirements, each once."""
        for group in groups:
            if group in path:
                cycle = " → ".join((*path, group))
                raise FetchError(f"groups require each other: {cycle}")
            if group in seen:
                continue
            seen.add(group)
            declared = [item for item in self.group if item.name == group]
            members = self._members(group)
            if not declared and not members:
                raise FetchError(f"the required group {group!r} does not exist")
            yield group
            further = [item for either in declared for item in either.requires]
            further += [item for member in members for item in member.conditions.requires]
            yield from self._required(further, (*path, group), seen)


def parse_invoice(name: str, content: bytes) -> Invoice:
    """Parse an invoice.

    Args:
        name: The expected bindle, as NAME/VERSION.
        content: The invoice, in TOML.

    Raises:
        FetchError: It is invalid, or that of another bindle.
    """
    try:
        invoice = Invoice.model_validate(tomli.loads(content.decode()))
    except (UnicodeDecodeError, tomli.TOMLDecodeError) as error:
        raise FetchError(f"invalid invoice: not valid TOML: {error}") from None
    except ValidationError as error:
        first, *_ = explain_validation_error(error, Invoice)
        raise FetchError(f"invalid invoice: {first.message}") from None
    found = f"{invoice.bindle.name}/{invoice.bindle.version}"
    if found != name:
        raise FetchError(f"invalid invoice: expected the bindle {name}, found {found}")
    return invoice


def _checked_path(path: str) -> str:
    """Normalize the path of a file, relative to the directory that a guest sees.

    Raises:
        FetchError: It is not a valid relative path.
    """
    parts = PurePosixPath(path).parts
    bad = not parts or path.startswith("/") or ".." in parts or "\\" in path
    if bad or any(ord(letter) < 32 for letter in path) or len(path.encode()) > 1024:
        raise FetchError(f"invalid file name {path!r}: expected a relative path without ..")
    return str(PurePosixPath(path))
