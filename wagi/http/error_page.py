"""Error pages: HTML for browsers, plain text for other clients."""

from __future__ import annotations

import base64
import hashlib
import html
from dataclasses import dataclass

from wagi.http.errors import HTTPError
from wagi.observe.text import one_line, paragraph

_STYLE = """
:root { color-scheme: light dark; }
body { background: Canvas; color: CanvasText; font: 1rem/1.5 system-ui, sans-serif;
       margin: 0 auto; max-width: 50rem; padding: 1rem; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
pre { border: 1px solid #8888; font-size: .85rem; margin: 0; overflow-wrap: anywhere;
      padding: .5rem; white-space: pre-wrap; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# The empty icon keeps browsers from requesting /favicon.ico of a handler.
_TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
<main>
<h1>{title}</h1>
<p>{message}</p>
<p>Request id: <code>{request_id}</code></p>
{more}</main>
</html>
"""
_HTML_HEADERS = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
)


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """What an error page shows in addition, to developers of handlers.

    Attributes:
        sections: Titles and texts.
        url: A page about the request; empty if there is no such page.
    """

    sections: tuple[tuple[str, str], ...] = ()
    url: str = ""


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """The content of an error response.

    Attributes:
        content_type: Its media type.
        text: Its body.
        headers: Additional header fields that it requires.
    """

    content_type: str
    text: str
    headers: tuple[tuple[str, str], ...]


def error_page(
    error: HTTPError, request_id: str, accept: str, details: ErrorDetails | None = None
) -> ErrorPage:
    """Format an error for a client.

    Args:
        error: The error.
        request_id: The id of the request.
        accept: The ``Accept`` header of the request; empty if it has none.
        details: What to show to a developer in addition.
    """
    format_page = _format_html if prefers_html(accept) else _format_text
    page = format_page(error, request_id, details or ErrorDetails())
    return ErrorPage(page.content_type, page.text, (("Vary", "Accept"), *page.headers))


def prefers_html(accept: str) -> bool:
    """Whether a client prefers HTML to plain text (RFC 9110 §12.5.1).

    Browsers name ``text/html``. A client that accepts everything, such as curl, does not prefer it.
    """
    weights = dict(_parse_range(item) for item in accept.split(","))
    weight = weights.get("text/html", 0.0)
    return weight > 0 and weight >= weights.get("text/plain", 0.0)


def _parse_range(text: str) -> tuple[str, float]:
    """Return a media range of an ``Accept`` header and its weight; 0 if the weight is invalid."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = next((value[2:] for value in parameters if value.startswith("q=")), "1")
    try:
        return name, float(weight)
    except ValueError:
        return name, 0.0


def _format_text(error: HTTPError, request_id: str, details: ErrorDetails) -> ErrorPage:
    parts = [
        f"{error.status.value} {error.status.phrase}",
        error.message,
        f"Request id: {request_id}",
        *(f"{title}:\n    {paragraph(text)}" for title, text in details.sections),
    ]
    if details.url:
        parts.append(f"More: {details.url}")
    return ErrorPage("text/plain; charset=utf-8", "\n\n".join(parts) + "\n", ())


def _format_html(error: HTTPError, request_id: str, details: ErrorDetails) -> ErrorPage:
    more = ""
    if details.url:
        url = html.escape(details.url)
        more += f'<p><a href="{url}">Show this request on the page of wagi --dev</a></p>\n'
    for title, text in details.sections:
        lines = "\n".join(map(one_line, text.rstrip().split("\n")))
        more += f"<h2>{html.escape(title)}</h2>\n<pre>{html.escape(lines)}</pre>\n"
    text = _TEMPLATE.format(
        title=f"{error.status.value} {html.escape(error.status.phrase)}",
        style=_STYLE,
        message=html.escape(error.message),
        request_id=html.escape(request_id),
        more=more,
    )
    return ErrorPage("text/html; charset=utf-8", text, _HTML_HEADERS)
