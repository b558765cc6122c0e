"""Why a request failed, for the developer of the handler: log, error page, commands and tests."""

from __future__ import annotations

from dataclasses import dataclass

from wagi.guest.backtrace import Frame


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed. ``wagi.gateway.explanation`` makes them.

    All texts may contain what a guest has chosen, and are not escaped.

    Attributes:
        cause: The cause, in one line: a panic message, a trap, a limit or invalid output.
        details: What else is known, in sentences without a full stop, such as the trap that
            followed a panic.
        frames: The functions of the handler that were running, the innermost first.
        library_frames: The functions of its runtime and of libraries, the innermost first.
        hint: How to fix it; may be empty.
    """

    cause: str
    details: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    library_frames: tuple[Frame, ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        """Format it for people, in several lines; the first is the cause."""
        lines = [self.cause, *self.details]
        lines += [str(frame) for frame in self.frames]
        if self.library_frames:
            lines.append("library functions on the stack:")
            lines += [
                f"    {frame.function} ({frame.place})" if frame.place else f"    {frame.function}"
                for frame in self.library_frames
            ]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)
