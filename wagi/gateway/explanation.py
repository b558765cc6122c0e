"""Explain why a guest gave no response: the cause, the functions that were running, a hint. Pure.

Everything that shows a failure shows this explanation: the log, the error page and the page of
``--dev``, ``wagi call``, and reports of tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from wagi.gateway.panics import Panic, find_panic
from wagi.guest.backtrace import lines_are_enabled, own_frames_first
from wagi.guest.outcome import Exit, Outcome, Trap
from wagi.observe.failure import Failure

EXCERPT_SIZE = 200
"""How much of the beginning of a guest's output an explanation shows, in bytes."""
_NEARLY_FULL = 0.9  # share of the memory limit
_MISSING_FILE = re.compile(
    r"pre-?opened file descriptor|no such file or directory|not found in the file system"
    r"|bad file (?:number|descriptor)|capabilities insufficient|not capable|filenotfound"
    r"|\bENOENT\b|\bEBADF\b|\bENOTCAPABLE\b|os error (?:8|44|76)\b|code: (?:8|44|76)\b",
    re.IGNORECASE,
)
"""What programs write when WASI finds no file: the errors 8 (BADF), 44 (NOENT), 76 (NOTCAPABLE)."""
_VOLUMES = 'volumes = {"/path/in/guest" = "directory"}'
_FILES = 'files = [{ source = "directory", destination = "/path/in/guest" }]'
_TRAPS = {
    "out of bounds memory access": "a pointer or an index lies outside of the memory",
    "call stack exhausted": "the stack is full: is there a recursion without an end?",
    "indirect call type mismatch": "a function is called through a pointer of another type",
    "uninitialized element": "a function is called through a null or invalid pointer",
    "undefined element": "a function is called through a null or invalid pointer",
}
"""What causes a trap in languages that compile to WebAssembly."""
_STATUSES = {
    2: ("goroutine ", "a panic in Go"),
    70: ("", "the runtime of the language failed to start"),
    71: ("", "wasi-libc could not set up the volumes"),
    101: ("", "a panic in Rust"),
    134: ("", "abort(), as after a failed assertion"),
    139: ("", "a segmentation fault"),
    255: ("", "exit(-1), or an abort in AssemblyScript"),
    -1: ("", "exit(-1)"),
}
"""The meaning of exit statuses, each with a text that stderr has to contain."""


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """What the gateway knows about a guest that gave no response.

    Attributes:
        outcome: How it ended; None if it was cancelled.
        output: The first ``EXCERPT_SIZE`` bytes of its output.
        stderr: The end of what it wrote to stderr.
        memory: Size of its memory in bytes.
        memory_limit: Maximum size of its memory in bytes.
        lacks_volumes: Whether it can open files, and has no volumes in which to find them.
        entry: Where its entry is written, such as ``modules.toml:2``; may be empty.
        is_spin: Whether its entry is a component of a spin.toml.
        handles_http: Whether it handles requests of wasi:http, in contrast to CGI.
    """

    outcome: Outcome | None
    output: bytes
    stderr: bytes
    memory: int
    memory_limit: int
    lacks_volumes: bool
    entry: str
    is_spin: bool = False
    handles_http: bool = False


def explain_trap(facts: GuestFacts, trap: Trap) -> Failure:
    """Explain a trap."""
    own, library = own_frames_first(trap.frames)
    panic = find_panic(_text(facts.stderr))
    hint = _volumes_hint(facts) or _memory_hint(facts)
    if panic is None:
        hint = hint or _TRAPS.get(trap.cause.partition(" (")[0], "")
        return Failure(f"trap: {trap.cause}", (), own, library, hint or _symbols_hint(trap))
    failure = _explain_panic(panic)
    if not failure.frames:
        failure = replace(failure, frames=own, library_frames=library)
    return replace(failure, details=(f"trap: {trap.cause}",), hint=hint or _symbols_hint(trap))


