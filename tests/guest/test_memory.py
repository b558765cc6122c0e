"""Ranges are checked against the current size of the memory."""

from __future__ import annotations

from itertools import pairwise
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wagi.guest.errno import EFAULT, EILSEQ, ENAMETOOLONG, GuestFault
from wagi.guest.memory import GuestMemory

pytestmark = pytest.mark.fast

SIZE = 65536


class Instance:
    """A memory within a larger one."""

    def __init__(self) -> None:
        self.around = bytearray(b"\xee" * (SIZE + 200))
        self.size = SIZE

    def memory(self) -> memoryview:
        return memoryview(self.around)[100 : 100 + self.size]


numbers = st.one_of(
    st.sampled_from([0, 1, 8, SIZE - 8, SIZE - 1, SIZE, SIZE + 1, 2**31, 2**32 - 8, 2**32 - 1]),
    st.integers(-1, 2**32),
)


@given(numbers, numbers)
def test_range_is_valid_or_efault(pointer: int, length: int) -> None:
    """A range outside the memory is EFAULT, and nothing is read or written."""
    instance = Instance()
    memory = GuestMemory(instance)
    if pointer >= 0 and length >= 0 and pointer + length <= SIZE:
        memory.require(pointer, length)
        assert memory.read(pointer, length) == b"\xee" * length
        memory.write(pointer, b"\x11" * length)
        assert instance.around.count(0x11) == length
    else:
        with pytest.raises(GuestFault) as fault:
            memory.read(pointer, length)
        assert fault.value.errno == EFAULT
    assert instance.around[:100] == instance.around[-100:] == b"\xee" * 100


@given(numbers)
def test_numbers_at_any_address(pointer: int) -> None:
    instance = Instance()
    memory = GuestMemory(instance)
    for write, size in ((memory.write_u16, 2), (memory.write_u32, 4), (memory.write_u64, 8)):
        if 0 <= pointer <= SIZE - size:
            write(pointer, 0x1111)
        else:
            with pytest.raises(GuestFault):
                write(pointer, 0x1111)
    assert instance.around[:100] == instance.around[-100:] == b"\xee" * 100


def test_memory_growth() -> None:
    instance = Instance()
    instance.size = SIZE - 8
    memory = GuestMemory(instance)
    with pytest.raises(GuestFault):
        memory.read(SIZE - 8, 1)
    instance.size = SIZE
    assert memory.read(SIZE - 8, 8) == b"\xee" * 8


def test_vector_buffers() -> None:
    memory = GuestMemory(Instance())
    memory.write(1000, b"abcdef")
    memory.write(0, pack("<6I", 1000, 2, 0, 0, 1002, 3))
    assert memory.gather(0, 3, 5) == b"abcde"
    assert memory.gather(0, 3, 4) is None
    assert memory.gather(0, 0, 0) == b""
    assert list(memory.batches(0, 3)) == [[(1000, 2), (0, 0), (1002, 3)]]
    memory.write(8, pack("<2I", SIZE - 1, 2))
    for use in (lambda: memory.gather(0, 3, 100), lambda: list(memory.batches(0, 3))):
        with pytest.raises(GuestFault):
            use()


def test_long_vectors_are_read_in_batches() -> None:
    memory = GuestMemory(Instance())
    count = SIZE // 8
    memory.write(0, b"".join(pack("<2I", number, 1) for number in range(count)))
    batches = list(memory.batches(0, count))
    starts = [start for batch in batches for start, _ in batch]
    assert all(after == before + 1 for before, after in pairwise(starts))
    assert len(starts) == count
    assert max(map(len, batches)) <= 1024
    assert memory.gather(0, count, SIZE) is None


def test_paths() -> None:
    memory = GuestMemory(Instance())
    memory.write(0, b"caf\xc3\xa9 \xff")
    assert memory.read_path(0, 5) == b"caf\xc3\xa9"
    for length, errno in ((7, EILSEQ), (4096, ENAMETOOLONG), (SIZE + 1, EFAULT)):
        with pytest.raises(GuestFault) as fault:
            memory.read_path(0, length)
        assert fault.value.errno == errno
