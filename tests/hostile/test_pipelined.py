"""Several requests on a connection, some of which are malformed or close it.

Each is answered in turn, with its own body, until one closes the connection. The result does not
depend on how the bytes arrive: in one send, split in two anywhere, or byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.pipelined import CASES, LISTED, cuts
from tests.support.server import ROOT, Server
from tests.support.wire import (
    Case,
    ask,
    compare,
    references,
    reporting_wagi,
    unix_connection,
    wait_until_only_answered_ran,
)

pytestmark = pytest.mark.xdist_group("pipelined")
PAGE = (ROOT / "docs" / "security.md").read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with reporting_wagi(tmp_path_factory.mktemp("pipelined")) as server:
        yield server


@pytest.fixture(scope="module")
def unix_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("pipelined-unix")
    with reporting_wagi(folder, listen=f"unix:{folder}/wagi.sock"):
        yield folder / "wagi.sock"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_one_send(server: Server, case: Case) -> None:
    assert ask(server.connect(), [case.data], case.expected) == case.expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cut_in_two(unix_path: Path, case: Case) -> None:
    for cut in cuts(case.data):
        pieces = [case.data[:cut], case.data[cut:]]
        answer = ask(unix_connection(unix_path), pieces, case.expected)
        assert answer == case.expected, f"cut at byte {cut} of {len(case.data)}"


@pytest.mark.parametrize("case", [case for case in CASES if len(case.data) <= 600], ids=str)
def test_byte_by_byte(unix_path: Path, case: Case) -> None:
    pieces = [bytes((byte,)) for byte in case.data]
    assert ask(unix_connection(unix_path), pieces, case.expected) == case.expected


def test_no_other_handler_ran(server: Server) -> None:
    """Text in a body that looks like a request, or data after the last one, runs no handler."""
    for case in CASES:
        ask(server.connect(), [case.data], case.expected)
    wait_until_only_answered_ran(server)
    assert "/smuggled" not in "\n".join(server.access_log)


def test_every_difference_from_other_servers_is_explained(tmp_path: Path) -> None:
    """Compared with the installed nginx, Apache and net/http of Go; see docs/security.md."""
    with references(tmp_path) as ports:
        rows = compare(ports, CASES)
    for case, answers in zip(CASES, rows, strict=True):
        agree = all(answer == case.expected for answer in answers.values())
        assert case.why or agree, (case.name, answers)
        assert all(reason in PAGE for reason in case.why.split("; "))
    for case in LISTED:
        assert f"| {case.name} | {case.expected} |" in PAGE
