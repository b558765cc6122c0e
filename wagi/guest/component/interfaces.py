"""Which interfaces the gateway provides to components, and what to do about the others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from wagi.guest.component.errors import (
    BUILD_FOR_PREVIEW_1,
    UnsupportedComponentError,
    preview_3,
)

PREVIEW_1 = "wasi_snapshot_preview1"
COMMAND = "wasi:cli/command"
PROXY = "wasi:http/proxy"
RUN = "wasi:cli/run"
INCOMING_HANDLER = "wasi:http/incoming-handler"
_WASI = {
    f"wasi:{package}" for package in ("cli", "clocks", "filesystem", "http", "io", "random")
} | {"wasi:sockets"}
_NAME = re.compile(r"(?P<interface>(?P<package>[^/@]+)/[^/@]+)(?:@(?P<version>.+))?")
_SPIN = re.compile(r"(fermyon:)?spin[:/@]|fermyon:")
_SPIN_REMEDIES = {
    "key-value": "keep state in a volume (volumes)",
    "sqlite": "keep state in a volume (volumes)",
    "outbound-http": "use outbound HTTP (allowed_hosts)",
    "variables": "use environment variables (environment)",
    "config": "use environment variables (environment)",
    "inbound-http": BUILD_FOR_PREVIEW_1,
}
"""What replaces an interface of Spin, by its name."""
_MAX_NAMES = 3  # names in a message


def without_version(name: str) -> str:
    """Return the name of an interface without its version: all of 0.2 are compatible."""
    return name.partition("@")[0]


def interface_of(name: str) -> str:
    """Return the interface that an import of a flat module names (``FlatComponent.wasm``)."""
    return name.partition("#")[0]


def version(name: str) -> str:
    """Return the version of an interface; empty if it has none."""
    return name.partition("@")[2]


def check_interfaces(names: Iterable[str]) -> None:
    """Check that interfaces are those of WASI preview 2, in a version that the gateway knows.

    Raises:
        UnsupportedComponentError: Some are not.
    """
    foreign = []
    for name in names:
        found = _NAME.fullmatch(name)
        if found is None or found["package"] not in _WASI:
            foreign.append(name)
        else:
            _check_version(name, found["version"] or "")
    spin = [name for name in foreign if _SPIN.match(name)]
    if spin:
        raise _needs_spin(spin)
    if foreign:
        raise UnsupportedComponentError(
            f"imports {_listed(foreign)}, which the gateway does not provide", "import only WASI"
        )


def _check_version(name: str, number: str) -> None:
    if number.startswith("0.3"):
        raise preview_3(name)
    if re.fullmatch(r"0\.2\.\d+", number):
        return
    if number.startswith("0.2.0-"):
        raise UnsupportedComponentError(
            f"uses a draft of WASI preview 2 ({name})",
            f"{BUILD_FOR_PREVIEW_1} with current tools",
        )
    raise UnsupportedComponentError(f"uses {name}, which is no version that the gateway knows")


def explain_exports(names: Iterable[str]) -> UnsupportedComponentError:
    """Make the error for a component that exports nothing that the gateway can call.

    Args:
        names: The names of its exports.
    """
    exports = list(names)
    if spin := [name for name in exports if _SPIN.match(name)]:
        return _needs_spin(spin)
    for name in exports:
        found = _NAME.fullmatch(name)
        if found is not None and found["package"] in _WASI:
            try:
                _check_version(name, found["version"] or "")
            except UnsupportedComponentError as error:
                return error
    return UnsupportedComponentError(
        f"exports neither {RUN} nor {INCOMING_HANDLER}, but {_listed(exports)}",
        "was it built as a library? Build a program",
    )


def _needs_spin(names: list[str]) -> UnsupportedComponentError:
    interfaces = (without_version(name).rpartition("/")[2] for name in names)
    found = dict.fromkeys(_SPIN_REMEDIES[name] for name in interfaces if name in _SPIN_REMEDIES)
    remedies = ["run it with Spin", *found]
    return UnsupportedComponentError(
        f"needs Spin, which alone provides {_listed(names)}", ", or ".join(remedies)
    )


def _listed(names: list[str]) -> str:
    """Join names, and shorten a long list."""
    shown = ", ".join(names[:_MAX_NAMES]) or "nothing"
    more = len(names) - _MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
