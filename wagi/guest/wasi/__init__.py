"""Host calls: WASI preview 1 and outbound HTTP, one file per subject.

Each guest has a ``context.WasiContext``, the first argument of all its host calls::

    WasiContext ── store, memory     the instance and its bytes
                ── argv, environment
                ── descriptors       0 stdin, 1 stdout, 2 stderr, preopened directories, files
                ── stdin, stdout     the streams of the request and the response
                ── wait              why the guest is suspended
                ── http              its requests to other servers

A host call that can wait is a generator, or returns one: it yields while the guest is suspended.
Host calls never block, and work for at most a slice at a time. They follow the specification and
wasmtime's own WASI; tests/guest/wasi lists the differences with their reasons.
"""

from __future__ import annotations

from wagi.guest.capi.linker import Linker
from wagi.guest.wasi import (
    adapter,
    environment,
    fd_calls,
    http_calls,
    io_calls,
    path_calls,
    poll,
    sockets,
    unstable,
)


def define(linker: Linker) -> None:
    """Add all host calls to a linker."""
    fd_calls.define(linker)
    io_calls.define(linker)
    path_calls.define(linker)
    environment.define(linker)
    poll.define(linker)
    sockets.define(linker)
    unstable.define(linker)
    adapter.define(linker)
    http_calls.define(linker)
