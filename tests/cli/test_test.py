"""wagi test: selection, updates and reports. tests/cli/test_call.py has the comparison."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.server import run_wagi, write_files
from tests.support.wat import TEXT_HEAD, Program, printing


def case(path: str, response: str) -> str:
    return f'# {path}\n[request]\ntarget = "{path}"\n[response]\n# expected\n{response}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    noisy = Program().write("on stderr\n", fd=2).write(TEXT_HEAD + "noisy\n").wat()
    write_files(
        tmp_path,
        {
            "modules.toml": '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
            '[[module]]\nroute = "/noisy"\nmodule = "noisy.wat"\n',
            "hello.wat": printing(TEXT_HEAD + "hello\n"),
            "noisy.wat": noisy,
            "cases/hello.toml": case("/hello", 'body = "hello\\n"\n'),
            "cases/hello-old.toml": case("/hello", 'status = 201\nbody = "old\\n"\n'),
            "cases/deep/noisy.toml": case("/noisy", "body_matches = 'quiet\\n'\n"),
        },
    )
    return tmp_path


def test_the_legend_of_a_diff(folder: Path) -> None:
    done = run_wagi(folder, "test", "cases/hello-old.toml")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "FAILED cases/hello-old.toml\n  --- expected\n  +++ received\n"
        "  -status = 201\n  +status = 200\n  @@ -1 +1 @@\n  -old\n  +hello\n"
        "0 passed, 1 failed\n"
    )


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("hello",), 2),
        (("hello*",), 2),
        (("*o",), 1),
        (("old",), 1),
        (("old", "noisy"), 2),
        (("h?llo-*", "[n]oisy"), 2),
    ],
)
def test_selection_by_name(folder: Path, names: tuple[str, ...], count: int) -> None:
    options = [word for name in names for word in ("-n", name)]
    done = run_wagi(folder, "test", *options, "cases")
    passed, failed = (int(word.split()[0]) for word in done.stdout.splitlines()[-1].split(", "))
    assert passed + failed == count


def test_a_name_that_no_case_has(folder: Path) -> None:
    done = run_wagi(folder, "test", "-n", "hello", "-n", "other", "cases")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --name other: no case has this name: there are hello, hello-old, noisy\n"
    )


def test_an_update(folder: Path) -> None:
    """Failing cases expect the response afterwards; a pattern has to be changed by hand."""
    before = (folder / "cases/hello.toml").read_bytes()
    done = run_wagi(folder, "test", "--update", "cases")
    assert done.returncode == 1
    assert "UPDATED cases/hello-old.toml\n  --- expected\n" in done.stdout
    assert "FAILED cases/deep/noisy.toml\n" in done.stdout
    assert "  not updated: the body does not match body_matches: change the pattern" in done.stdout
    assert done.stdout.endswith("\n1 passed, 1 updated, 1 failed\n")
    assert (folder / "cases/hello.toml").read_bytes() == before
    assert (folder / "cases/hello-old.toml").read_text() == case(
        "/hello", 'status = 200\nbody = "hello\\n"\n'
    )
    done = run_wagi(folder, "test", "-n", "hello", "--update", "cases")
    assert (done.returncode, done.stdout) == (0, "2 passed, 0 updated, 0 failed\n")


def test_a_recorded_case_can_be_updated(folder: Path) -> None:
    run_wagi(folder, "call", "--record", "new/one.toml", "/hello")
    write_files(folder, {"hello.wat": printing("Content-Type: text/html\n\nhullo\nworld\n")})
    assert run_wagi(folder, "test", "--update", "new").returncode == 0
    assert run_wagi(folder, "test", "new").stdout == "1 passed, 0 failed\n"
    run_wagi(folder, "call", "--record", "new/two.toml", "/hello")
    assert (folder / "new/one.toml").read_text() == (folder / "new/two.toml").read_text()


def test_a_report_for_ci(folder: Path) -> None:
    done = run_wagi(folder, "test", "--junit", "out/report.xml", "cases")
    assert done.returncode == 1
    (suite,) = ElementTree.parse(folder / "out/report.xml").getroot()
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("3", "2")
    found = {item.attrib["name"]: item for item in suite}
    assert found["hello"].find("failure") is None
    assert "+status = 200" in (found["hello-old"].findtext("failure") or "")
    assert found["noisy"].findtext("system-err") == "on stderr"
    assert found["noisy"].attrib["classname"] == "cases.deep"
    done = run_wagi(folder, "test", "--junit", "modules.toml/x", "cases/hello.toml")
    assert done.returncode == 1
    assert "error: --junit modules.toml/x: " in done.stderr
