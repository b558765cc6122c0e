"""Files for guests: the ones that are named, and nothing outside of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.server import write_files
from wagi.sources.errors import SourceError
from wagi.sources.file_mounts import FileMount, FileMounts, select_files

pytestmark = pytest.mark.fast

FILES = {
    "spin.toml": "",
    "static/a.html": "a",
    "static/b.css": "b",
    "static/deep/er/c.html": "c",
    "static/.hidden": "h",
    "secrets/key": "k",
    "other/a.html": "other",
}


def selected(folder: Path, *mounts: FileMount | str, exclude: tuple[str, ...] = ()) -> list[str]:
    """The paths in the guest."""
    return sorted(paths(folder, *mounts, exclude=exclude))


def paths(folder: Path, *mounts: FileMount | str, exclude: tuple[str, ...] = ()) -> dict[str, Path]:
    write_files(folder, {f"project/{name}": text for name, text in FILES.items()})
    given = tuple(FileMount(item) if isinstance(item, str) else item for item in mounts)
    found, _ = select_files(FileMounts(given, exclude), folder / "project")
    return found


STATIC = ["static/.hidden", "static/a.html", "static/b.css", "static/deep/er/c.html"]


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        ("static/*.html", ["static/a.html"]),
        ("./static/*.html", ["static/a.html"]),
        ("static/*", STATIC[:3]),
        ("static/**/*", STATIC),
        ("static/**/*.html", ["static/a.html", "static/deep/er/c.html"]),
        ("static/*/*/*", ["static/deep/er/c.html"]),
        ("static", STATIC),
        ("static/a.html", ["static/a.html"]),
        ("*/a.html", ["other/a.html", "static/a.html"]),
        (FileMount("static", "/"), [".hidden", "a.html", "b.css", "deep/er/c.html"]),
        (FileMount("static/deep", "/x/"), ["x/er/c.html"]),
        (FileMount("static/deep", "x"), ["x/er/c.html"]),
        (FileMount("static/a.html", "/index.html"), ["index.html"]),
        (FileMount("static/a.html", "/../../index.html"), ["index.html"]),
        (FileMount("static/../static/deep", "/"), ["er/c.html"]),
    ],
)
def test_what_is_selected(tmp_path: Path, mount: FileMount | str, expected: list[str]) -> None:
    assert selected(tmp_path, mount) == expected


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("**/*.html", ["static/.hidden", "static/b.css"]),
        ("*.html", ["static/.hidden", "static/b.css"]),
        ("static/deep/*", STATIC[:3]),
        ("static/deep", STATIC[:3]),
        ("./static/a.html", [STATIC[0], *STATIC[2:]]),
        ("a.html", STATIC),
    ],
)
@pytest.mark.parametrize("mount", ["static/**/*", "static"])
def test_what_is_excluded(tmp_path: Path, mount: str, pattern: str, left: list[str]) -> None:
    """Patterns are relative to the project."""
    assert selected(tmp_path, mount, exclude=(pattern,)) == left


def test_an_exclusion_applies_wherever_the_file_is_placed(tmp_path: Path) -> None:
    mounts = (FileMount("secrets", "/s"), FileMount("secrets/key", "/key"))
    assert selected(tmp_path, *mounts, exclude=("secrets/*",)) == []


def test_the_last_of_two_files_counts(tmp_path: Path) -> None:
    found = paths(tmp_path, FileMount("static", "/"), FileMount("other/a.html", "/a.html"))
    assert found["a.html"].read_text() == "other"


def test_patterns_without_a_file(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.txt": ""})
    mounts = tuple(map(FileMount, ("*.html", "none/*", "a.txt/*", "*.txt")))
    found, unmatched = select_files(FileMounts(mounts), tmp_path)
    assert (list(found), unmatched) == (["a.txt"], ["*.html", "none/*", "a.txt/*"])


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("none", "no such file or directory: none"),
        ("static/a.html/b", "no such file or directory: static/a.html/b"),
        (FileMount("none", "/"), "no such file or directory: none"),
        (FileMount("static/*.html", "/"), "no such file or directory: static/*.html"),
        (FileMount("static/a.html", "/"), "expected the path of a file, such as '/a.html'"),
        (FileMount("static/a.html", "/x/"), "expected the path of a file, such as '/x/a.html'"),
        ("../outside", "expected a path inside the project's directory, found '../outside'"),
        ("static/../../outside/*", "expected a path inside the project's directory"),
        ("/etc/*", "expected a path inside the project's directory, found '/etc/*'"),
        (FileMount("..", "/"), "expected a path inside the project's directory"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, mount: FileMount | str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        selected(tmp_path, mount)
    assert message in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_path_that_is_a_file_and_a_directory(tmp_path: Path) -> None:
    mounts = FileMount("static/a.html", "/x"), FileMount("static/b.css", "/x/y/b.css")
    with pytest.raises(SourceError, match=r"/x in the guest is both a file .* and a directory"):
        selected(tmp_path, *mounts)


@pytest.mark.parametrize("mount", ["static/**/*", "static/*", "static", FileMount("static", "/")])
@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../outside", "../../outside/x", "../../project2/x"]
)
def test_a_symbolic_link_that_leads_out(
    tmp_path: Path, mount: FileMount | str, target: str
) -> None:
    """Also to a sibling whose name begins like that of the project."""
    write_files(tmp_path, {"project/static/a": "", "outside/x": "x", "project2/x": "x"})
    (tmp_path / "project/static/link").symlink_to(target)
    with pytest.raises(SourceError, match=r"static/link leads out of the project's directory, to"):
        selected(tmp_path, mount)
    assert "static/link" not in selected(tmp_path, mount, exclude=("static/link",))


def test_a_mount_that_is_a_link_that_leads_out(tmp_path: Path) -> None:
    write_files(tmp_path, {"project/a": "", "outside/x": "x"})
    (tmp_path / "project/link").symlink_to("../outside")
    for mount in ("link", "link/*", "link/x", FileMount("link", "/"), FileMount("link/x", "/x")):
        with pytest.raises(SourceError, match="leads out of the project's directory"):
            selected(tmp_path, mount)


def test_symbolic_links_inside_of_the_project(tmp_path: Path) -> None:
    """They are followed; a dangling one, a cycle and a special file are left out."""
    write_files(tmp_path, {"project/other/a.html": "other"})
    folder = tmp_path / "project/links"
    folder.mkdir()
    (folder / "file").symlink_to("../other/a.html")
    (folder / "folder").symlink_to("../other")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "cycle").symlink_to(".")
    os.mkfifo(folder / "pipe")
    assert selected(tmp_path, "links") == ["links/file", "links/folder/a.html"]
    assert paths(tmp_path, "links")["links/file"].read_text() == "other"


def test_a_project_that_is_named_by_a_link(tmp_path: Path) -> None:
    write_files(tmp_path, {"real/a.txt": ""})
    (tmp_path / "project").symlink_to("real")
    assert selected(tmp_path, "a.txt") == ["a.txt"]
