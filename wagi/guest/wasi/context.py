"""What the host calls of one guest work on."""

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
    """What a suspended guest waits for: whichever comes first, or (none of them) its turn.

    Attributes:
        input: Whether it waits for input.
        wake_at: A time, in seconds of ``time.monotonic``.
        future: The end of something that the event loop does.
    """

    input: bool = False
    wake_at: float | None = None
    future: asyncio.Future[Any] | None = None

    @property
    def is_turn(self) -> bool:
        """Whether the guest waits for nothing but its turn."""
        return not self.input and self.wake_at is None and self.future is None

    def clear(self) -> None:
        """The guest is about to run."""
        self.input, self.wake_at, self.future = False, None, None


class WasiContext:
    """What the host calls of one guest work on (wasmtime's WasiCtx).

    Attributes:
        argv: The arguments, each ended by a NUL.
        environment: The variables, each as NAME=value and ended by a NUL.
        stdin: What the guest reads from its standard input.
        stdout: What it has written to its standard output.
        stderr: Is called with what it writes to its standard error.
        wait: Why it is suspended.
        started_at: Where its monotonic clock begins, in seconds of ``time.monotonic``.
        descriptors: Its open streams, files and directories.
        store: Its instance.
        memory: Its memory.
    """

    def __init__(
        self,
        store: Store,
        preopens: Sequence[Preopen],
        stderr: Callable[[bytes], None],
        client: HttpClient | None,
        note: Callable[[str], None],
    ) -> None:
        """Open the preopened directories; see ``guest.Guest``.

        Raises: EngineError if a directory cannot be opened.
        """
        self.argv = store.arguments
        self.environment = store.environment
        self.stderr = stderr
        self.stdin, self.stdout = store.streams()
        self.wait = WaitReason()
        self.started_at = store.started_at
        self._client = client
        self._note = note
        self.descriptors = DescriptorTable(preopens, store.lose_stream)
        self.store = store
        self.memory = GuestMemory(store)

    @cached_property
    def http(self) -> HttpSession:
        """Its requests to other servers: most guests have none."""
        return HttpSession(self._client, self._note)

    @property
    def slice_is_over(self) -> bool:
        """Whether a host call that works for long should suspend the guest now."""
        return monotonic() > self.store.slice_end

    def close(self) -> None:
        """Close what the guest has open. Its store is closed already."""
        self.descriptors.close()
        if "http" in self.__dict__:
            self.http.close()
