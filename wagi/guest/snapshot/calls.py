"""Host calls of a command that is run up to its checkpoint, as far as they are observed.

The others are wasmtime's. Addresses and sizes come from the module, and are checked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from struct import unpack
from typing import Any

import wasmtime

from wagi.guest.errno import EINVAL
from wagi.guest.snapshot.errors import SnapshotError
from wagi.guest.wasi.abi import Clockid
from wagi.guest.wasi.descriptors import Stream

STAGE = b"wagi:"
"""The beginning of a line on stdout by which a prelude describes what it does next."""
READY = "ready"
"""The last stage: the next read of stdin is the checkpoint."""
_CLOCK_STEP_NS = 1_000
_U32_MAX = 0xFFFFFFFF
_VECTORS_MAX = 1024  # buffers of a call, as in POSIX
_OUTPUT_MAX = 1024 * 1024  # bytes of a call
_PATH_MAX = 4096  # bytes
_STDERR_MAX = 64 * 1024  # bytes that are kept, from the end


class ExitedError(Exception):
    """The command has exited."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ObservedCalls:
    """Host calls with what was observed.

    Attributes:
        stage: What the prelude has announced last.
        stderr: The end of what the command has written to stderr.
        opened: The paths of open descriptors.
        random_stages: The stages in which random numbers were drawn.
    """

    def __init__(self, on_stdin: Callable[[], None]) -> None:
        """Create the calls of a command.

        Args:
            on_stdin: Called when the command reads stdin.
        """
        self.stage = ""
        self.stderr = b""
        self.opened: dict[int, str] = {}
        self.random_stages: set[str] = set()
        self._on_stdin = on_stdin
        self._output = b""
        self._clock_ns = 0

    def attach(
        self,
        store: wasmtime.Store,
        memory: wasmtime.Memory,
        forwarded: Mapping[str, wasmtime.Func],
    ) -> None:
        """Set the memory of the command, and wasmtime's implementations of calls."""
        self._store = store
        self._memory = memory
        self._forwarded = forwarded

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The calls by their names."""
        return {
            "clock_time_get": self._clock_time_get,
            "fd_close": self._fd_close,
            "fd_fdstat_get": self._fd_fdstat_get,
            "fd_read": self._fd_read,
            "fd_renumber": self._fd_renumber,
            "fd_write": self._fd_write,
            "path_open": self._path_open,
            "proc_exit": self._proc_exit,
            "random_get": self._random_get,
        }

    @property
    def doing(self) -> str:
        """What the prelude was doing, for messages."""
        return f" (while {self.stage})" if self.stage else ""

    def _forward(self, name: str, *values: int) -> int:
        result = self._forwarded[name](self._store, *values)
        assert isinstance(result, int)
        return result

    def _offset(self, address: int, size: int) -> int:
        """Check that a range lies within the memory. Returns: its address as an unsigned number."""
        offset, size = address & _U32_MAX, size & _U32_MAX
        if offset + size > self._memory.data_len(self._store):
            raise SnapshotError(f"the module passes an invalid address to a host call{self.doing}")
        return offset

    def _read(self, address: int, size: int) -> bytes:
        offset = self._offset(address, size)
        return bytes(self._memory.read(self._store, offset, offset + (size & _U32_MAX)))

    def _write(self, address: int, content: bytes) -> int:
        self._memory.write(self._store, content, self._offset(address, len(content)))
        return 0

    def _read_u32(self, address: int) -> int:
        return int.from_bytes(self._read(address, 4), "little")

    def _clock_time_get(self, clock: int, _: int, result: int) -> int:
        """The time of day is real; other clocks begin with the command.

        They go on from there in snapshots: a clock must not run backwards.
        """
        self._clock_ns += _CLOCK_STEP_NS
        now = time.time_ns() if clock == Clockid.REALTIME else self._clock_ns
        return self._write(result, now.to_bytes(8, "little"))

    def _fd_close(self, fd: int) -> int:
        errno = self._forward("fd_close", fd)
        if errno == 0:
            self.opened.pop(fd, None)
        return errno

    def _fd_fdstat_get(self, fd: int, result: int) -> int:
        if fd in (0, 1, 2):  # as in the gateway, not as on a terminal
            return self._write(result, Stream(fd).fdstat())
        return self._forward("fd_fdstat_get", fd, result)

    def _fd_read(self, fd: int, buffers: int, count: int, result: int) -> int:
        if fd != 0:
            return self._forward("fd_read", fd, buffers, count, result)
        if self.stage not in ("", READY):
            raise SnapshotError(f"the module reads stdin before it is ready{self.doing}")
        self._on_stdin()
        return 0

    def _fd_renumber(self, fd: int, to: int) -> int:
        errno = self._forward("fd_renumber", fd, to)
        if errno == 0:
            self.opened[to] = self.opened.pop(fd, f"descriptor {fd}")
        return errno

    def _fd_write(self, fd: int, buffers: int, count: int, result: int) -> int:
        if fd not in (1, 2):
            return self._forward("fd_write", fd, buffers, count, result)
        if not 0 <= count <= _VECTORS_MAX:
            return EINVAL
        numbers = unpack(f"<{2 * count}I", self._read(buffers, 8 * count))
        if sum(numbers[1::2]) > _OUTPUT_MAX:
            return EINVAL
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        content = b"".join(self._read(address, size) for address, size in pairs)
        if fd == 2:
            self.stderr = (self.stderr + content)[-_STDERR_MAX:]
        else:
            *lines, rest = (self._output + content).split(b"\n")
            self._output = rest[-_OUTPUT_MAX:]
            for line in lines:
                if line.startswith(STAGE):
                    self.stage = line.removeprefix(STAGE).decode(errors="replace").strip()
        return self._write(result, len(content).to_bytes(4, "little"))

    def _path_open(self, fd: int, flags: int, path: int, size: int, *rest: int) -> int:
        text = self._read(path, size)[:_PATH_MAX].decode(errors="replace")
        errno = self._forward("path_open", fd, flags, path, size, *rest)
        if errno == 0:
            self.opened[self._read_u32(rest[-1])] = text
        return errno

    def _proc_exit(self, status: int) -> None:
        raise ExitedError(status)

    def _random_get(self, address: int, size: int) -> int:
        self._offset(address, size)
        self.random_stages.add(self.stage)
        return self._write(address, os.urandom(size & _U32_MAX))
