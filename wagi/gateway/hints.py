"""Hints for the log: how to mend the typical mistakes of handlers. Pure."""

from __future__ import annotations

_SHOWN = 200  # bytes


def about_output(output: bytes, wrote_stderr: bool, status: int) -> str:
    """Return a hint for output that is not a response.

    Args:
        output: The beginning of the output.
        wrote_stderr: Whether the handler wrote to stderr.
        status: The status with which the handler exited.
    """
    if not output:
        if status:
            why = "see its stderr for the reason" if wrote_stderr else "it wrote nothing to stderr"
            return f"; it exited with status {status}: {why}"
        if wrote_stderr:
            return "; it wrote to stderr, but a response has to be written to stdout"
        return "; check that it writes to stdout, and flushes it before it exits"
    shown = repr(output[:_SHOWN].decode(errors="replace"))
    advice = "headers such as Content-Type: text/plain, then an empty line, then the body"
    return f"; its output begins with {shown}: expected {advice}"


def about_trap(memory: int, limit: int) -> str:
    """Return a hint for a trap, or an empty text.

    Args:
        memory: Bytes of memory that the guest had.
        limit: Bytes of memory that it may have.
    """
    if memory * 10 >= limit * 9:
        return f"\nIt used {memory} bytes of memory; memory_limit is {limit} and may be too low."
    return ""
