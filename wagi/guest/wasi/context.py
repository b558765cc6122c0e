"""The state that the host calls of one guest share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import Any

from wagi.guest.capi.store import Store
from wagi.guest.handler import Preopen
from wagi.guest.memory import GuestMemory
from wagi.guest.wasi.descriptors import DescriptorTable
from wagi.guest.wasi.http_session import HttpClient, HttpSession


@dataclass(slots=True)
class WaitReason:
    """The events that wake a suspended guest: the first of these, or, if none is set, its turn.

    Attributes:
        input: Whether the guest waits for input.
        wake_at: Time to wake at, in seconds of ``time.monotonic``.
        futures: Futures of the event loop.
        turn: Whether its turn wakes it in any case, because it waits for room in its output, which
            the gateway sends first.
    """

    input: bool = False
    wake_at: float | None = None
    futures: tuple[asyncio.Future[Any], ...] = ()
    turn: bool = False

    @property
    def is_turn(self) -> bool:
        """Whether the guest waits for nothing but its turn."""
        return self.turn or not (self.input or self.wake_at is not None or self.futures)

    def clear(self) -> None:
        """Unset all events, before the guest runs."""
        self.input, self.wake_at, self.futures, self.turn = False, None, (), False


class WasiContext:
    """The state that the host calls of one guest share (wasmtime's WasiCtx).

    Attributes:
        argv: The arguments, each terminated by a NUL.
        environment: The variables, each as NAME=value and terminated by a NUL.
        stdin: The guest's standard input.
        stdout: The guest's standard output.
        stderr: Callback that receives the output to standard error.
        wait: Why the guest is suspended.
        started_at: Origin of the guest's monotonic clock, in seconds of ``time.monotonic``.
        descriptors: The open streams, files and directories.
        store: The guest's store.
        memory: The guest's memory.
    """

    def __init__(
        self,
        store: Store,
        preopens: Sequence[Preopen],
        stderr: Callable[[bytes], None],
        client: HttpClient | None,
        note: Callable[[str], None],
    ) -> None:
        """Open the preopened directories.

        Args:
            store: The guest's store.
            preopens: The directories to open.
            stderr: As for ``guest.Guest``.
            client: As for ``guest.Guest``.
            note: As for ``guest.Guest``.

        Raises:
            EngineError: If a directory cannot be opened.
        """
        self.argv = store.arguments
        self.environment = store.environment
        self.stderr = stderr
        self.stdin, self.stdout = store.streams()
        self.wait = WaitReason()
        self.started_at = store.started_at
        self._client = client
        self._note = note
        self.descriptors = DescriptorTable(preopens, store.release_stream)
        self.store = store
        self.memory = GuestMemory(store)

    @cached_property
    def http(self) -> HttpSession:
        """The guest's outbound requests, made at the first use: most guests send none."""
        return HttpSession(self._client, self._note)

    @property
    def slice_is_over(self) -> bool:
        """Whether a long-running host call should suspend the guest now."""
        return monotonic() > self.store.slice_end

    def close(self) -> None:
        """Close all descriptors and responses. The store must already be closed."""
        self.descriptors.close()
        if "http" in self.__dict__:
            self.http.close()
