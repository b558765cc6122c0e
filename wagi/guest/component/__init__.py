"""Components (https://component-model.bytecodealliance.org): a component becomes its core module.

What toolchains call a component nearly always consists of these parts::

    component ─┬─ main module      the program; the only one with a memory
               ├─ adapter          implements WASI preview 1 by functions of WASI preview 2
               ├─ shim             functions that only call functions in its table
               ├─ fixups           puts functions into the table of the shim
               └─ nested component one that has no code and names the exported functions

The main module imports functions that need its memory, so they can only be made after it. That is
why it gets the functions of the shim, whose table is filled afterwards. ``flatten`` follows every
import of the main module through that knot to the function that it means in the end: one of WASI
preview 2, or one of preview 1 where the adapter implements it. The result is the main module with
its imports named accordingly; all other parts are superfluous, because the gateway itself
implements WASI.

Some components, as those of componentize-py, consist of several modules that are linked with each
other, such as the libraries of a program. They are merged into one.

The parts are recognised by their structure, never by their names, and an unknown structure is an
error. Everything here is pure. The bytes are hostile: every length and index is checked, and
``reader`` bounds depth and work.

``reader`` reads the binary format, ``graph`` the index spaces of a component (of ``items``),
``core_module`` as much of a core module as matters here, ``linking`` follows shim and fixups,
``merging`` makes one module of several, for which ``module_items`` and ``instructions`` rewrite the
indices in them, ``flattening`` makes the result, ``host_exports`` adds to it what the host needs,
and ``interfaces`` explains what the gateway does not provide.
"""
