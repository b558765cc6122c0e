"""Entries with static files, and the messages about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.server import run_wagi, write_files
from tests.support.wat import HELLO
from wagi.errors import ConfigurationError
from wagi.routemap.modules_toml import read_modules_toml
from wagi.routemap.static_entry import StaticEntry
from wagi.routemap.toml_document import TomlDocument

ENTRY = '[[module]]\nroute = "/..."\nstatic = "public"\n'
MODULE = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'


def problems(folder: Path, text: str) -> list[tuple[int | None, str]]:
    path = folder / "modules.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_modules_toml(TomlDocument.read(path))
    return [(problem.line, problem.message) for problem in caught.value.problems]


@pytest.mark.fast
def test_defaults_do_not_apply(tmp_path: Path) -> None:
    path = tmp_path / "modules.toml"
    path.write_text(f"[defaults]\ntimeout = 5\n{MODULE}{ENTRY}")
    module, static = read_modules_toml(TomlDocument.read(path)).entries
    assert isinstance(static, StaticEntry)
    assert (static.index, static.fallback, static.cache_control) == ("index.html", None, {})
    assert static.location("static").line == 8
    assert read_modules_toml(TomlDocument.read(path)).modules == [module]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'module = "a.wasm"',
            "unsupported key 'module': an entry has either `module` or `static`: remove one of"
            " them",
        ),
        (
            "timeout = 5",
            "unsupported key 'timeout': it applies to handlers, and no handler runs for static"
            " files: remove it",
        ),
        ('fallbak = "x"', "unknown key 'fallbak': did you mean 'fallback'?"),
        (
            'index = "a/b.html"',
            "index: expected the name of a file, without a slash, found 'a/b.html'",
        ),
        ('index = ""', "index: expected a non-empty string, found ''"),
        (
            'fallback = "../x"',
            "fallback: expected the path of a file below the directory, found '../x'",
        ),
        (
            'not_found = "/x"',
            "not_found: expected the path of a file below the directory, found '/x'",
        ),
        (
            'cache_control = "a\\nb"',
            "cache_control.*: expected a value such as 'public, max-age=3600', found 'a\\nb'",
        ),
        ("cache_control = 5", "cache_control: expected a table, found 5"),
        ("cache_control.x = 5", "cache_control.x: expected a string, found 5"),
    ],
)
def test_invalid_keys(tmp_path: Path, line: str, message: str) -> None:
    assert problems(tmp_path, f"{ENTRY}{line}\n") == [(4, message)]


@pytest.mark.fast
def test_invalid_entries(tmp_path: Path) -> None:
    both = f'{ENTRY}fallback = "x"\nnot_found = "y"\n'
    assert problems(tmp_path, both) == [
        (
            1,
            "module: expected either fallback or not_found, found both: with a fallback, every path"
            " has a file",
        )
    ]
    assert problems(tmp_path, ENTRY.replace("/...", "/a")) == [
        (
            2,
            "route: expected a route for all paths of a directory, such as '/a/...', found '/a'",
        )
    ]
    assert problems(tmp_path, f'{MODULE}fallback = "x"\n') == [
        (
            4,
            "unsupported key 'fallback': it applies to static files: write `static` in place of"
            " `module`",
        )
    ]
    assert problems(tmp_path, '[[module]]\nroute = "/a"\n') == [
        (1, "required key 'module' is missing")
    ]


def check(folder: Path, manifest: str, *arguments: str) -> tuple[int, str, str]:
    write_files(folder, {"modules.toml": manifest})
    done = run_wagi(folder, "check", *arguments)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("static", "message"),
    [
        ("missing", "static: the directory {folder}/missing does not exist"),
        ("file", "static: the directory {folder}/file is not a directory"),
        (
            "../outside",
            "{folder}/../outside, which leads to {parent}/outside, is outside of the project",
        ),
        (
            "link",
            "{folder}/link, which leads to {parent}/outside, is outside of the project {folder}",
        ),
        (".", "contains modules.toml, which would be served"),
    ],
)
def test_a_folder_that_cannot_be_served(tmp_path: Path, static: str, message: str) -> None:
    project = tmp_path / "project"
    write_files(tmp_path, {"project/file": "", "outside/x": ""})
    (project / "link").symlink_to("../outside")
    manifest = f'[[module]]\nroute = "/..."\nstatic = "{static}"\n'
    status, _, errors = check(project, manifest)
    assert status == 2
    assert errors.startswith("error: modules.toml:3: static: ")
    assert message.format(folder=project, parent=tmp_path) in errors
    assert errors.splitlines()[1:] == [
        f'3 | static = "{static}"',
        f"  |          {'^' * len(static)}^^",
    ]


def test_what_check_and_routes_print(tmp_path: Path) -> None:
    write_files(tmp_path, {"public/index.html": "", "hello.wat": HELLO})
    manifest = f'{MODULE}{ENTRY}fallback = "app.html"\ncache_control = "no-store"\n'
    status, output, errors = check(tmp_path, manifest)
    assert (status, output) == (0, "modules.toml: 2 routes, no problems\n")
    assert errors == (
        f"warning: modules.toml:7: fallback: no such file: {tmp_path}/public/app.html\n"
        '7 | fallback = "app.html"\n  |            ^^^^^^^^^^\n'
    )
    write_files(tmp_path, {"public/app.html": ""})
    listed = run_wagi(tmp_path, "routes")
    assert listed.stdout == "/hello\thello.wat\t_start\n/...\tpublic\t(static files)\n"
    assert listed.stderr == ""
    rows = json.loads(run_wagi(tmp_path, "routes", "--json").stdout)
    assert rows[1] == {
        "route": "/...",
        "static": str(tmp_path / "public"),
        "index": "index.html",
        "fallback": "app.html",
        "not_found": None,
        "cache_control": {"*": "no-store"},
    }
    call = run_wagi(tmp_path, "call", "-i", "/anything")
    assert (call.returncode, call.stderr) == (0, "")
    assert "Cache-Control: no-store" in call.stdout
    compiled = run_wagi(tmp_path, "compile")
    assert "2 routes, 1 compiled module" in compiled.stdout
    assert run_wagi(tmp_path, "build").returncode in (0, 2)


def test_routes_that_never_match(tmp_path: Path) -> None:
    write_files(tmp_path, {"public/x": "", "hello.wat": HELLO})
    status, _, errors = check(tmp_path, ENTRY + MODULE)
    assert status == 0
    assert "modules.toml:5: route: '/hello' can never match: '/...' in line 2 comes first" in errors
    status, _, errors = check(tmp_path, ENTRY + ENTRY)
    assert status == 2
    assert "modules.toml:5: route: '/...' is already the route of line 2" in errors


def test_a_project_that_is_itself_a_link(tmp_path: Path) -> None:
    write_files(tmp_path, {"releases/1/public/x": "", "releases/1/modules.toml": ENTRY})
    (tmp_path / "current").symlink_to("releases/1")
    done = run_wagi(tmp_path, "check", "current/modules.toml")
    assert (done.returncode, done.stderr) == (0, "")
    shutil.rmtree(tmp_path / "releases")
