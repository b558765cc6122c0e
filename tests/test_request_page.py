"""docs/request.md describes the actual path of a request through the code."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import wagi
from tests.support.server import write_files
from tests.support.toolchains import require_core
from tests.support.wat import HELLO
from wagi.config.settings import Settings
from wagi.testing.local_gateway import LocalGateway, local_gateway

PACKAGE = Path(wagi.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs/request.md").read_text()
FILES = re.findall(r"^\| \d+ \| `([^`]+)` \|", PAGE, re.MULTILINE)
MOST_FILES = 21
"""Maximum number of files that a connection with one request enters, including host calls."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[LocalGateway]:
    write_files(tmp_path, {"hello.wat": HELLO})
    with local_gateway(Settings(), tmp_path / "hello.wat") as gateway:
        yield gateway


@contextmanager
def traced(gateway: LocalGateway) -> Iterator[set[str]]:
    """Yield the files of ``wagi`` whose functions are called on a gateway's thread."""
    entered: set[str] = set()

    def trace(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            entered.add(str(path.relative_to(PACKAGE)))

    def set_profile(profile: Callable[[FrameType, str, object], None] | None) -> None:
        async def call() -> None:
            sys.setprofile(profile)

        gateway._run(call()).result()

    set_profile(trace)
    try:
        yield entered
    finally:
        set_profile(None)


@pytest.mark.fast
def test_a_request_takes_the_documented_path(gateway: LocalGateway) -> None:
    assert len(FILES) == 12
    with traced(gateway) as entered:
        assert gateway.ask("POST", "/", body=b"x" * 10).status == 200
    assert set(FILES) <= entered


def test_a_request_enters_few_files(gateway: LocalGateway) -> None:
    require_core()  # the host calls in Python are spread over more files
    gateway.ask("GET", "/")  # warm up caches
    with traced(gateway) as entered:
        assert gateway.ask("GET", "/").status == 200
    assert len(entered - {"testing/local_gateway.py", "observe/exchange.py"}) <= MOST_FILES
