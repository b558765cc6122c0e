"""The file of ``--cache``, as the original Wagi and as wasmtime read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli

from wagi.storage import temporary_folder

_ENABLED = re.compile(r"^[ \t]*(?:cache[ \t]*\.[ \t]*)?enabled[ \t]*=[^\n]*", re.MULTILINE)


@contextmanager
def wasmtime_cache_file(path: Path) -> Iterator[Path | None]:
    """Convert a cache configuration to the form that wasmtime accepts.

    Old versions of wasmtime, such as that of the original Wagi, require the key ``enabled`` in
    ``[cache]``; newer ones reject it. They also reject a byte order mark.

    Args:
        path: The file of the user.

    Yields:
        The file for wasmtime: ``path`` itself, or one that exists as long as the block; None if
        the cache is not enabled. wasmtime reports what is wrong with the file.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
        cache = tomli.loads(text).get("cache")
    except (OSError, ValueError):
        yield path
        return
    enabled = cache.get("enabled") if isinstance(cache, dict) else None
    if enabled is False:
        yield None
        return
    if enabled is True:
        text = _ENABLED.sub("", text)
    if text.encode() == content:
        yield path
        return
    with temporary_folder("cache-config") as folder:
        copy = folder / path.name
        copy.write_bytes(text.encode())
        yield copy
