"""Host calls: WASI preview 1 and outbound HTTP, one file for each subject.

``context.WasiContext`` is what they work on, one for each guest::

    WasiContext ── store, memory     the instance and its bytes
                ── argv, environment
                ── descriptors       0 stdin, 1 stdout, 2 stderr, preopened directories, files
                ── stdin, stdout     the streams of the request and the response
                ── wait              why the guest is suspended
                ── http              its requests to other servers

A host call that can wait is a generator, or returns one: it yields while the guest is suspended.
None of them blocks, and none works for longer than a slice at a time. The meaning of a call is what
the specification and wasmtime's own WASI say; tests/guest/wasi has the differences with reasons.
"""

from __future__ import annotations

from wagi.guest.capi.linker import Linker
from wagi.guest.wasi import (
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
    http_calls.define(linker)
