"""Error pages: which clients get HTML, and what it contains."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest

from wagi.http.error_page import ErrorDetails, error_page, prefers_html
from wagi.http.errors import HTTPError

pytestmark = pytest.mark.fast
CHROME = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;"
    "q=0.8,application/signed-exchange;v=b3;q=0.7"
)
ERROR = HTTPError(HTTPStatus.NOT_FOUND, "No route matches <this> & that.")


@pytest.mark.parametrize(
    "accept",
    [
        CHROME,
        "text/html",
        "TEXT/HTML ; Q=0.5",
        "text/plain;q=0.5, text/html",
        "text/html, text/plain",
    ],
)
def test_a_client_that_names_html_prefers_it(accept: str) -> None:
    assert prefers_html(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/*",
        "application/json, */*;q=0.1",
        "text/html;q=0",
        "text/html;q=0.5, text/plain",
        "text/html;q=nonsense",
        "text/html;q=nan",
        ";;,,;q=,",
        "text/htmlx",
    ],
)
def test_other_clients_do_not(accept: str) -> None:
    assert not prefers_html(accept)


def test_a_text_page_has_the_sections_after_the_request_id() -> None:
    details = ErrorDetails((("Why", "first\nsecond\x1b[31m"),), "http://localhost:3001/#1")
    page = error_page(ERROR, "id-1", "*/*", details)
    assert page.content_type == "text/plain; charset=utf-8"
    assert page.headers == (("Vary", "Accept"),)
    assert page.text == (
        "404 Not Found\n\nNo route matches <this> & that.\n\nRequest id: id-1\n\n"
        "Why:\n    first\n    second\\x1b[31m\n\nMore: http://localhost:3001/#1\n"
    )


def test_a_page_without_details_ends_with_the_request_id() -> None:
    assert error_page(ERROR, "id-1", "").text.endswith("\n\nRequest id: id-1\n")


def test_an_html_page_has_no_markup_of_others() -> None:
    """Messages, ids and details contain what clients and guests have chosen."""
    evil = "<script>evil()</script>\"'&"
    details = ErrorDetails(((evil, f"{evil}\n\x00{evil}"),), f"http://localhost:3001/#{evil}")
    page = error_page(HTTPError(500, evil), evil, CHROME, details)
    assert page.content_type == "text/html; charset=utf-8"
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;evil()&lt;/script&gt;&quot;&#x27;&amp;") == 6
    assert "\x00" not in page.text
    assert {"Vary", "Content-Security-Policy", "X-Content-Type-Options"} == dict(
        page.headers
    ).keys()


def test_the_policy_of_an_html_page_allows_its_style_only() -> None:
    page = error_page(ERROR, "id-1", CHROME)
    policy = dict(page.headers)["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert re.findall(r"<(?:script|style|link|img)", page.text) == ["<link", "<style"]
