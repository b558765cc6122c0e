"""wagi new: the commands that it prints build, test and serve each project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, ROOT, Server, run_wagi, serving, write_files
from tests.support.shell import environment_with
from tests.support.toolchains import python_wasm, tool
from wagi.templates import LANGUAGES

pytestmark = pytest.mark.xdist_group("templates")


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=600, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Crash:
    """A change that makes a template fail, and what the error response shows of it."""

    file: str
    old: str
    new: str
    shown: str


CRASHES = {
    "rust": Crash(
        "src/main.rs",
        "fn main() -> io::Result<()> {",
        '#[inline(never)]\nfn crash() {\n    panic!("out of luck")\n}\n\n'
        "fn main() -> io::Result<()> {\n    crash();",
        r"crash[^\n]*\s[^\n]*src/main\.rs:6\b",
    ),
    "rust-wasi-http": Crash(
        "src/main.rs",
        "    let response",
        '    #[inline(never)]\n    fn crash() {\n        panic!("out of luck")\n    }\n'
        "    crash();\n    let response",
        r"crash[^\n]*\s[^\n]*src/main\.rs:7\b",
    ),
    "go": Crash("main.go", "func main() {", 'func main() {\n\tpanic("luck")', r"main\.go:13"),
    "tinygo": Crash(
        "main.go",
        "func main() {",
        "//go:noinline\nfunc crash(numbers map[string]int) {\n\tnumbers[``] = 1\n}\n\n"
        "func main() {\n\tcrash(nil)",
        r"main\.crash[^\n]*\s[^\n]*/main\.go:11\b",
    ),
    "c": Crash(
        "src/main.c",
        "int main(void) {",
        "static void __attribute__((noinline)) crash(void) { abort(); }\n"
        "int main(void) {\n    crash();",
        r"crash[^\n]*\s[^\n]*src/main\.c:11\b",
    ),
    "zig": Crash(
        "src/main.zig",
        "pub fn main() void {",
        "noinline fn crash() void {\n    @trap();\n}\n\npub fn main() void {\n    crash();",
        r"main\.crash[^\n]*\s+main\.main[^\n]*\s[^\n]*src/main\.zig:16\b",
    ),
    # Its compiler writes source maps, but no line numbers into the module.
    "assemblyscript": Crash(
        "index.ts",
        "const path",
        "class Luck {\n  crash(): void { if (process.argv.length < 9) unreachable(); }\n}\n"
        "new Luck().crash();\nconst path",
        r"start:index",
    ),
    "javascript": Crash(
        "src/handler.js",
        "std.out.puts(",
        "function crash() {\n    throw new Error(`luck`);\n}\ncrash();\nstd.out.puts(",
        r"luck\s+at crash \(/app/handler\.js:11:\d+\)",
    ),
    "javascript-wasi-http": Crash(
        "src/handler.js",
        "  const headers",
        "  throw new Error(`out of luck`);\n  const headers",
        r"out of luck",
    ),
    "python": Crash(
        "src/handler.py",
        "output.write(",
        "raise ValueError('luck')\noutput.write(",
        r"handler\.py\", line 6",
    ),
}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_printed_commands_work(tmp_path: Path, lang: str) -> None:
    """They are run word for word, in the directory in which wagi new ran."""
    environment = {**environment_with(tmp_path, lang), "WAGI_LISTEN": "127.0.0.1:0"}
    # make has to find the package ziglang by itself.
    (tmp_path / "bin/zig").unlink(missing_ok=True)
    done = run_wagi(tmp_path, "new", "hello", "--lang", lang)
    assert (done.returncode, done.stderr) == (0, "")
    change, *commands = re.findall(r"^  (.+)$", done.stdout, re.M)
    project = tmp_path / "hello"
    assert (change, *commands[-2:]) == ("cd hello", "pytest", "wagi serve --watch")
    shown = "".join(f"$ {command}\n" for command in commands)
    assert f"```console\n{shown}```" in (project / "README.md").read_text()
    shown = "\n".join((f"wagi new hello --lang {lang}", change, *commands))
    assert f"```text\n{shown}\n```" in (ROOT / "docs/quickstart.md").read_text()
    for command in commands[:-2]:
        run(command, project, environment)
    assert "3 passed" in run("pytest", project, environment)
    for path in ("README.md", "modules.toml", ".gitignore", "tests/test_handler.py", "pytest.ini"):
        text = (project / path).read_text()
        assert "{{" not in text
        assert "NAME" not in text
    with serving(
        project, None, "--watch", target=None, listen=None, environment=environment
    ) as server:
        assert server.get("/?name=Ann").text == "Hello, Ann!\n"
        assert server.get("/?x=1&name=Ann&y=2").text in ("Hello, Ann!\n", "Hello, world!\n")
    options = ("--dev", "--dev-listen", "127.0.0.1:0")
    with serving(
        project, None, *options, target=None, listen=None, environment=environment
    ) as server:
        assert server.get("/?name=Ann").text == "Hello, Ann!\n"
        shown_failure(server, project, CRASHES[lang])


def shown_failure(server: Server, project: Path, crash: Crash) -> None:
    """Break a handler while it is served; wait until an error response shows the place."""
    path = project / crash.file
    text = path.read_text()
    assert text.count(crash.old) >= 1
    path.write_text(text.replace(crash.old, crash.new, 1))
    deadline = time.monotonic() + 300
    while (response := server.get("/")).status == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert response.status == 500
    assert re.search(crash.shown, response.text), response.text


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


def test_a_snapshot_of_python(tmp_path: Path) -> None:
    """The first request starts from the snapshot; without wasm-opt, the module itself serves."""
    tool("wasm-opt")
    environment = environment_with(tmp_path, "python")
    assert run_wagi(tmp_path, "new", "hello", "--lang", "python").returncode == 0
    project = tmp_path / "hello"
    assert "`apt install binaryen`" in (project / "README.md").read_text()
    module = project / LANGUAGES["python"].module
    module.parent.mkdir(parents=True)
    module.symlink_to(python_wasm())
    with (project / "src/handler.py").open("a") as handler:
        handler.write(f"# {tmp_path}\n")  # no earlier run has its snapshot in the cache
    times: list[float] = []
    for path in (str(tmp_path / "bin"), environment["PATH"]):
        environment["PATH"] = path
        run_wagi(project, "compile", environment=environment, timeout=600)
        with serving(project, environment=environment) as server:
            assert server.get("/?name=Ann").text == "Hello, Ann!\n"
            assert server.post("/echo", b"some text").text == "some text"
            found = re.findall(r"GET .* cpu_ms=([\d.]+)", server.wait_for_access("GET /.*cpu_ms"))
            times += map(float, found)
            assert server.log.count("install it with `apt install binaryen`") == (len(times) == 1)
    assert times[1] < times[0] / 3


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
        (("new", "hello", "--lang", "cobol"), "'cobol' is not one of 'rust'"),
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
