"""What typical mistakes of handlers look like from here, and what to do: for the log. Pure."""

from __future__ import annotations

_SHOWN = 200  # bytes


def about_output(output: bytes, wrote_stderr: bool, status: int) -> str:
    """What to say of output that is no response.

    Parameters: ``output`` as far as it is known; ``status`` with which the handler exited.
    """
    if not output:
        if status:
            why = (
                "what it wrote to stderr may say why"
                if wrote_stderr
                else "without a word on stderr"
            )
            return f"; it exited with status {status}: {why}"
        if wrote_stderr:
            return "; it wrote to stderr, and a response is what it writes to stdout"
        return "; is anything written to stdout, and flushed, before it ends?"
    shown = repr(output[:_SHOWN].decode(errors="replace"))
    advice = "headers such as Content-Type: text/plain, then an empty line, then the body"
    return f"; its output begins with {shown}: expected {advice}"


def about_trap(memory: int, limit: int) -> str:
    """What to say of a trap. Parameters: bytes of memory that the guest had, and may have."""
    if memory * 10 >= limit * 9:
        return f"\nIt had {memory} bytes of memory, and memory_limit is {limit}: is that enough?"
    return ""
