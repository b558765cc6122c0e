"""The target ``preview2``: host calls of components with any arguments."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from tests.support.preview2_scripts import run_script
from wagi.guest.outcome import Trap

_SECRET = b"outside of the volume"


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="wagi-fuzz-preview2-")


def preview2(data: bytes) -> None:
    """A script: it ends, at most with a trap that names its mistake, and stays in its volume."""
    outside, volume = Path(_folder().name, "outside"), Path(_folder().name, "volume")
    outside.write_bytes(_SECRET)
    volume.mkdir(exist_ok=True)
    (volume / "file").unlink(missing_ok=True)
    (volume / "file").write_bytes(b"0123456789")
    if not (volume / "link").is_symlink():
        (volume / "link").symlink_to("../outside")
    outcome = run_script(data, False, volume)
    assert outside.read_bytes() == _SECRET
    assert {path.name for path in Path(_folder().name).iterdir()} == {"outside", "volume"}
    if isinstance(outcome, Trap):
        assert "host call failed" not in outcome.cause, outcome
