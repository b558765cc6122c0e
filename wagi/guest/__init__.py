"""Running guests: WASI modules as coroutines of the thread that polls them.

How the values nest, from a start to a request::

    engine.Runtime   compiles     → engine.Module → handler.Handler     one for each route
    handler.Handler               = HandlerSpec + capi.StorePlan
    guest.Guest      runs it      = wasi.WasiContext + capi.Store       one for each request

``capi`` is the only package at wasmtime's C API, ``core`` the compiled part, ``memory`` the only
way to a guest's bytes, ``wasi`` has the host calls, ``scheduler`` the time. Nothing here knows
HTTP, routes or the configuration.
"""
