"""What a compiled module asks for and offers, in words."""

from __future__ import annotations

from dataclasses import dataclass

import wasmtime

_ENTRYPOINT = "func() -> ()"


@dataclass(frozen=True, slots=True)
class Import:
    """What a module asks for. Attributes: ``missing`` why we do not provide it, or empty."""

    module: str
    name: str
    signature: str
    missing: str


@dataclass(frozen=True, slots=True)
class Description:
    """What a module asks for, and the signatures of what it exports."""

    imports: tuple[Import, ...]
    exports: dict[str, str]

    @property
    def entrypoints(self) -> list[str]:
        """The exports that may be named as an entrypoint."""
        return [name for name, signature in self.exports.items() if signature == _ENTRYPOINT]


def signature(kind: object) -> str:
    """The type of an import or an export."""
    match kind:
        case wasmtime.FuncType():
            parameters, results = (", ".join(map(str, t)) for t in (kind.params, kind.results))
            return f"func({parameters}) -> {results or '()'}"
        case wasmtime.MemoryType():
            most = kind.limits.max
            return f"memory of {kind.limits.min} pages{'' if most is None else f', at most {most}'}"
        case wasmtime.TableType():
            return "table"
        case wasmtime.GlobalType():
            return f"global {kind.content}"
    return "unknown"