def explain_output(facts: GuestFacts, reason: str) -> Failure:
    """Explain output that is not a response.

    Args:
        facts: What is known of the guest.
        reason: Why it is not a response, in a sentence.
    """
    reason = reason.rstrip(".")
    if facts.handles_http:
        hint = _volumes_hint(facts)
        if not hint and facts.outcome is not None:
            hint = "a handler has to call response-outparam.set before it ends"
        return Failure(reason, hint=hint)
    if facts.output:
        return Failure(f"{reason}; {_excerpt(facts)}", hint=_volumes_hint(facts) or _HEADERS_HINT)
    status = facts.outcome.status if isinstance(facts.outcome, Exit) else 0
    panic = find_panic(_text(facts.stderr)) if status else None
    if panic is not None:
        details = (f"exit status {status} without a response",)
        return replace(_explain_panic(panic), details=details, hint=_volumes_hint(facts))
    if status:
        where = "see its stderr for the reason" if facts.stderr else "it wrote nothing to stderr"
        cause = f"{reason}; it {describe_exit(status, facts.stderr)}: {where}"
        return Failure(cause, hint=_volumes_hint(facts, or_silent=True))
    if facts.stderr:
        hint = _volumes_hint(facts) or "a response has to be written to stdout"
        return Failure(f"{reason}; it wrote to stderr only", hint=hint)
    return Failure(reason, hint="check that it writes to stdout, and flushes it before it exits")


def explain_timeout(facts: GuestFacts, reason: str) -> Failure:
    """Explain a time limit that was exceeded before the response began.

    Args:
        facts: What is known of the guest.
        reason: Which limit it was.
    """
    if not facts.output or facts.handles_http:
        return Failure(reason)
    return Failure(
        f"{reason}; no header block was complete, and {_excerpt(facts)}", hint=_HEADERS_HINT
    )


def explain_error_response(facts: GuestFacts) -> str:
    """Return a warning about a response with which a handler reports an error of its own.

    Returns:
        An empty string if there is nothing to add.
    """
    hint = _volumes_hint(facts)
    return f"the handler reports an error: {hint}" if hint else ""


def describe_exit(status: int, stderr: bytes) -> str:
    """Describe an exit, such as ``exited with status 101, a panic in Rust``.

    Args:
        status: The exit status.
        stderr: What the guest wrote to stderr, which tells apart what some statuses mean.
    """
    text, meaning = _STATUSES.get(status, ("", ""))
    meaning = f", {meaning}" if meaning and text.encode() in stderr else ""
    return f"exited with status {status}{meaning}"


_HEADERS_HINT = (
    "expected headers such as Content-Type: text/plain, then an empty line, then the body"
)


def _explain_panic(panic: Panic) -> Failure:
    own, library = own_frames_first(panic.frames)
    return Failure(f"{panic.kind}: {panic.message}", (), own, library)


def _excerpt(facts: GuestFacts) -> str:
    return f"its output begins with {_text(facts.output)!r}"


def _volumes_hint(facts: GuestFacts, or_silent: bool = False) -> str:
    """Return a hint about the missing volumes of a guest, or an empty string.

    Args:
        facts: What is known of the guest.
        or_silent: Whether a guest that wrote nothing gets the hint, too.
    """
    if not facts.lacks_volumes:
        return ""
    written = facts.stderr + facts.output
    if facts.is_spin:
        why, fix = f"its component ({facts.entry}) has no files", f"add {_FILES}"
    elif facts.entry:
        why, fix = f"its entry ({facts.entry}) has no volumes", f"add {_VOLUMES}"
    else:
        why, fix = "it was started without volumes", f"write a modules.toml with {_VOLUMES}"
    if _MISSING_FILE.search(_text(written)):
        return f"the handler finds no files, because {why}: {fix}"
    if or_silent and not written:
        return f"if it opens files, it finds none, because {why}: {fix}"
    return ""


def _memory_hint(facts: GuestFacts) -> str:
    if facts.memory < facts.memory_limit * _NEARLY_FULL:
        return ""
    return (
        f"it used {facts.memory} bytes of memory; memory_limit is {facts.memory_limit} and may be"
        " too low"
    )


def _symbols_hint(trap: Trap) -> str:
    """Return a hint about missing names or lines of functions, or an empty string."""
    if not trap.frames:
        return ""
    if all(frame.function.startswith("wasm function ") for frame in trap.frames):
        return (
            "the functions have no names: build without stripping them, and with debug information"
        )
    if lines_are_enabled() and not any(frame.place for frame in trap.frames):
        return "the module has no source lines: build it with debug information (-g)"
    return ""


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
