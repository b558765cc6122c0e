"""wagi add: a further handler in a project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from tests.support.server import run_wagi, write_files
from tests.support.shell import environment_with
from wagi.templates import LANGUAGES

MANIFEST = """#:schema modules.schema.json
# The routes of the site.
default_host = "localhost:3000"

# The form.
[[module]]
route = "/form" # exact
module = "form.wasm"
# Everything else.
# It comes last.
[[module]]
route = "/..."
module = "rest.wasm"
"""

ENTRY = """[[module]]
route = "/hello/..."
module = "hello/build/hello.wasm"
build = "cd hello && GOOS=wasip1 GOARCH=wasm go build -o build/hello.wasm ."
watch = ["hello/main.go", "hello/go.mod"]
"""


def add(folder: Path, *arguments: str) -> str:
    """Add a handler. Returns: the new modules.toml."""
    done = run_wagi(folder, "add", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / "modules.toml").read_bytes().decode()


def test_before_the_route_that_covers_it(tmp_path: Path) -> None:
    """With all comments where they were."""
    write_files(tmp_path, {"modules.toml": MANIFEST})
    before, comment, after = MANIFEST.partition("# Everything else.\n")
    assert add(tmp_path, "hello", "--lang", "go") == f"{before}{ENTRY}\n{comment}{after}"


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ("", ENTRY),
        ("# nothing yet", f"# nothing yet\n\n{ENTRY}"),
        ('default_host = "a:1"\n', f'default_host = "a:1"\n\n{ENTRY}'),
        ('[[module]]\nroute = "/a"\nmodule = "a.wasm"\n[module.environment]\nA = "1"\n',
         f'[[module]]\nroute = "/a"\nmodule = "a.wasm"\n[module.environment]\nA = "1"\n\n{ENTRY}'),
        ('#:schema x\n[[module]]\nroute = "/..."\nmodule = "a.wasm"\n',
         f'#:schema x\n{ENTRY}\n[[module]]\nroute = "/..."\nmodule = "a.wasm"\n'),
    ],
)  # fmt: skip
def test_where_the_entry_is_written(tmp_path: Path, manifest: str, expected: str) -> None:
    write_files(tmp_path, {"modules.toml": manifest})
    assert add(tmp_path, "hello", "--lang", "go") == expected


def test_bytes_that_stay(tmp_path: Path) -> None:
    """Line ends of Windows, and a byte order mark."""
    manifest = b'\xef\xbb\xbf# a\r\n[[module]]\r\nroute = "/a"\r\nmodule = "a.wasm"\r\n'
    (tmp_path / "modules.toml").write_bytes(manifest)
    add(tmp_path, "hello", "--lang", "go")
    found = (tmp_path / "modules.toml").read_bytes()
    assert found == manifest + b"\r\n" + ENTRY.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_each_language(tmp_path: Path, lang: str) -> None:
    """The entry names files that exist, in the directory of the handler."""
    write_files(tmp_path, {"modules.toml": ""})
    text = add(tmp_path, "my-form", "--lang", lang, "--route", "/forms/mine/...")
    (entry,) = tomli.loads(text)["module"]
    assert entry["route"] == "/forms/mine/..."
    for path in entry.get("watch", ()):
        assert path.startswith("my-form/")
        assert (tmp_path / path).exists()
    assert entry.get("build", "cd my-form && ").startswith("cd my-form && ")
    test = (tmp_path / "tests/test_my_form.py").read_text()
    assert 'wagi_client.get("/forms/mine/")' in test
    assert 'wagi_client.get("/")' not in test
    names = {path.name for path in (tmp_path / "my-form").iterdir()}
    assert ".gitignore" in names
    assert names.isdisjoint({"README.md", "modules.toml", "pytest.ini", "tests"})


def test_a_project_with_two_handlers(tmp_path: Path) -> None:
    """The commands that are printed, and the tests of both."""
    environment = environment_with(tmp_path, "c")
    assert run_wagi(tmp_path, "new", "shop", "--lang", "c").returncode == 0
    shop = tmp_path / "shop"
    done = run_wagi(shop, "add", "form", "--lang", "c")
    assert done.stdout.endswith("\n  wagi build /form/...\n  wagi call '/form/?name=Ann'\n")
    commands = "wagi build && wagi call '/form/?name=Ann' && wagi call /no/such && pytest -q"
    script = f"PATH={Path(sys.executable).parent}:$PATH; {commands}"
    done = subprocess.run(
        ["sh", "-c", script], cwd=shop, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hello, Ann!\nHello, world!\n" in done.stdout
    assert "6 passed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("../x", "--lang", "c"), 2, "expected a name of lowercase letters"),
        (("form", "--lang", "cobol"), 2, "'cobol' is not one of"),
        (("taken", "--lang", "c"), 2, "/taken already exists: choose another NAME"),
        (("tested", "--lang", "c"), 2, "/tests/test_tested.py already exists"),
        (("form", "--lang", "c", "--route", "/form"), 2,
         "modules.toml:7: '/form' is already the route of an entry"),
        (("form", "--lang", "c", "--route", "form"), 2, "--route: expected a path that begins"),
        (("form", "--lang", "c", "-c", "absent.toml"), 2, "no such file: absent.toml"),
        (("form", "--lang", "c", "-c", "pod.yaml"), 2, "expected a modules.toml, found pod.yaml"),
        (("form", "--lang", "c", "-c", "bad.toml"), 2, "bad.toml:1: unknown key 'modul'"),
        (("form", "--lang", "c", "-c", "inline.toml"), 2, "cannot add [[module]] to this file"),
    ],
)  # fmt: skip
def test_nothing_is_written_after_a_mistake(
    tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    files = {
        "modules.toml": MANIFEST,
        "taken/file": "",
        "tests/test_tested.py": "",
        "pod.yaml": "",
        "bad.toml": "[[modul]]\n",
        "inline.toml": 'module = [{route = "/a", module = "a.wasm"}]\n',
    }
    write_files(tmp_path, files)
    done = run_wagi(tmp_path, "add", *arguments)
    assert done.returncode == status
    assert message in done.stderr
    left = {
        str(path.relative_to(tmp_path)): path.read_text()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert left == files
