"""Cases that are rewritten to expect another response."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from wagi.observe.exchange import Exchange
from wagi.testing.cases import parse_case
from wagi.testing.local_gateway import Answer
from wagi.testing.rewrite import RewriteError, rewritten

pytestmark = pytest.mark.fast

PATH = Path("case.toml")
HEAD = '# A case.\n[request]  # sent\ntarget = "/"\nbody = """\n[response]\nstatus = 1\n"""\n\n'


def answer(
    body: bytes = b"new\n", status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    return Answer(status, "OK", headers, body, True, cast(Exchange, None))


def rewrite(response: str, new: Answer) -> str:
    """The text after the request, which has to stay."""
    text = HEAD + response
    found = rewritten(PATH, text, parse_case(PATH, text).response, new)
    assert found.startswith(HEAD)
    return found.removeprefix(HEAD)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[response]\nstatus = 404\n", "[response]\nstatus = 200\n"),
        ("[response]\nstatus = 200 # kept\nbody = ''", "[response]\nstatus = 200 # kept\n"
         'body = "new\\n"\n'),
        ('[response]\n# why\nbody = """\na\nb\n"""\n# end\n', '[response]\n# why\n'
         'body = "new\\n"\n# end\n'),
        ('[response]\n  status = 1\n  body_base64 = ""\n  # more\n', "[response]\n  status = 200\n"
         '  body = "new\\n"\n  # more\n'),
        ('response.status = 404\nresponse.body = "x"', 'response.status = 200\n'
         'response.body = "new\\n"\n'),
        ("[response]\nbody_matches = 'n.*\\n'\nstatus = 500\n",
         "[response]\nbody_matches = 'n.*\\n'\nstatus = 200\n"),
    ],
)  # fmt: skip
def test_what_differs_is_replaced(before: str, after: str) -> None:
    # A table of a dotted key belongs to the top level.
    head = 'request.target = "/"\n' if before.startswith("response.") else HEAD
    found = rewritten(PATH, head + before, parse_case(PATH, head + before).response, answer())
    assert found == head + after


def test_headers() -> None:
    before = '[response]\nheaders = [\n  ["A", "1"],\n  ["X", "1"], # gone\n  ["A", "2"],\n]\n'
    new = answer(headers=(("a", "2"), ("A", "3"), ("B", "4")))
    assert rewrite(before, new) == '[response]\nheaders = [\n    ["A", "2"],\n    ["A", "3"],\n]\n'
    assert rewrite(before, answer()) == "[response]\nheaders = []\n"


def test_a_body_that_is_not_text() -> None:
    assert rewrite('[response]\nbody = "x"\n', answer(b"\xff")) == (
        '[response]\nbody_base64 = "/w=="\n'
    )


def test_line_ends_of_windows() -> None:
    before = "[request]\r\ntarget = '/'\r\n[response]\r\nstatus = 404\r\nbody = 'x'\r\n"
    found = rewritten(PATH, before, parse_case(PATH, before).response, answer(b"a\nb\n"))
    assert found == (
        "[request]\r\ntarget = '/'\r\n[response]\r\nstatus = 200\r\n"
        'body = """\r\na\r\nb\r\n"""\r\n'
    )


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("[response]\nbody_matches = 'x'\n", "change the pattern by hand"),
        ("response = {status = 404}\n", "cannot replace status: expected it in a table"),
        ("[response]\nbody = 'x'\nbody_base64 = 'eA=='\n", "cannot replace the values"),
    ],
)
def test_what_has_to_be_edited_by_hand(response: str, reason: str) -> None:
    head = HEAD if response.startswith("[") else 'request = {target = "/"}\n'
    text = head + response
    with pytest.raises(RewriteError, match=reason):
        rewritten(PATH, text, parse_case(PATH, text).response, answer())
