"""Malformed HTTP: the right status, the connection closed, nothing reaches a guest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.malformed import CASES, GOOD, Answer, Case, ask, first, three_servers
from tests.support.server import Server

pytestmark = pytest.mark.xdist_group("malformed")
PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int, int]]:
    with three_servers(tmp_path_factory.mktemp("malformed")) as servers:
        yield servers


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_refused(servers: tuple[Server, int, int], case: Case) -> None:
    server = servers[0]
    assert ask(server.port, case.data, 10) == Answer((case.status,), closed=True)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_is_answered(servers: tuple[Server, int, int], case: Case) -> None:
    assert ask(servers[0].port, case.data, 0.3) == Answer((200,), closed=False)


@pytest.mark.parametrize("case", [case for case in CASES if case.status == 400][:40], ids=str)
def test_nothing_behind_it_is_answered(servers: tuple[Server, int, int], case: Case) -> None:
    """A request that a client hides behind a bad one is not a request."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = ask(servers[0].port, case.data + smuggled, 10)
    assert answer == Answer((case.status,), closed=True)


def test_no_guest_has_seen_any_of_it(servers: tuple[Server, int, int]) -> None:
    """A guest ran for each request that was answered 200, and for no other."""
    server = servers[0]
    for case in CASES:
        ask(server.port, case.data, 0.5)
    server.get("/last")
    server.wait_for_access(r'"GET /last HTTP/1.1" 200 2 ')
    deadline = time.monotonic() + 10  # the lines of several workers come in no order
    while guests_run(server) != answered(server):
        assert time.monotonic() < deadline, (server.log, server.access_log)
        time.sleep(0.01)
    assert "/smuggled" not in "\n".join(server.access_log)


def guests_run(server: Server) -> int:
    return server.log.count("stderr of /... ")


def answered(server: Server) -> int:
    return "\n".join(server.access_log).count('" 200 2 ')


def test_every_difference_to_others_is_explained(servers: tuple[Server, int, int]) -> None:
    """Against nginx and Go's net/http as installed; docs/security.md has the table."""
    server, *others = servers
    for case in CASES + GOOD:
        answers = {first(ask(port, case.data, 0.5)) for port in (server.port, *others)}
        assert len(answers) == 1 or case.why, (case.name, answers)
        assert f"| {case.name} | {case.status} |" in PAGE
        assert case.why in PAGE
