"""``wagi add``: add a handler to a project."""

from __future__ import annotations

import codecs
import posixpath
import re
from pathlib import Path
from typing import Any

import click
import tomli

from wagi.cli.options import manifest_path
from wagi.config.settings import Settings
from wagi.config.text import decode_text, format_toml
from wagi.errors import ConfigurationError, Problem, WagiError
from wagi.routemap.entries import RouteMap
from wagi.routemap.modules_toml import read_modules_toml
from wagi.routemap.toml_document import TomlDocument
from wagi.routing import RoutePattern
from wagi.storage import temporary_folder
from wagi.templates import LANGUAGES, create


@click.command(
    short_help="Add a handler to a project.",
    help="""Add a handler to the project in the current directory: its sources in the directory
    NAME, a test in tests/, and an entry in modules.toml.

    Nothing is overwritten. The entry is appended to modules.toml, or if its route would not be
    reachable there, inserted before the route that covers it.

    \b
    Examples:
      wagi add form --lang rust
      wagi add api --lang go --route /api/v1/...
      wagi add -c deploy/modules.toml form --lang c
    """,
)
@click.argument("name", metavar="NAME")
@click.option(
    "--lang",
    type=click.Choice(list(LANGUAGES)),
    prompt="Language",
    help="Language of the handler.",
)
@click.option("--route", metavar="ROUTE", help="Route of the handler.  [default: /NAME/...]")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The modules.toml to change.  [default: modules.toml]",
)
def add(name: str, lang: str, route: str | None, config: Path | None) -> None:
    """Add a handler."""
    path = manifest_path(None, config, Settings())
    assert path is not None  # there is no bindle
    if path.suffix != ".toml":
        raise ConfigurationError(Problem(f"expected a modules.toml, found {path}"))
    route_map = read_modules_toml(TomlDocument.read(path))
    pattern = _check_route(route or f"/{name}/...", route_map)
    rendered = _render(name, lang)
    (values,) = tomli.loads(rendered.pop("modules.toml"))["module"]
    changed = _insert(path, route_map, pattern, _entry(name, pattern.text, values))
    root = path.absolute().parent
    files = {root / name / item: text for item, text in _handler_files(rendered)}
    if pattern.wildcard:  # the test needs paths below the route
        test = root / "tests" / f"test_{name.replace('-', '_')}.py"
        files[test] = _TEST_PATH.sub(rf'\1"{pattern.stem}/', rendered[_TEST])
    _write_new(root / name, files)
    try:
        path.write_bytes(changed)
    except OSError as error:
        raise WagiError(f"{path}: {error.strerror}") from None
    language = LANGUAGES[lang]
    target = f"{pattern.stem}/" if pattern.wildcard else pattern.text
    click.echo(
        f"{name}: a handler in {language.title} at {pattern.text}."
        f" It requires {language.needs}.\n\n"
        f"  wagi build {pattern.text}\n"
        f"  wagi call '{target}?name=Ann'"
    )


_TEST = "tests/test_handler.py"
_TEST_PATH = re.compile(r'(wagi_client\.\w+\()"/')
_OF_PROJECTS = ("README.md", "pytest.ini", "tests/")  # files of the project, not of a handler


def _render(name: str, lang: str) -> dict[str, str]:
    """The files of a new project, by their paths in it."""
    with temporary_folder("new") as scratch:
        folder = create(name, lang, scratch)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in paths}


def _handler_files(rendered: dict[str, str]) -> list[tuple[str, str]]:
    return [item for item in rendered.items() if not item[0].startswith(_OF_PROJECTS)]


def _check_route(text: str, route_map: RouteMap) -> RoutePattern:
    """Parse the route of a new entry.

    Raises:
        ConfigurationError: It is invalid, or that of another entry.
    """
    try:
        pattern = RoutePattern.parse(text)
    except ValueError as error:
        raise ConfigurationError(Problem(f"--route: {error}")) from None
    for entry in route_map.entries:
        if entry.route == pattern.text:
            place = entry.location("route")
            raise ConfigurationError(place.problem(f"{text!r} is already the route of an entry"))
    return pattern


def _entry(name: str, route: str, values: dict[str, Any]) -> str:
    """Format the entry of a template for a handler in a directory of its own."""

    def inside(path: str) -> str:
        return posixpath.join(name, path)

    entry = {**values, "route": route, "module": inside(values["module"])}
    if "build" in values:
        entry["build"] = f"cd {name} && {values['build']}"
    if "watch" in values:
        entry["watch"] = [inside(path) for path in values["watch"]]
    if "volumes" in values:
        entry["volumes"] = {
            guest: inside(host) if isinstance(host, str) else {**host, "path": inside(host["path"])}
            for guest, host in values["volumes"].items()
        }
    return "[[module]]\n" + "".join(f"{key} = {format_toml(entry[key])}\n" for key in entry)


def _insert(path: Path, route_map: RouteMap, pattern: RoutePattern, entry: str) -> bytes:
    """Insert an entry into a modules.toml, where its route is reachable.

    Returns:
        The new content of the file; nothing else in it has changed.

    Raises:
        ConfigurationError: The file does not list its entries as [[module]].
    """
    content = path.read_bytes()
    lines = decode_text(content).splitlines(keepends=True)
    covering = set(pattern.covering_wildcards())
    after = [item for item in route_map.entries if item.route in covering]
    if after:
        line = (after[0].location().line or 1) - 1
        while line and lines[line - 1].startswith("#") and not lines[line - 1].startswith("#:"):
            line -= 1  # the comment belongs to the entry below it
        lines[line:line] = [entry, "\n"]
    else:
        end = "" if not lines or lines[-1].endswith("\n") else "\n"
        lines += [f"{end}\n" if lines else "", entry]
    text = "".join(lines)
    if b"\r\n" in content:
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message = f"cannot add [[module]] to this file: {error}"
        raise ConfigurationError(Problem(message, path)) from None
    start = content[: len(content) - len(content.removeprefix(codecs.BOM_UTF8))]
    return start + text.encode()


def _write_new(folder: Path, files: dict[Path, str]) -> None:
    """Write files, none of which may exist.

    Raises:
        ConfigurationError: The folder or one of the files exists.
        WagiError: A file cannot be written.
    """
    if existing := [path for path in (folder, *files) if path.exists()]:
        raise ConfigurationError(Problem(f"{existing[0]} already exists: choose another NAME"))
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise WagiError(f"{error.filename}: {error.strerror}") from None
