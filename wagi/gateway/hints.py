"""Hints for the log on how to fix common mistakes of handlers. Pure."""

from __future__ import annotations

_EXCERPT_SIZE = 200  # bytes


def output_hint(output: bytes, wrote_stderr: bool, status: int) -> str:
    """Return a hint for invalid output.

    Args:
        output: The beginning of the output.
        wrote_stderr: Whether the handler wrote to stderr.
        status: Exit status of the handler.
    """
    if not output:
        if status:
            why = "see its stderr for the reason" if wrote_stderr else "it wrote nothing to stderr"
            return f"; it exited with status {status}: {why}"
        if wrote_stderr:
            return "; it wrote to stderr, but a response has to be written to stdout"
        return "; check that it writes to stdout, and flushes it before it exits"
    shown = repr(output[:_EXCERPT_SIZE].decode(errors="replace"))
    advice = "headers such as Content-Type: text/plain, then an empty line, then the body"
    return f"; its output begins with {shown}: expected {advice}"


def trap_hint(memory: int, limit: int) -> str:
    """Return a hint for a trap, or an empty string.

    Args:
        memory: Size of the memory of the guest in bytes.
        limit: Maximum size of the memory in bytes.
    """
    if memory * 10 >= limit * 9:
        return f"\nIt used {memory} bytes of memory; memory_limit is {limit} and may be too low."
    return ""
