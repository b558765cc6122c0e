"""Parse invoices, the manifests of bindles (Bindle specification, "Invoices"). Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Annotated, ClassVar

import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wagi.config.validation import explain_validation_error
from wagi.sources.errors import FetchError

WASM = "application/wasm"


class _Table(BaseModel):
    """A table of an invoice. Unknown keys are kept, so that they can be reported."""

    IGNORED: ClassVar[frozenset[str]] = frozenset()
    """Keys of the specification that wagi does not use."""

    model_config = ConfigDict(extra="allow")

    def unknown_keys(self, path: str = "") -> Iterator[str]:
        """Describe each unknown key of the table and of those in it.

        Args:
            path: The path of the table, with a dot at its end; empty for the whole invoice.
        """
        known = type(self).model_fields.keys() | self.IGNORED
        for key in self.model_extra or {}:
            if key not in self.IGNORED:
                yield f"unknown key {path + key!r} is ignored{_suggest_key(key, known)}"
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, _Table):
                yield from value.unknown_keys(f"{path}{name}.")
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, _Table):
                        yield from item.unknown_keys(f"{path}{name}.{index}.")


class Label(_Table):
    """The description of a parcel: sha256 as hex, size in bytes, media type, name and features."""

    IGNORED = frozenset(("annotations", "origin", "sha512", "signature"))

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


class Conditions(_Table):
    """The groups that a parcel is a member of, and those that it requires."""

    memberOf: list[str] = Field(default_factory=list)
    requires: list[str] = Field(default_factory=list)


class Parcel(_Table):
    """One file of a bindle."""

    label: Label
    conditions: Conditions = Field(default_factory=Conditions)

    @property
    def is_module(self) -> bool:
        """Whether it can be a handler: a module that is not a member of a group."""
        return self.label.mediaType == WASM and not self.conditions.memberOf


class Group(_Table):
    """A set of parcels, which may require other groups."""

    IGNORED = frozenset(("required", "satisfiedBy"))

    name: str
    requires: list[str] = Field(default_factory=list)


class Bindle(_Table):
    """The name and version of a bindle."""

    IGNORED = frozenset(("authors", "description"))

    name: str
    version: str


class Invoice(_Table):
    """The contents of a bindle."""

    IGNORED = frozenset(
        (
            "annotations",
            "bindleVersion",
            "signature",
            "yanked",
            # The specification and its implementation do not agree in their spelling.
            *("yanked_reason", "yankedReason"),
            *("yanked_signature", "yankedSignature"),
        )
    )

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


def _suggest_key(key: str, known: Iterable[str]) -> str:
    """Suggest a known key: that of the specification's spelling, or else the most similar one."""
    names = sorted(known)
    plain = {name.lower(): name for name in names}
    if near := difflib.get_close_matches(key.replace("_", "").lower(), plain, n=1):
        return f": did you mean {plain[near[0]]!r}?"
    return f": known keys: {', '.join(names)}"


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
