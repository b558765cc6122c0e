"""Files that a modules.toml includes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.server import run_wagi, serving, write_files
from tests.support.wat import TEXT_HEAD, printing
from wagi.errors import ConfigurationError
from wagi.routemap.entries import RouteMap
from wagi.routemap.include import Include
from wagi.routemap.modules_toml import read_modules_toml
from wagi.routemap.toml_document import TomlDocument


def entry(route: str, module: str = "x.wasm") -> str:
    return f'[[module]]\nroute = "{route}"\nmodule = "{module}"\n'


def read(folder: Path, files: dict[str, str]) -> RouteMap:
    write_files(folder, files)
    return read_modules_toml(TomlDocument.read(folder / "modules.toml"))


def problems(folder: Path, files: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, files)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.fast
def test_the_order_of_entries(tmp_path: Path) -> None:
    """Those of the file itself come first, then the included files in the order of their names."""
    found = read(
        tmp_path,
        {
            "modules.toml": f'include = ["extra.toml", "conf.d/*.toml"]\n{entry("/main")}',
            "extra.toml": entry("/extra"),
            "conf.d/b.toml": entry("/b1") + entry("/b2"),
            "conf.d/a.toml": entry("/a"),
            "conf.d/.hidden.toml": "not TOML",
            "conf.d/notes.txt": "not TOML",
        },
    )
    assert [item.route for item in found.entries] == ["/main", "/extra", "/a", "/b1", "/b2"]
    assert [str(path.relative_to(tmp_path)) for path in found.files] == [
        "modules.toml",
        "extra.toml",
        "conf.d/a.toml",
        "conf.d/b.toml",
    ]
    last = found.entries[-1]
    assert last.location("route").file == tmp_path / "conf.d/b.toml"
    assert last.location("route").line == 5
    assert found.folder_of(last) == tmp_path / "conf.d"
    assert found.folder_of(found.entries[0]) == found.folder == tmp_path


@pytest.mark.fast
def test_defaults_are_inherited_and_overridden(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {
            "modules.toml": 'include = ["a.toml", "b.toml"]\n[defaults]\ntimeout = 5\n'
            'memory_limit = "1MiB"\nenvironment = {A = "main", B = "main"}\n' + entry("/main"),
            "a.toml": '[defaults]\ntimeout = 6\nenvironment = {B = "a"}\n'
            + entry("/a")
            + 'memory_limit = "2MiB"\n',
            "b.toml": entry("/b"),
        },
    )
    main, first, second = found.modules
    limits = [(item.limits.timeout, item.limits.memory_limit >> 20) for item in found.modules]
    assert limits == [(5, 1), (6, 2), (5, 1)]
    assert main.environment == second.environment == {"A": "main", "B": "main"}
    assert first.environment == {"A": "main", "B": "a"}


@pytest.mark.fast
def test_an_included_file_may_include_others_and_is_read_once(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {
            "modules.toml": 'include = ["teams/*/routes.toml", "teams/a/*.toml"]\n',
            "teams/a/routes.toml": 'include = ["more.toml"]\n' + entry("/a"),
            "teams/a/more.toml": entry("/more"),
            "teams/b/routes.toml": 'include = ["../a/more.toml"]\n' + entry("/b"),
        },
    )
    assert [item.route for item in found.entries] == ["/a", "/more", "/b"]


@pytest.mark.fast
def test_mistakes_are_reported_in_their_files(tmp_path: Path) -> None:
    assert problems(
        tmp_path,
        {
            "modules.toml": 'include = ["conf.d/*.toml"]\n',
            "conf.d/a.toml": entry("/a") + "timeout = true\n",
            "conf.d/b.toml": 'default_host = "x"\n',
            "conf.d/c.toml": "[[module]\n",
        },
    ) == [
        "conf.d/a.toml:4: timeout: expected seconds as a number, found true",
        "conf.d/b.toml:1: default_host: expected only in modules.toml, which includes this file",
        "conf.d/c.toml:1: not valid TOML: Expected ']]' at the end of an array declaration"
        " (column 9)",
    ]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ('[""]', "include: expected a non-empty string, found ''"),
        ('"conf.d/*.toml"', "include: expected an array, found 'conf.d/*.toml'"),
        ("[1]", "include: expected a string, found 1"),
        ('["mising.toml"]', "include: no such file: mising.toml: did you mean 'missing.toml'?"),
        ('["conf.d"]', "include: conf.d is a directory: write a pattern such as 'conf.d/*.toml'"),
        ('["../*.toml"]', "include: ../other.toml is outside of the project"),
        ('["link.toml"]', "include: link.toml is outside of the project"),
        ('["*.toml"]', "include: modules.toml includes itself: modules.toml → modules.toml"),
        (
            '["conf.d/a.toml"]',
            "include: conf.d/../modules.toml includes itself: modules.toml → conf.d/a.toml →"
            " conf.d/../modules.toml",
        ),
    ],
)
def test_patterns_that_cannot_be_used(tmp_path: Path, patterns: str, message: str) -> None:
    project = tmp_path / "project"
    write_files(
        tmp_path,
        {
            "project/missing.toml": "",
            "project/conf.d/a.toml": 'include = ["../modules.toml"]',
            "other.toml": "",
        },
    )
    (project / "link.toml").symlink_to("../other.toml")
    found = problems(project, {"modules.toml": f"include = {patterns}\n"})
    assert [text.partition(": ")[2][: len(message)] for text in found if message in text] == [
        message
    ]


@pytest.mark.fast
def test_a_pattern_without_files_is_a_warning(tmp_path: Path) -> None:
    found = read(tmp_path, {"modules.toml": 'include = ["conf.d/*.toml"]\n'})
    assert [problem.message for problem in found.warnings] == [
        "include: no file matches 'conf.d/*.toml'"
    ]


@pytest.mark.fast
def test_folders_in_which_a_new_file_may_match(tmp_path: Path) -> None:
    write_files(tmp_path, {"teams/a/routes.toml": "", "teams/b/x": "", "teams/file": ""})
    include = Include(tmp_path, "teams/*/routes.toml")
    names = {str(path.relative_to(tmp_path)) for path in include.folders()}
    assert names == {".", "teams", "teams/a", "teams/b"}
    assert include.files() == [tmp_path / "teams/a/routes.toml"]
    assert Include(tmp_path, "*.toml").folders() == {tmp_path}


def test_duplicates_are_reported_with_both_places(tmp_path: Path) -> None:
    module = printing(TEXT_HEAD + "x")
    write_files(
        tmp_path,
        {
            "modules.toml": 'include = ["conf.d/*.toml"]\n',
            "conf.d/a.toml": entry("/x", "x.wat") + entry("/y/...", "x.wat"),
            "conf.d/b.toml": entry("/x", "x.wat") + entry("/y/z", "x.wat"),
            "conf.d/x.wat": module,
        },
    )
    done = run_wagi(tmp_path, "check")
    assert done.returncode == 2
    assert "conf.d/b.toml:2: route: '/x' is already the route of conf.d/a.toml:2" in done.stderr
    write_files(tmp_path, {"conf.d/b.toml": entry("/y/z", "x.wat")})
    done = run_wagi(tmp_path, "check")
    assert done.returncode == 0
    assert (
        "conf.d/b.toml:2: route: '/y/z' can never match: '/y/...' in conf.d/a.toml:5 comes first"
        in done.stderr
    )


def test_paths_are_relative_to_their_own_file(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "modules.toml": 'include = ["teams/*/routes.toml"]\n',
            "teams/a/routes.toml": entry("/a", "a.wat") + 'volumes = {"/data" = "data"}\n',
            "teams/a/a.wat": printing(TEXT_HEAD + "a"),
            "teams/a/data/x": "",
            "teams/b/routes.toml": '[[module]]\nroute = "/b/..."\nstatic = "public"\n',
            "teams/b/public/index.html": "b",
        },
    )
    with serving(tmp_path) as server:
        assert (server.get("/a").text, server.get("/b/").text) == ("a", "b")


def test_watch_finds_changed_and_new_files(tmp_path: Path) -> None:
    site = '[[module]]\nroute = "/{0}/..."\nstatic = "public"\n'
    write_files(
        tmp_path,
        {
            "modules.toml": 'include = ["teams/*/routes.toml"]\n',
            "teams/a/routes.toml": site.format("a"),
            "teams/a/public/index.html": "a",
        },
    )
    with serving(tmp_path, None, "--watch") as server:
        assert server.get("/a/").text == "a"

        def wait_for(path: str, text: str) -> None:
            deadline = time.monotonic() + 60
            while server.get(path).text != text:
                assert time.monotonic() < deadline, server.log
                time.sleep(0.05)

        write_files(tmp_path, {"teams/a/routes.toml": site.format("new")})
        wait_for("/new/", "a")
        write_files(
            tmp_path,
            {"teams/b/public/index.html": "b", "teams/b/routes.toml": site.format("b")},
        )
        wait_for("/b/", "b")
        write_files(tmp_path, {"teams/c/routes.toml": "broken"})
        server.wait_for_log(r"teams/c/routes.toml:1: not valid TOML", 60)
        assert server.get("/b/").text == "b"
        time.sleep(7)  # more than the interval of regular checks
        assert server.log.count("teams/c/routes.toml:1: not valid TOML") == 1  # not a loop
        (tmp_path / "teams/c/routes.toml").unlink()
        write_files(tmp_path, {"teams/b/routes.toml": site.format("again")})
        wait_for("/again/", "b")
        (tmp_path / "teams/b/routes.toml").unlink()
        server.wait_for_log(r"reload", 60)
