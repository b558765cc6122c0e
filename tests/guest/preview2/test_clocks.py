"""Clocks of components."""

from __future__ import annotations

import pytest

from tests.support.preview2 import handler, module, run
from tests.support.toolchains import require_core
from wagi.guest.outcome import Returned


@pytest.mark.parametrize("compiled", [False, True], ids=["python", "compiled"])
def test_the_time_zone_is_utc(compiled: bool) -> None:
    """Offset, name and daylight saving time, in memory that was not zero before."""
    if compiled:
        require_core()
    code = """(memory.fill (i32.const 0) (i32.const 255) (i32.const 16))
      (call $zone (i64.const 1) (i32.const 2) (i32.const 0))
      (call $blocking_write (call $stdout) (i32.load (i32.const 4)) (i32.load (i32.const 8))
        (i32.const 32))
      (i32.or (i32.shl (i32.load8_u (i32.const 12)) (i32.const 4))
        (i32.or (i32.ne (i32.const 0) (i32.load (i32.const 0)))
          (call $offset (i64.const 1) (i32.const 2))))"""
    found = run(handler(module(code), compiled))
    assert (found.outcome, found.output, found.errors) == (Returned(), b"UTC", b"")
