"""wagi new: each project builds, serves and passes its test, by the commands that it prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, ROOT, run_wagi, serving, write_files
from tests.support.shell import environment_with
from wagi.templates import LANGUAGES

pytestmark = pytest.mark.xdist_group("templates")


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=600, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("lang", LANGUAGES)
def test_from_nothing_to_a_passing_test(tmp_path: Path, lang: str) -> None:
    environment = environment_with(tmp_path, lang)
    done = run_wagi(tmp_path, "new", "hello", "--lang", lang)
    assert (done.returncode, done.stderr) == (0, "")
    change, build, serve, test = re.findall(r"^  (.+)$", done.stdout, re.M)
    project = tmp_path / "hello"
    assert (change, serve, test) == ("cd hello", "wagi serve --watch", "pytest")
    for command in (build, serve, test):
        assert f"$ {command}\n" in (project / "README.md").read_text()
    shown = f"wagi new hello --lang {lang}\n{change}\n{build}\n{test}\n{serve}\n"
    assert shown in (ROOT / "docs/quickstart.md").read_text()
    if lang == "assemblyscript":
        run("npm install --no-audit", project, environment)
    run(build, project, environment)
    assert "3 passed" in run(test, project, environment)
    with serving(project, None, "--watch", environment=environment) as server:
        assert server.get("/?name=Ann").text == "Hello, Ann!\n"
        assert server.get("/?x=1&name=Ann&y=2").text in ("Hello, Ann!\n", "Hello, world!\n")
    left = [path for path in project.rglob("*") if path.suffix == ".txt" or "dot-" in path.name]
    assert left == []
    for path in ("README.md", "modules.toml", ".gitignore", "tests/test_handler.py", "pytest.ini"):
        text = (project / path).read_text()
        assert "{{" not in text
        assert "NAME" not in text


def test_a_static_site(tmp_path: Path) -> None:
    done = run_wagi(tmp_path, "new", "hello", "--lang", "static")
    assert (done.returncode, done.stderr) == (0, "")
    change, test, serve = re.findall(r"^  (.+)$", done.stdout, re.M)
    assert (change, test, serve) == ("cd hello", "wagi test cases", "wagi serve")
    project = tmp_path / "hello"
    assert f"$ {test}\n$ {serve}\n" in (project / "README.md").read_text()
    shown = f"wagi new hello --lang static\n{change}\n{test}\n{serve}\n"
    assert shown in (ROOT / "docs/quickstart.md").read_text()
    tested = run_wagi(project, *test.split()[1:])
    assert (tested.returncode, tested.stdout) == (0, "2 passed, 0 failed\n")
    with serving(project) as server:
        page = server.get("/")
        assert (page.status, page.header("Cache-Control")) == (200, "no-cache")
        assert "<h1>hello</h1>" in page.text
        for link in re.findall(r'href="([^"]+)"', page.text):
            assert server.get(link).status == 200
        assert "Page not found" in server.get("/missing").text
    for path in project.rglob("*"):
        assert path.is_dir() or not re.search(r"\{\{|NAME", path.read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("new",), "Missing argument 'NAME'"),
        (("new", "../x", "--lang", "c"), "expected a name of lowercase letters"),
        (("new", "Hello", "--lang", "c"), "expected a name of lowercase letters"),
        (
            ("new", "taken", "--lang", "c"),
            "taken already exists: expected a new or empty directory",
        ),
        (("new", "hello", "--lang", "cobol"), "'cobol' is not one of 'rust', 'go'"),
    ],
)
def test_bad_usage(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    write_files(tmp_path, {"taken/file": ""})
    done = run_wagi(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_no_template_is_a_python_file() -> None:
    """pip would compile it on installation, and leave a __pycache__ directory beside it."""
    templates = ROOT / "wagi/templates"
    assert list(templates.rglob("*.py")) == [templates / "__init__.py"]


def test_the_language_is_prompted_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wagi", "new", "hello"],
        cwd=tmp_path, env=ENVIRONMENT, input="go\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Language" in done.stdout
    assert (tmp_path / "hello/main.go").exists()


def test_an_empty_folder_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    assert run_wagi(tmp_path, "new", "hello", "--lang", "c").returncode == 0
    shutil.rmtree(tmp_path / "hello")
