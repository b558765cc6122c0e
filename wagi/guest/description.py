"""Descriptions of a compiled module's imports and exports."""

from __future__ import annotations

from dataclasses import dataclass

import wasmtime

FUNCTION = "func() -> ()"
"""The type of a function without parameters and results, which can be an entrypoint."""
RESULT_FUNCTION = "func() -> i32"
"""The type of ``wasi:cli/run#run``."""
HANDLER_FUNCTION = "func(i32, i32) -> ()"
"""The type of ``wasi:http/incoming-handler#handle``."""


@dataclass(frozen=True, slots=True)
class Import:
    """An import of a module.

    Attributes:
        module: The module name of the import.
        name: The name of the import.
        signature: The type of the import.
        missing: Why the gateway does not provide the import; empty if it does.
    """

    module: str
    name: str
    signature: str
    missing: str


@dataclass(frozen=True, slots=True)
class Description:
    """The imports of a module, and its exports.

    Attributes:
        imports: The imports, in order.
        exports: The type of each export, by name.
    """

    imports: tuple[Import, ...]
    exports: dict[str, str]

    @property
    def entrypoints(self) -> list[str]:
        """The exports that can be entrypoints: functions without parameters and results."""
        return [name for name, signature in self.exports.items() if signature == FUNCTION]


def signature(kind: object) -> str:
    """Describe the type of an import or export."""
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
