"""Route maps with builds, for tests."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.server import write_files
from wagi.builds.build import Build, builds_of
from wagi.builds.outdated import outdated_warnings
from wagi.routemap.reader import read_route_map


def entry(module: str, build: str = "make", watch: str = "") -> str:
    lines = ["[[module]]", f'route = "/{module}"', f'module = "{module}"']
    lines += [f"build = '{build}'"] if build else []
    lines += [f"watch = {watch}"] if watch else []
    return "\n".join(lines) + "\n"


def builds(folder: Path, manifest: str) -> tuple[Build, ...]:
    write_files(folder, {"modules.toml": manifest})
    return builds_of(read_route_map(folder / "modules.toml"))


def project(folder: Path, manifest: str, *files: str) -> Path:
    """Write a route map and files; each file is newer than those before it."""
    write_files(folder, {"modules.toml": manifest})
    for number, name in enumerate(files):
        write_files(folder, {name: ""})
        os.utime(folder / name, (number, number))
    return folder / "modules.toml"


def warnings(path: Path | None) -> list[str]:
    return [str(warning) for warning in outdated_warnings(path)]
