"""modules.toml: the route map as the user writes it (docs/contract.md, "Route map")."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    StrictStr,
    Tag,
    field_validator,
)

from wagi.config.text import suggest_file
from wagi.config.validation import KeyPath, dotted
from wagi.config.values import HostPort
from wagi.errors import ConfigurationError, Problem
from wagi.routemap.entries import Defaults, Entry, ModuleEntry, NonEmptyText, RouteMap, Table
from wagi.routemap.include import Include
from wagi.routemap.location import Location
from wagi.routemap.static_entry import StaticEntry
from wagi.routemap.toml_document import TomlDocument

D = TypeVar("D", bound=Defaults)


def _check_is_array(value: object) -> object:
    if isinstance(value, dict):
        raise ValueError("expected [[module]] with two brackets, as there can be several")
    return value


def _kind_of(value: object) -> str:
    """Return the tag of an entry."""
    return "[StaticEntry]" if isinstance(value, dict) and "static" in value else "[ModuleEntry]"


_AnyEntry = Annotated[
    Annotated[ModuleEntry, Tag("[ModuleEntry]")] | Annotated[StaticEntry, Tag("[StaticEntry]")],
    Discriminator(_kind_of),
]


class ModulesToml(Table):
    """A whole file."""

    default_host: StrictStr | None = Field(
        default=None,
        description="The host and port of requests whose Host header lacks them.",
    )
    include: list[NonEmptyText] = Field(
        default_factory=list,
        description="Patterns of further files, relative to this one, whose entries follow.",
    )
    defaults: Defaults = Field(
        default_factory=Defaults, description="Defaults for all entries, which may override them."
    )
    module: Annotated[list[_AnyEntry], BeforeValidator(_check_is_array)] = Field(
        default_factory=list, description="The routes, in the order in which they are tried."
    )

    @field_validator("default_host")
    @classmethod
    def _check_default_host(cls, value: str | None) -> str | None:
        if value is not None:
            HostPort.parse(value)
        return value


def read_modules_toml(document: TomlDocument) -> RouteMap:
    """Check a modules.toml, and read and check the files that it includes.

    Raises:
        ConfigurationError: With every mistake in all files, each with its file and line.
    """
    path = document.path
    reader = _Reader(path.absolute().parent, [path])
    default_host = reader.read(document, Defaults(), ())
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return RouteMap(
        reader.entries,
        reader.project,
        Location(path),
        default_host,
        warnings=tuple(reader.warnings),
        files=tuple(reader.files),
        includes=tuple(reader.includes),
    )


@dataclass(slots=True)
class _Reader:
    """Reads a file and those that it includes, and collects what they contain.

    Attributes:
        project: The directory of the main file, which all others have to be in.
        files: The files that were read.
    """

    project: Path
    files: list[Path]
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)

    def read(
        self, document: TomlDocument, inherited: Defaults, chain: tuple[Path, ...]
    ) -> str | None:
        """Read a file.

        Args:
            document: The file.
            inherited: The defaults of the file that includes it.
            chain: The files that lead to it, the main file first.

        Returns:
            Its ``default_host``.
        """
        path, lines = document.path, document.lines
        try:
            parsed = document.validate(ModulesToml, _name)
        except ConfigurationError as error:
            self.problems += error.problems
            return None
        if chain and parsed.default_host is not None:
            message = f"default_host: expected only in {chain[0]}, which includes this file"
            self.problems.append(lines.problem(message, path, ("default_host",)))
        defaults = _with_defaults(parsed.defaults, inherited)
        for index, written in enumerate(parsed.module):
            place = ("module", index)
            keys = {key: lines.location(path, (*place, key)) for key in written.model_fields_set}
            entry = written
            if isinstance(entry, ModuleEntry):
                entry = _with_defaults(entry, defaults)
            self.entries.append(entry.located(lines.location(path, place), keys))
        location = lines.location(path, ("include",))
        for pattern in parsed.include:
            include = Include(path.parent, pattern)
            self.includes.append(include)
            for file in self._matches(include, location):
                self._include(file, location, defaults, (*chain, path))
        return parsed.default_host

    def _matches(self, include: Include, location: Location) -> list[Path]:
        files = include.files()
        if files:
            return files
        if include.has_wildcard:
            message = f"include: no file matches {include.pattern!r}"
            self.warnings.append(location.problem(message))
            return []
        path = include.folder / include.pattern
        if path.is_dir():
            reason = (
                f"{path} is a directory: write a pattern such as {include.pattern + '/*.toml'!r}"
            )
        else:
            reason = f"no such file: {path}{suggest_file(path)}"
        self.problems.append(location.problem(f"include: {reason}"))
        return []

    def _include(
        self, path: Path, location: Location, defaults: Defaults, chain: tuple[Path, ...]
    ) -> None:
        resolved = path.resolve()
        if not resolved.is_relative_to(self.project.resolve()):
            message = f"include: {path} is outside of the project {self.project}: move it there"
            self.problems.append(location.problem(message))
        elif any(resolved == file.resolve() for file in chain):
            cycle = " → ".join(map(str, (*chain, path)))
            self.problems.append(location.problem(f"include: {path} includes itself: {cycle}"))
        elif all(resolved != file.resolve() for file in self.files):
            self.files.append(path)
            try:
                document = TomlDocument.read(path)
            except ConfigurationError as error:
                self.problems += error.problems
            else:
                self.read(document, defaults, chain)


def _with_defaults(item: D, defaults: Defaults) -> D:
    """Return a copy of an entry, or of the defaults of a file, completed by other defaults."""
    missing = defaults.model_fields_set - item.model_fields_set
    values = {key: getattr(defaults, key) for key in missing}
    environment = {**defaults.environment, **item.environment}
    return item.model_copy(update={**values, "environment": environment})


def _name(path: KeyPath) -> str:
    """The name of a key in a message, which has the line of its entry already."""
    return (
        dotted(tuple(key for key in path if isinstance(key, str) and key != "module")) or "module"
    )
