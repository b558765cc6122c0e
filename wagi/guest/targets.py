"""The processors that modules are compiled for.

Code for ``native`` uses all features of this processor, and may not run on another one. Code for
one of the x86-64 levels (https://gitlab.com/x86-psABIs/x86-64-ABI) runs on every processor of
that level, so that an image can be built on one machine and served on another.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from wagi.errors import WagiError

X86_64_TRIPLE = "x86_64-unknown-linux-gnu"
"""wasmtime's name for x86-64 with Linux, including musl: it compares neither the vendor nor the C
library when it loads code."""

# Maps the flags of Cranelift to the names in /proc/cpuinfo. A level of the ABI includes further
# features, such as MOVBE and F16C in v3, which Cranelift never uses. wasmtime aborts the process on
# an unknown flag: add only flags that the lowest supported version has.
_V2 = {
    "has_sse3": "pni",
    "has_ssse3": "ssse3",
    "has_cmpxchg16b": "cx16",
    "has_sse41": "sse4_1",
    "has_sse42": "sse4_2",
    "has_popcnt": "popcnt",
}
_V3 = {
    **_V2,
    "has_avx": "avx",
    "has_avx2": "avx2",
    "has_bmi1": "bmi1",
    "has_bmi2": "bmi2",
    "has_fma": "fma",
    "has_lzcnt": "abm",
}

_USED_BY_CRANELIFT = {
    "x86_64": frozenset(_V3.values())
    | {
        *("apx", "avx_vnni", "avx512f", "avx512dq", "avx512vl", "avx512vbmi"),
        *("avx512_bitalg", "avx512_vnni"),
    },
    "aarch64": frozenset(("atomics", "paca", "fphp", "asimdhp", "asimddp")),
}
"""The features in /proc/cpuinfo that native code may depend on, by machine. If one were missing
here, processors with and without it would share a key. That is safe but slow: wasmtime rejects code
that uses a feature the processor lacks, so each of them would compile the module again."""


class Target(StrEnum):
    """The processors to compile for."""

    NATIVE = "native"
    X86_64_V2 = "x86-64-v2"
    X86_64_V3 = "x86-64-v3"

    @property
    def cranelift_flags(self) -> tuple[str, ...]:
        """The features that code for this target may use; empty for ``native``: all."""
        return tuple(_LEVELS.get(self, ()))


_LEVELS = {Target.X86_64_V2: _V2, Target.X86_64_V3: _V3}


@dataclass(frozen=True, slots=True)
class Processor:
    """A description of a processor.

    Attributes:
        machine: Its architecture, as ``platform.machine`` names it.
        system: The operating system, as ``platform.system`` names it.
        features: Its features, as /proc/cpuinfo names them; None if they are unknown.
        model: Its name, used if the features are unknown.
    """

    machine: str
    system: str
    features: frozenset[str] | None
    model: str = ""

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets whose code it can run, fastest first."""
        return tuple(target for target in _FASTEST_FIRST if self._missing(target) == [])

    def check(self, target: Target) -> None:
        """Check that code for a target can be compiled here.

        Through its C API, wasmtime can only compile code that runs on the same machine.

        Raises:
            WagiError: It cannot; the message has the reason, and the available targets.
        """
        missing = self._missing(target)
        if missing == []:
            return
        if missing is not None:
            why = f"this processor lacks {', '.join(missing)}"
        elif self._has_levels:
            why = "the features of this processor are unknown: /proc/cpuinfo does not list them"
        else:
            why = f"it requires Linux on x86_64, and this is {self.system} on {self.machine}"
        raise WagiError(
            f"{target} cannot be compiled here: {why}; expected {' or '.join(self.targets)}"
        )

    def code_name(self, target: Target) -> str:
        """Name the code that is compiled for a target. Processors share code of the same name."""
        if target is not Target.NATIVE:
            return f"{self.system}\0{self.machine}\0{target}"
        used = _USED_BY_CRANELIFT.get(self.machine)
        if self.features is None:
            features = self.model
        else:
            relevant = self.features if used is None else self.features & used
            features = " ".join(sorted(relevant))
        fingerprint = hashlib.sha256(features.encode()).hexdigest()[:16]
        return f"{self.system}\0{self.machine}\0{target}-{fingerprint}"

    @property
    def _has_levels(self) -> bool:
        return self.machine == "x86_64" and self.system == "Linux"

    def _missing(self, target: Target) -> list[str] | None:
        """List the features that it lacks for a target; None if the target does not apply to it."""
        if target is Target.NATIVE:
            return []
        if not self._has_levels or self.features is None:
            return None
        return [name for name in _LEVELS[target].values() if name not in self.features]


_FASTEST_FIRST = (Target.NATIVE, Target.X86_64_V3, Target.X86_64_V2)


def parse_features(cpuinfo: str) -> frozenset[str] | None:
    """Read the features of the first processor in the text of /proc/cpuinfo.

    Returns:
        The names that Linux uses for this architecture; None if there are none.
    """
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features", "features", "isa"):
            return frozenset(value.split())
    return None


@cache
def this_processor() -> Processor:
    """Describe the processor that this process runs on."""
    try:
        # A machine may have hundreds of processors; the first is described in the first few KiB.
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            features = parse_features(file.read(16 * 1024))
    except OSError:
        features = None
    return Processor(platform.machine(), platform.system(), features, platform.processor())
