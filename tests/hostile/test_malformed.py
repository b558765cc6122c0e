"""Malformed HTTP gets the right status, the connection is closed, and no handler runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.malformed import CASES, GOOD, get
from tests.hostile.pipelined import cuts
from tests.support.server import ROOT, Server
from tests.support.wire import (
    Answer,
    Case,
    ask,
    compare,
    references,
    reporting_wagi,
    unix_connection,
    wait_until_only_answered_ran,
)

pytestmark = pytest.mark.xdist_group("malformed")
PAGE = (ROOT / "docs" / "security.md").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with reporting_wagi(tmp_path_factory.mktemp("malformed")) as server:
        yield server


@pytest.fixture(scope="module")
def unix_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("malformed-unix")
    with reporting_wagi(folder, listen=f"unix:{folder}/wagi.sock"):
        yield folder / "wagi.sock"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_malformed_requests_are_rejected(server: Server, case: Case) -> None:
    assert ask(server.connect(), [case.data], case.expected) == case.expected


@pytest.mark.parametrize("case", GOOD, ids=str)
def test_unusual_requests_are_served(server: Server, case: Case) -> None:
    assert ask(server.connect(), [case.data], case.expected) == case.expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_data_after_a_malformed_request_is_ignored(server: Server, case: Case) -> None:
    """A request hidden behind a malformed one is not processed."""
    data = case.data + get(line=b"GET /smuggled HTTP/1.1")
    assert ask(server.connect(), [data], case.expected) == case.expected


@pytest.mark.parametrize("case", CASES + GOOD, ids=str)
def test_cut_in_two(unix_path: Path, case: Case) -> None:
    """The response does not depend on how the bytes are split."""
    for cut in cuts(case.data):
        pieces = [case.data[:cut], case.data[cut:]]
        answer = ask(unix_connection(unix_path), pieces, case.expected)
        assert answer == case.expected, f"cut at byte {cut} of {len(case.data)}"


@pytest.mark.parametrize("case", [case for case in CASES + GOOD if len(case.data) <= 400], ids=str)
def test_byte_by_byte(unix_path: Path, case: Case) -> None:
    pieces = [bytes((byte,)) for byte in case.data]
    assert ask(unix_connection(unix_path), pieces, case.expected) == case.expected


@pytest.mark.parametrize("version", [b"1.1", b"1.2", b"1.9"])
def test_the_version_of_the_response(server: Server, version: bytes) -> None:
    """The response has the server's version: RFC 9110 §2.5."""
    request = get(b"Connection: close\r\n", b"GET / HTTP/" + version)
    assert server.raw(request).startswith(b"HTTP/1.1 200 ")


def test_no_handler_ran_for_malformed_requests(server: Server) -> None:
    for case in CASES:
        ask(server.connect(), [case.data], case.expected)
    wait_until_only_answered_ran(server)
    assert "/smuggled" not in "\n".join(server.access_log)


def test_every_difference_from_other_servers_is_explained(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Compared with the installed nginx, Apache and net/http of Go; see docs/security.md."""
    with references(tmp_path_factory.mktemp("references")) as ports:
        rows = compare(ports, CASES + GOOD)
    for case, answers in zip(CASES + GOOD, rows, strict=True):
        assert case.why or _all_are(case.expected, answers), (case.name, answers)
        assert f"| {case.name} | {case.expected} |" in PAGE
        assert case.why in PAGE


def _all_are(expected: Answer, answers: dict[str, Answer]) -> bool:
    return all(answer == expected for answer in answers.values())
