"""The host calls of guests that run without a server."""

from __future__ import annotations

from functools import cache

from wagi.guest import preview2, wasi
from wagi.guest.capi.engine import Engine, Memory
from wagi.guest.capi.linker import Linker
from wagi.guest.scheduler import Ticker


@cache
def linker(compiled: bool) -> Linker:
    """Return the host calls, for guests that the compiled core runs or not."""
    if compiled:
        made = Linker(Engine(Memory.CORE))
    else:
        ticker = Ticker(lambda: made.engine.increment_epoch())
        made = Linker(Engine(Memory.ON_DEMAND, ticker=ticker, compiled=False))
    wasi.define(made)
    preview2.define(made)
    return made
