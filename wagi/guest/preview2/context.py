"""The state that the host calls of one component share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wagi.guest.capi.store import Store
from wagi.guest.handler import Preopen
from wagi.guest.http_exchange import HttpExchange
from wagi.guest.preview2.handles import HandleTable
from wagi.guest.preview2.http_fields import FieldsAccount
from wagi.guest.wasi.context import WasiContext
from wagi.guest.wasi.http_session import HttpClient

_NOTES_MAX = 20  # log messages per guest


class ComponentContext(WasiContext):
    """The state of a component: that of a module, since it may also import preview 1, and handles.

    Attributes:
        handles: The resources that the guest holds.
        exchange: The request of a handler of wasi:http and its response; None for a command.
        fields: The size of all header fields that the guest can change.
    """

    def __init__(
        self,
        store: Store,
        preopens: Sequence[Preopen],
        stderr: Callable[[bytes], None],
        client: HttpClient | None,
        note: Callable[[str], None],
        exchange: HttpExchange | None = None,
    ) -> None:
        """As for ``WasiContext``.

        Args:
            store: As for ``WasiContext``.
            preopens: As for ``WasiContext``.
            stderr: As for ``WasiContext``.
            client: As for ``WasiContext``.
            note: As for ``WasiContext``.
            exchange: The request of a handler of wasi:http; None for a command.
        """
        super().__init__(store, preopens, stderr, client, note)
        self.handles = HandleTable()
        self._notes = 0
        self.exchange = exchange
        self.fields = FieldsAccount()

    def allocate(self, size: int, alignment: int) -> int:
        """Allocate memory in the guest, as ``capi.allocator.Allocator.allocate``."""
        return self.store.allocator.allocate(size, alignment)

    def note(self, text: str) -> None:
        """Write a message to the log, unless there have been many of this guest."""
        if self._notes < _NOTES_MAX:
            self._notes += 1
            self._note(text)

    def close(self) -> None:
        """Close all resources and descriptors. The store must already be closed."""
        self.handles.close()
        super().close()
