"""Running guests: WASI modules as coroutines of the thread that polls them.

How the values nest, from a start to a request::

    engine.Runtime   compiles     → module.Module → handler.Handler     one for each route
    handler.Handler               = HandlerSpec + capi.StoreConfig
    guest.Guest      runs it      = wasi.WasiContext + capi.Store       one for each request

``capi`` is the only package that calls wasmtime's C API, ``core`` is the compiled core, ``memory``
provides the only access to a guest's bytes, ``wasi`` implements the host calls, and ``scheduler``
divides time among guests. Nothing here depends on HTTP, routes or the configuration.
"""
