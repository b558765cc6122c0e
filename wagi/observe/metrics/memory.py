"""Counters in memory that all processes of a service share.

The supervisor creates a ``MetricsMemory`` before it forks, and gives each process a ``Page``. A
page has a single writer; the process that exposes the metrics reads all pages. A page is a list of
series, to which its writer appends::

    0        8           16                       16 + 8 * CELLS             PAGE_SIZE
    ├────────┼───────────┼────────────────────────┼──────────────────────────┤
    │ count  │ heartbeat │ cells: doubles         │ names of series          │
    └────────┴───────────┴────────────────────────┴──────────────────────────┘
    name: ┌──────────────┬──────────────┬──────────────────────┐
          │ family (u16) │ length (u16) │ label values (UTF-8) │   values are separated by NULs
          └──────────────┴──────────────┴──────────────────────┘

The cells of series follow each other in the order of the names. The count of series is written
last, so a reader never sees a series without its name. A cell is an aligned double, which every
64-bit processor writes at once. There are no locks, so a killed writer leaves none locked: the
supervisor adds the counters of its page to those of ended processes, and clears the page. The first
bytes of the memory are a sequence number, odd meanwhile, so that readers count nothing twice. The
heartbeat is when the writer's event loop last ran, in seconds of ``time.monotonic``.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from mmap import PAGESIZE, mmap

from wagi.observe.metrics.families import FAMILIES, Family, Kind

CELLS = 32 * 1024
"""Cells of a page: enough for requests to a thousand routes with several methods and codes."""
_SPARE = max(family.size for family in FAMILIES)
"""Cells at the end of a page that take the values of series for which there is no room."""
_NAMES_SIZE = 512 * 1024  # bytes
_CELLS_AT = 16
_NAMES_AT = _CELLS_AT + 8 * CELLS
PAGE_SIZE = _NAMES_AT + _NAMES_SIZE
"""Bytes of a page. The system provides memory only for the parts that are used."""
_NAME = struct.Struct("=HH")
_NUMBERS = {family.name: number for number, family in enumerate(FAMILIES)}
_READ_INTERVAL_S = 0.001  # between attempts to read while a page is being closed

Series = tuple[Family, tuple[str, ...]]
"""A metric and the values of its labels."""
Snapshot = dict[Series, list[float]]
"""The cells of all series, summed over all processes."""


class Page:
    """The series of one process, which alone writes them. Not thread-safe.

    Attributes:
        cells: The values, by the indexes that ``place`` returns.
    """

    def __init__(self, memory: memoryview[int]) -> None:
        """Open an empty page.

        Args:
            memory: Its ``PAGE_SIZE`` bytes.
        """
        self._count = memory[:8].cast("Q")
        self._heartbeat = memory[8:_CELLS_AT].cast("d")
        self._names = memory[_NAMES_AT:]
        self.cells = memory[_CELLS_AT:_NAMES_AT].cast("d")
        self._cells_used = 0
        self._names_used = 0
        self._places: dict[Series, int] = {}

    def place(self, family: Family, *labels: str) -> int:
        """Return the index of the first cell of a series, which is appended if it is new.

        Args:
            family: The metric.
            labels: The values of its labels, in their order, without NULs.

        Returns:
            An index in ``cells``; in a full page, that of cells that are not exposed.
        """
        series = family, labels
        if (known := self._places.get(series)) is not None:
            return known
        text = "\0".join(labels).encode()
        end = self._names_used + _NAME.size + len(text)
        place = self._cells_used
        if place + family.size > CELLS - _SPARE or end > _NAMES_SIZE or len(text) > 0xFFFF:
            return CELLS - _SPARE
        header = _NAME.pack(_NUMBERS[family.name], len(text))
        self._names[self._names_used : end] = header + text
        self._names_used = end
        self._cells_used += family.size
        self._places[series] = place
        self._count[0] = len(self._places)
        return place

    def beat(self) -> None:
        """Record that the event loop of this process runs."""
        self._heartbeat[0] = time.monotonic()

    def add(self, family: Family, *labels: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        self.cells[self.place(family, *labels)] += amount

    def set(self, family: Family, value: float) -> None:
        """Set a gauge without labels."""
        self.cells[self.place(family)] = value


class MetricsMemory:
    """The pages of all processes.

    Args:
        processes: Maximum number of processes at a time, without the supervisor.

    Attributes:
        own: The page of the supervisor. It also has what ended processes have counted.
    """

    def __init__(self, processes: int) -> None:
        memory = memoryview(mmap(-1, PAGESIZE + (processes + 1) * PAGE_SIZE))
        self._sequence = memory[:8].cast("Q")
        self._pages = [
            memory[start : start + PAGE_SIZE] for start in range(PAGESIZE, len(memory), PAGE_SIZE)
        ]
        self.own = Page(self._pages[0])
        self._unused = list(range(1, processes + 1))

    def open_page(self) -> int | None:
        """Reserve a page for a process. Must be called before the fork.

        Returns:
            Its number, for ``page``; None if all are in use.
        """
        return self._unused.pop(0) if self._unused else None

    def page(self, number: int) -> Page:
        """Return a reserved page. Must be called by its writer, after the fork."""
        return Page(self._pages[number])

    def close_page(self, number: int) -> None:
        """Take over the counters of a process that has ended, and free its page."""
        page = self._pages[number]
        self._sequence[0] += 1
        for (family, labels), cells in _read(page):
            if family.kind is not Kind.GAUGE:
                place = self.own.place(family, *labels)
                for index, value in enumerate(cells, place):
                    self.own.cells[index] += value
        _clear(page)
        self._sequence[0] += 1
        self._unused.append(number)
        self._unused.sort()

    def heartbeats(self) -> list[float]:
        """When the event loops of the workers last ran, in seconds of ``time.monotonic``."""
        beats = (page[8:_CELLS_AT].cast("d")[0] for page in self._pages)
        return [beat for beat in beats if beat]

    def read(self) -> Snapshot:
        """Add up the series of all processes. Any process may call it."""
        while True:
            before = self._sequence[0]
            values: Snapshot = {}
            for page in self._pages:
                for series, cells in _read(page):
                    known = values.get(series)
                    values[series] = [*map(sum, zip(known, cells, strict=True))] if known else cells
            if before % 2 == 0 and before == self._sequence[0]:
                return values
            time.sleep(_READ_INTERVAL_S)


def _read(page: memoryview[int]) -> Iterator[tuple[Series, list[float]]]:
    cells, place, at = page[_CELLS_AT:_NAMES_AT].cast("d"), 0, _NAMES_AT
    for _ in range(page[:8].cast("Q")[0]):
        number, length = _NAME.unpack_from(page, at)
        at += _NAME.size
        text = str(page[at : at + length], "utf-8")
        at += length
        family = FAMILIES[number]
        labels = tuple(text.split("\0")) if family.labels else ()
        yield (family, labels), list(cells[place : place + family.size])
        place += family.size


def _clear(page: memoryview[int]) -> None:
    """Set the used parts of a page to zero; the rest is zero."""
    used = sum(family.size for (family, _), _ in _read(page))
    page[: _CELLS_AT + 8 * used] = bytes(_CELLS_AT + 8 * used)
    spare = _NAMES_AT - 8 * _SPARE
    page[spare:_NAMES_AT] = bytes(8 * _SPARE)
