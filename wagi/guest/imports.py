"""Explanations of missing imports, from which the toolchain of a module can be guessed."""

from __future__ import annotations

_PROVIDERS = (
    (
        ("wbg", "__wbindgen", "__wbg"),
        "this module was built for the browser (wbindgen): build it for wasm32-wasi,"
        " without wasm-bindgen",
    ),
    (("gojs", "go."), "this module was built for the browser (GOOS=js): build with GOOS=wasip1"),
    (("wasi_experimental_http",), "outbound HTTP has no function of this name"),
    (
        ("wasi:",),
        "this is a function of WASI preview 2 that the gateway does not provide, or the core module"
        " of a component without its component: make one with `wasm-tools component new`",
    ),
    (("wasi.thread", "wasi.thread-spawn"), "threads are not supported: build without them"),
    (("wasi_ephemeral", "wasi_nn"), "this extension of WASI is not supported"),
    (
        ("env.emscripten", "env._emscripten", "env.__syscall", "env.invoke_", "a."),
        "this module was built by Emscripten for JavaScript: build with -sSTANDALONE_WASM",
    ),
    (
        ("env.abort", "env.seed", "env.console"),
        "this module was built by AssemblyScript for JavaScript: build it with"
        " @assemblyscript/wasi-shim",
    ),
    (
        ("env.",),
        "a function that the linker did not find: link it in, or build for wasm32-wasi",
    ),
    (("wasi_snapshot_preview1", "wasi_unstable"), "WASI has no function of this name"),
)


def explain(module: str, name: str) -> str:
    """Explain an import that the gateway does not provide.

    Args:
        module: The module name of the import.
        name: The name of the import.

    Returns:
        Which toolchain makes such imports, and how to build the module instead.
    """
    full = f"{module}.{name}"
    for prefixes, explanation in _PROVIDERS:
        if full.startswith(prefixes) or name.startswith("__wbindgen"):
            return explanation
    return "the gateway does not provide it: guests can import WASI preview 1 and outbound HTTP"
