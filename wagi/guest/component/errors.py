"""Why a component cannot run."""

from __future__ import annotations

from collections.abc import Iterable

BUILD_FOR_PREVIEW_1 = "build for WASI preview 1 (wasm32-wasip1)"
_TOOLCHAINS = {
    b"rustc": "build it with --target wasm32-wasip1",
    b"TinyGo": "build it with tinygo build -target=wasip1",
    b"ComponentizeJS": "build it as in `wagi new --lang javascript`, which uses QuickJS",
}
"""How to build for preview 1 instead, by the name of a tool in the ``producers`` section."""


class UnsupportedComponentError(Exception):
    """A component that the gateway cannot run.

    Attributes:
        reason: Why.
        remedy: What to do about it.
    """

    def __init__(self, reason: str, remedy: str = BUILD_FOR_PREVIEW_1) -> None:
        super().__init__(f"this component {reason}: {remedy}")
        self.reason = reason
        self.remedy = remedy

    def for_toolchain(self, producers: Iterable[bytes]) -> UnsupportedComponentError:
        """Return the same error with the remedy for the toolchain of the component.

        Args:
            producers: The contents of its ``producers`` sections.
        """
        content = b"".join(producers)
        found = [remedy for tool, remedy in _TOOLCHAINS.items() if tool in content]
        if self.remedy != BUILD_FOR_PREVIEW_1 or not found:
            return self
        return UnsupportedComponentError(self.reason, found[-1])


def unknown_structure(detail: str) -> UnsupportedComponentError:
    """Make the error for a structure that no supported toolchain makes.

    Args:
        detail: What is unknown.
    """
    return UnsupportedComponentError(f"has an unknown structure ({detail})")


def preview_3(detail: str) -> UnsupportedComponentError:
    """Make the error for a component of WASI preview 3.

    Args:
        detail: What belongs to preview 3.
    """
    return UnsupportedComponentError(f"uses WASI preview 3 ({detail}), which is not supported")
