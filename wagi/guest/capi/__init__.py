"""wasmtime's C API: only this package touches its bindings, its pointers or ctypes.

The public API of wasmtime's Python package cannot suspend a guest; the C API can, on a fiber of its
own::

    api        its functions, and the compiled core
    engine     Engine compiles modules, and allocates the memory of guests
    linker     Linker has the host calls, InstancePre is a module with its imports resolved
    store      StorePlan is what all guests of a handler have in common, and a Store is one
               instance of it, from its start to its end
    compiled   CompiledStore is a Store that the compiled core runs

A store owns every pointer of its guest, and no address leaves this package.

How a guest runs::

    event loop         store                     fiber (the guest's own stack)
    ----------         -----                     -----------------------------
    step           ->  poll                  ->  wasm runs ... calls an import
                                                   enter: the host call, in Python, returns an errno
                                                 wasm runs on ... its slice is over, or a host call
    others' turns  <-  None: suspended       <-    has to wait: the fiber stays as it is
    step           ->  poll                  ->    resume: the rest of the host call; wasm runs on
                   <-  Returned, Exit, Trap  <-  the fiber ends
"""
