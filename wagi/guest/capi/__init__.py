"""wasmtime's C API: only this package uses its bindings, its pointers or ctypes.

The public API of wasmtime's Python package cannot suspend a guest. The C API can: it runs each
guest on a fiber of its own::

    api               the functions of the C API, and the compiled core
    engine            Engine compiles modules and allocates the memory of guests
    callbacks         what host calls and wasmtime exchange
    linker            Linker provides the host calls; InstancePre is a linked module
    component_linker  defines the host calls of components
    allocator         Allocator calls the allocator of a component
    store_config      StoreConfig is what the stores of all guests of a handler share
    store_fields      the fields of a store that the C API writes to
    store             Store runs one instance, from start to end
    compiled          CompiledStore is a Store that the compiled core runs

A store owns all pointers of its guest, and no address leaves this package.

How a guest runs::

    event loop         store                     fiber (the guest's own stack)
    ----------         -----                     -----------------------------
    step           ->  poll                  ->  wasm runs ... calls an import
                                                   enter: the host call, in Python, returns an errno
                                                 wasm runs on ... its slice ends, or a host call
    other guests   <-  None: suspended       <-    has to wait: the fiber is suspended
    step           ->  poll                  ->    resume: the host call continues; wasm runs on
                   <-  Returned, Exit, Trap  <-  the fiber ends
"""
