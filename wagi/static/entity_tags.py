"""Entity tags: a digest of the content of a file, and a cache of digests.

Modification time and size alone do not identify content: in a reproducible image all files have the
same time (https://github.com/caddyserver/caddy/issues/5546). A digest is calculated once for each
version of a file. The version includes inode and ctime, which programs cannot set. Timestamps are
coarse, though: two writes within one tick of the clock look alike. A digest is therefore cached
only if the file has not changed for ``_SETTLED_NS``, as git does for its index ("racy git").
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from os import stat_result

INLINE_MAX = 256 * 1024
"""Size in bytes up to which a digest is calculated in the event loop: in half a millisecond."""
PROMPT_MAX = 32 * 1024**2
"""Size in bytes up to which a response waits for the digest."""
_PIECE_SIZE = 1024**2  # bytes that a thread reads at a time
_SETTLED_NS = 2 * 10**9  # the timestamps of FAT have a resolution of two seconds
_CACHE_SIZE = 4096  # digests
_PARALLEL = 2  # files whose digest is calculated at the same time

Version = tuple[int, int, int, int, int]


class EntityTags:
    """Calculates and caches the digests of files.

    Args:
        now: Returns the time in nanoseconds since the epoch.
    """

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._digests: dict[Version, str] = {}  # the least recently used one first
        self._tasks: dict[Version, asyncio.Task[str | None]] = {}
        self._semaphore = asyncio.Semaphore(_PARALLEL)

    def cached(self, status: stat_result) -> str | None:
        """Return the digest of a file if it is known."""
        version = _version(status)
        digest = self._digests.pop(version, None)
        if digest is not None:
            self._digests[version] = digest
        return digest

    def of_content(self, status: stat_result, content: bytes) -> str:
        """Return the digest of a file that has been read.

        Args:
            status: Its metadata from before it was read.
            content: All of it.
        """
        digest = _format(hashlib.sha256(content))
        self._store(status, digest)
        return digest

    async def of_file(self, status: stat_result, descriptor: int, waits: bool) -> str | None:
        """Return the digest of a large file, which threads read piece by piece.

        Args:
            status: Its metadata.
            descriptor: The file, open for reading.
            waits: Whether to wait for the digest. If not, it is calculated in the background, for
                later requests.

        Returns:
            The digest; None if it is not known yet, or if the file changes meanwhile.

        Raises:
            OSError: The file cannot be read.
        """
        version = _version(status)
        task = self._tasks.get(version)
        if task is None:
            own = os.dup(descriptor)  # the task may outlive the request
            task = asyncio.get_running_loop().create_task(self._calculate(own, status))
            self._tasks[version] = task
            task.add_done_callback(lambda done: self._on_done(version, own, done))
        return await asyncio.shield(task) if waits else None

    async def close(self) -> None:
        """Cancel what is calculated in the background."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _calculate(self, descriptor: int, status: stat_result) -> str | None:
        loop = asyncio.get_running_loop()
        digest = hashlib.sha256()
        async with self._semaphore:
            for offset in range(0, status.st_size, _PIECE_SIZE):
                await loop.run_in_executor(None, _update, digest, descriptor, offset)
        if _version(os.fstat(descriptor)) != _version(status):
            return None
        text = _format(digest)
        self._store(status, text)
        return text

    def _on_done(self, version: Version, descriptor: int, task: asyncio.Task[str | None]) -> None:
        del self._tasks[version]
        os.close(descriptor)
        if not task.cancelled():
            task.exception()  # it is raised in the request; if that is gone, it does not matter

    def _store(self, status: stat_result, digest: str) -> None:
        if self._now() - status.st_ctime_ns < _SETTLED_NS:
            return
        self._digests[_version(status)] = digest
        if len(self._digests) > _CACHE_SIZE:
            del self._digests[next(iter(self._digests))]


def _version(status: stat_result) -> Version:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _update(digest: hashlib._Hash, descriptor: int, offset: int) -> None:
    digest.update(os.pread(descriptor, _PIECE_SIZE, offset))


def _format(digest: hashlib._Hash) -> str:
    return digest.hexdigest()[:32]
