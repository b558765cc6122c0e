"""The words of the project: plain English and standard names, in prose and in code.

Phrases are searched for in the documentation, and in docstrings, comments and messages of all code;
names in the identifiers of the package. Each has a replacement. Legitimate uses are in ALLOWED.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.server import ROOT

pytestmark = pytest.mark.fast

PHRASES = {
    r"nobody|everybody|somebody|whoever": "name the subject: clients, users, other requests",
    r"whom": "a noun: the hosts that a handler may call",
    r"who (?:asks?|waits?|sends?|comes?|knocks?|tries)": "clients that wait",
    r"what (?:is|has|was|are) none|that (?:is|are) none": "an invalid entry; without a host",
    r"there is none|is none of": "a sentence with a subject and a verb",
    r"(?:is|are|was|were|be) told": "receives, is configured",
    r"go(?:es)? before": "takes precedence, overrides",
    r"says? (?:what|so|how|which|why)": "describes, specifies, reports",
    r"tells?(?: the| what| how| why| which)?": "reports, describes, notifies",
    r"(?:is|are) asked": "receives a request, is called",
    r"believe[ds]?|hearsay": "trust, trusted",
    r"small letters": "lowercase",
    r"used longest ago": "least recently used",
    r"doorway|knock(?:s|ed)?|last word": "listener, accept backlog, drain, grace period",
    r"out of time": "exceeded its time limit",
}
"""Regular expressions of phrases that are not plain English, with alternatives."""

NAMES = {
    r"Intake": "BodyReader",
    r"Delivery|Sent": "ResponseWriter",
    r"Refusal|Refuser|refusal|_?refuse(?:_\w+)?": "HTTPError, error response, reject",
    r"Blueprint": "HandlerSpec",
    r"Kit": "EngineContext",
    r"Prepared": "InstancePre",
    r"Caps": "StoreLimits",
    r"Run|Companion|Need|Turns": "Store, trampoline, WaitReason, FairScheduler",
    r"Post": "WorkerSpec",
    r"doorway|door": "listener",
    r"_?trouble": "on_error",
    r"leave": "release, exit, write",
    r"[Tt]eller|tell|told|_?tell_\w+": "publisher, notify",
    r"say|complain": "print, print_error",
    r"Wanted|Fetched": "ModuleRequest, FetchedModule",
    r"Rules|RouteRules": "Limits, Options or Policy",
    r"Transfer|_wished_pause|_LOST": "Downloader, retry_after, transient errors",
    r"_again|\w+_again|_AT_ONCE|_PIECE|_LOOK|_PASSES|_KEPT|_PATIENCE|_LAST_WORD": (
        "a name with its meaning and unit: CHUNK_SIZE, POLL_INTERVAL_S"
    ),
}
"""Regular expressions of identifiers that are not the standard term, with that term."""

DEFINITIONS = {
    r"ends": "outcome, errors",
    r"wanted|existing|naming": "module_requests, resolve_path, error_context",
}
"""The same for functions, classes and files only: as variables, these are ordinary words."""

ALLOWED = {
    "user of the system": r"user `?nobody|nobody:nogroup",
    "idiom": r"tells? apart",
    "WASI and C": r"fd_tell|\b_?tell\(",
}
"""Texts in which a phrase is legitimate, with the reason."""

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "wagi/templates").rglob("*.md")),
]
SOURCES = [*sorted((ROOT / "wagi").rglob("*.py")), ROOT / "docs/make_pages.py"]
TOOLS = [
    path
    for folder in ("tests", "benchmarks", "fuzz", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
]


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_of_the_table(path: Path) -> None:
    texts = _strings_and_comments(path) if path.suffix == ".py" else [(1, path.read_text())]
    assert [problem for first, text in texts for problem in _phrases(first, text)] == []


def test_no_phrase_of_the_table_in_tests_and_tools() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {problem}"
        for path in TOOLS
        for first, text in (*_strings_and_comments(path), *_function_names(path))
        for problem in _phrases(first, text)
    }
    assert sorted(found) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_of_the_table(path: Path) -> None:
    assert sorted(set(_problems_of_names(path))) == []


@pytest.mark.parametrize("table", [PHRASES, NAMES, DEFINITIONS])
def test_every_pattern_is_valid_and_has_a_replacement(table: dict[str, str]) -> None:
    for pattern, replacement in table.items():
        assert replacement
        re.compile(pattern)


def test_findings_and_exceptions() -> None:
    found = _phrases(1, "Nobody who\nwaits is told.\nRun as the user nobody.")
    assert [problem.split(":")[:2] for problem in found] == [
        ["line 1", " 'Nobody'"],
        ["line 1", " 'who waits'"],
        ["line 2", " 'is told'"],
    ]


@cache
def _compiled() -> list[tuple[re.Pattern[str], str]]:
    """Compile the phrases; a space in one also matches a line break."""
    return [
        (re.compile(rf"\b(?:{pattern})\b".replace(" ", r"\s+(?:#\s+)?"), re.IGNORECASE), better)
        for pattern, better in PHRASES.items()
    ]


@cache
def _any_phrase() -> re.Pattern[str]:
    return re.compile("|".join(pattern.pattern for pattern, _ in _compiled()), re.IGNORECASE)


def _phrases(first: int, text: str) -> list[str]:
    """Yield the phrases found in a text whose first line has the number ``first``."""
    if not _any_phrase().search(text):
        return []
    allowed = [match.span() for use in ALLOWED.values() for match in re.finditer(use, text)]
    found = [
        (match.start(), match[0], better)
        for pattern, better in _compiled()
        for match in pattern.finditer(text)
        if not any(start <= match.start() and match.end() <= end for start, end in allowed)
    ]
    return [
        f"line {first + text.count(chr(10), 0, at)}: {' '.join(words.split())!r}: write {better}"
        for at, words, better in sorted(found)
    ]


def _strings_and_comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield docstrings, other string literals and comments of a file, with their lines.

    Strings without a space are skipped: they are keys and names, not prose. So are files without
    any of the phrases, because splitting a file into tokens takes long.
    """
    if not _any_phrase().search(path.read_text()):
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        is_fragment = tokenize.tok_name[token.type] == "FSTRING_MIDDLE"
        if token.type in (tokenize.COMMENT, tokenize.STRING) or is_fragment:
            text = token.string
            if " " in text.strip():
                yield token.start[0], text


def _function_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the names of functions as words, with their lines."""
    for match in re.finditer(r"^ *(?:async )?def (\w+)", text := path.read_text(), re.MULTILINE):
        yield text.count("\n", 0, match.start()) + 1, match[1].replace("_", " ")


def _problems_of_names(path: Path) -> Iterator[str]:
    """Check the names that a file defines: of the file, classes, functions and variables."""
    both = NAMES | DEFINITIONS
    yield from _check(1, path.stem, both)
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _check(node.lineno, node.name, both)
            case ast.arg(arg=name):
                yield from _check(node.lineno, name, NAMES)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield from _check(node.lineno, name, NAMES)


def _check(line: int, name: str, table: dict[str, str]) -> Iterator[str]:
    for pattern, better in table.items():
        if re.fullmatch(pattern, name):
            yield f"line {line}: {name}: use {better}"
