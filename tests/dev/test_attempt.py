"""The request that is made from the form of the dev page."""

from __future__ import annotations

import pytest

from wagi.dev.attempt import Attempt, InvalidAttempt, parse_headers

pytestmark = pytest.mark.fast
FORM = "application/x-www-form-urlencoded"


def parse(**fields: object) -> Attempt:
    return Attempt.parse({"method": "GET", "path": "/", **fields})


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/hello?a=1&b=%20#top", "/hello?a=1&b=%20"),
        ("hello", "/hello"),
        ("", "/"),
        ("/a b\r\nX: 1", "/a%20b%0D%0AX:%201"),
        ("/ü", "/%C3%BC"),
        ("/\ud800", "/?"),
        ("//twice/../up", "//twice/../up"),
        ("/[a]{b}|c\\d", "/[a]{b}|c\\d"),
    ],
)
def test_a_path_becomes_a_target(path: str, target: str) -> None:
    assert parse(path=path).target == target


def test_the_type_of_the_body_is_that_of_the_form_or_the_headers() -> None:
    assert ("Content-Type", FORM) in parse(body="a=1", type=FORM).headers
    own = parse(body="{}", type=FORM, headers="content-type: application/json").headers
    assert [value for name, value in own if name.lower() == "content-type"] == ["application/json"]
    assert "Content-Type" not in dict(parse(body="x", type="").headers)
    assert "Content-Type" not in dict(parse(type=FORM).headers)


def test_the_user_agent_names_the_page() -> None:
    assert ("User-Agent", "wagi-dev") in parse().headers
    assert parse(headers="user-agent: mine").headers == (("user-agent", "mine"),)


def test_a_body_is_text_or_base64() -> None:
    assert parse(body="ü").body == "ü".encode()
    assert parse(body_base64="AP8=").body == b"\x00\xff"


def test_headers_are_lines() -> None:
    text = "A: 1\r\n\n  b:2 : 3 \nA:\n"
    assert parse_headers(text) == [("A", "1"), ("b", "2 : 3"), ("A", "")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Good: 1\nno colon", "headers, line 2: expected Name: value, found 'no colon'"),
        (": value", "headers, line 1: expected Name: value, found ': value'"),
        ("a b: value", "headers, line 1: expected Name: value, found 'a b: value'"),
        ("a: \x01", "headers, line 1: expected Name: value, found 'a: \\x01'"),
        (
            "\n\nContent-Length: 5",
            "headers, line 3: Content-Length is set automatically: remove it",
        ),
    ],
)
def test_a_header_that_cannot_be_sent_is_reported(text: str, problem: str) -> None:
    with pytest.raises(InvalidAttempt) as caught:
        parse_headers(text)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"method": "GET /x"}, "method: expected a name such as GET, found 'GET /x'"),
        ({"method": ""}, "method: expected a name such as GET, found ''"),
        ({"path": 1}, "path: expected a string"),
        ({"body": None}, "body: expected a string"),
        ({"body_base64": "?"}, "body_base64: expected base64"),
    ],
)
def test_other_fields_are_checked(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidAttempt) as caught:
        parse(**fields)
    assert str(caught.value) == problem
