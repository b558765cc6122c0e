"""Cases that are saved on the dev page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from wagi.dev.saving import SaveError, save_case
from wagi.testing.cases import find_cases

pytestmark = pytest.mark.fast
OUTPUT = b"Status: 201\nContent-Type: text/plain\nX-A: \xe4\nDate: today\n\nbody"


def record(
    stdin: bytes = b"",
    stdout: bytes = OUTPUT,
    stdin_size: int | None = None,
    stdout_size: int | None = None,
    **fields: Any,
) -> dict[str, Any]:
    guest = {
        "stdin": base64.b64encode(stdin).decode(),
        "stdin_size": len(stdin) if stdin_size is None else stdin_size,
        "stdout": base64.b64encode(stdout).decode(),
        "stdout_size": len(stdout) if stdout_size is None else stdout_size,
    }
    return {
        "method": "POST",
        "target": "/a?b",
        "headers": [["Host", "x"], ["Content-Length", "1"], ["X-A", "1"], ["X-A", "2"]],
        "failure": None,
        "guest": guest,
        **fields,
    }


def test_a_case_has_the_request_and_the_response(tmp_path: Path) -> None:
    path = save_case(tmp_path, "one", record(b"\x00\xff"))
    assert path == tmp_path / "cases/one.toml"
    (found,) = find_cases([path])
    request, response = found.case.request, found.case.response
    assert (request.method, request.target, request.content) == ("POST", "/a?b", b"\x00\xff")
    assert request.headers == [("Host", "x"), ("X-A", "1"), ("X-A", "2")]
    assert (response.status, response.body) == (201, "body")
    assert response.headers == [("Content-Type", "text/plain"), ("X-A", "ä")]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204)])
def test_a_response_without_a_body_has_none_in_the_case(
    tmp_path: Path, method: str, status: int
) -> None:
    output = f"Status: {status}\n\nignored".encode()
    save_case(tmp_path, "one", record(stdout=output, method=method))
    (found,) = find_cases([tmp_path])
    assert found.case.response.body == ""


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "x" * 101, "a\n", "ä"])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SaveError, match="expected a name"):
        save_case(tmp_path, name, record())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_case_is_kept(tmp_path: Path) -> None:
    save_case(tmp_path, "one", record())
    before = (tmp_path / "cases/one.toml").read_text()
    with pytest.raises(SaveError, match=r"cases/one\.toml exists already"):
        save_case(tmp_path, "one", record(method="GET"))
    assert (tmp_path / "cases/one.toml").read_text() == before


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"guest": None}, "the handler gave no response"),
        ({"failure": {"cause": "trap"}}, "the handler gave no response"),
        ({"target": "http://x/"}, "requires a path"),
        ({"stdin_size": 70_000}, "only the first 0 bytes of the request body"),
        ({"stdout_size": 70_000}, "only the first 61 bytes of the response"),
        ({"headers": [["X-A", "\udcff"]]}, "not UTF-8"),
    ],
)
def test_what_cannot_be_replayed_is_not_saved(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SaveError, match=reason):
        save_case(tmp_path, "one", record(**fields))
    assert not list(tmp_path.rglob("*.toml"))


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cases").write_text("a file")
    with pytest.raises(SaveError, match="cases"):
        save_case(tmp_path, "one", record())
