"""Memories and stacks are reused, but no data of a guest reaches the next one.

The guests run in wasmtime itself. A prober searches all of its memory, grown to the maximum, and
then writes data for the next one to find.
"""

from __future__ import annotations

import ctypes
import os
import platform
import random
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wasmtime

from tests.guest.core.own_memory import (
    MIB,
    PAGE,
    SOURCES,
    WARNINGS,
    Core,
    Guest,
    Image,
    build,
    compiler,
    mappings,
    run_scenario,
)
from tests.support.toolchains import missing

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the core is for Linux only"),
    pytest.mark.xdist_group("core-memory"),
]

HOST_PAGE = os.sysconf("SC_PAGESIZE")
KEPT_PAGES = 2 * MIB // HOST_PAGE  # of one slot
FREE_SLOTS = 128
IMAGE_MEMORY = 64  # pages of WebAssembly


@pytest.fixture(scope="module")
def command() -> list[str]:
    return compiler() or missing("a C compiler (cc, or pip install ziglang)")


@pytest.fixture(scope="module")
def library(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(command, tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def core(library: Path) -> Core:
    core = Core(library)
    assert core.self_test() is None
    return core


@pytest.fixture
def image(core: Core) -> Iterator[Image]:
    """Nonzero data that is different on each page, in the middle of a memory."""
    made = core.image(pattern(48 * PAGE), offset=4 * PAGE, memory_size=IMAGE_MEMORY * PAGE)
    assert made
    yield made
    core.delete(made)


def pattern(size: int) -> bytes:
    pages = (bytes([1 + number % 255]) * HOST_PAGE for number in range(size // HOST_PAGE))
    return b"".join(pages)


def expected(image: Image, size: int) -> bytes:
    return (bytes(image.offset) + image.data).ljust(size, b"\0")


def test_the_kernel_finds_written_pages(core: Core) -> None:
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    if release < (6, 7):
        missing("PAGEMAP_SCAN (Linux 6.7)")
    assert core.method() == "pagemap"


# ---- probers ----


@pytest.mark.parametrize("pages", [1, 2, 17, 257, 1024, 4096])
@pytest.mark.parametrize("growth", [0, 1, 160])
def test_probers(core: Core, pages: int, growth: int) -> None:
    """With one to thousands of written pages, below and above the limit of a slot."""
    module = core.module(pages)
    size = (pages + growth) * PAGE
    slots = set()
    most = size // HOST_PAGE
    counts = [1, 3, KEPT_PAGES - 1, KEPT_PAGES, KEPT_PAGES + 1, 4 * KEPT_PAGES, most]
    for count in (min(count, most) for count in (*counts, *reversed(counts))):
        guest = core.guest(module)
        slots.add(guest.address)
        assert guest.memory.data_len(guest.store) == pages * PAGE
        assert guest.call("find") == -1
        assert guest.call("grow", growth) == pages
        assert guest.call("find") == -1
        distance = max(most // count, 1) * HOST_PAGE
        guest.call("write", count % HOST_PAGE, count, distance)
        guest.call("write", size - 1, 1, 1)
        guest.close()
    assert len(slots) == 1, "the test needs a slot that is reused"


def test_every_page_of_a_memory(core: Core) -> None:
    """Each page in turn is the only one that is written."""
    module = core.module(4)
    slots = set()
    for number in range(4 * PAGE // HOST_PAGE):
        guest = core.guest(module)
        slots.add(guest.address)
        assert guest.call("find") == -1
        guest.call("write", number * HOST_PAGE + number, 1, 1)
        guest.close()
    assert len(slots) == 1


def test_small_guests_after_large_ones(core: Core) -> None:
    """Pages kept far beyond the end of a small guest are clean when a later guest grows."""
    module = core.module(1)
    slots = set()
    for growth, count in ((300, 200), (0, 1), (10, 40), (0, 3), (300, 0), (600, 250), (0, 1)) * 2:
        guest = core.guest(module)
        slots.add(guest.address)
        assert guest.call("grow", growth) == 1
        assert guest.call("find") == -1
        guest.call("write", 5, count, (growth + 1) * PAGE // (count or 1))
        guest.close()
    assert len(slots) == 1


def test_guests_of_256_mib(core: Core) -> None:
    module = core.module(1)
    slots = set()
    for count in (3, 65536, 200, 0):
        guest = core.guest(module)
        slots.add(guest.address)
        assert guest.call("grow", 4095) == 1
        assert guest.call("find") == -1
        guest.call("write", 0, count, 256 * MIB // (count or 1))
        guest.close()
    assert len(slots) == 1


def test_modules_of_different_sizes_in_the_same_slots(core: Core) -> None:
    """If there are many free slots, one is adapted to a memory of another size."""
    small, large = core.module(3), core.module(300)
    crowd = [core.guest(small) for _ in range(FREE_SLOTS + 8)]  # evicts all older slots
    slots = {guest.address for guest in crowd}
    for guest in crowd:
        guest.call("write", 9, 12, 4 * HOST_PAGE)
        guest.close()
    shared = 0
    for module in (large, core.module(40), core.module(1), core.module(299), small, large):
        guest = core.guest(module)
        shared += guest.address in slots
        assert guest.call("find") == -1
        pages = guest.memory.size(guest.store)
        assert_traps_at_the_end(guest)
        assert guest.call("grow", 20) == pages
        assert guest.call("find") == -1
        guest.call("write", 9, 60, (pages + 20) * PAGE // 60)
        guest.close()
    assert shared == 6


def test_two_modules_alternate(core: Core) -> None:
    small, large = core.module(5), core.module(90)
    for count in (1, KEPT_PAGES // 2, 2 * KEPT_PAGES, 7) * 4:
        for module in (small, large):
            guest = core.guest(module)
            assert guest.call("find") == -1
            guest.call("grow", 30)
            assert guest.call("find") == -1
            size = guest.memory.data_len(guest.store)
            guest.call("write", 1, min(count, size // HOST_PAGE), HOST_PAGE)
            guest.close()


# ---- the end of a memory ----


def assert_traps_at_the_end(guest: Guest) -> None:
    end = guest.memory.data_len(guest.store)
    assert guest.call("read", end - 1) == 0
    for address in (end, end + HOST_PAGE, end + PAGE - 1, end + MIB, 2**32 - 1):
        with pytest.raises(wasmtime.Trap, match="out of bounds memory access"):
            guest.call("read", address)


def test_the_end_of_a_memory_traps_after_a_larger_one(core: Core) -> None:
    module = core.module(2)
    slots = set()
    for growth in (0, 1, 50, 0, 500, 3, 0):
        guest = core.guest(module)
        slots.add(guest.address)
        assert_traps_at_the_end(guest)
        assert guest.call("grow", growth) == 2
        guest.call("write", 0, (growth + 2) * PAGE // HOST_PAGE - 1, HOST_PAGE)
        assert_traps_at_the_end(guest)
        guest.close()
    assert len(slots) == 1


def test_a_memory_without_pages(core: Core) -> None:
    module = core.module(0)
    for _ in range(3):
        guest = core.guest(module)
        with pytest.raises(wasmtime.Trap, match="out of bounds memory access"):
            guest.call("read", 0)
        assert guest.call("grow", 1) == 0
        assert guest.call("find") == -1
        guest.call("write", 0, 10, 1)
        guest.close()


def test_a_memory_grows_up_to_4_gib(core: Core) -> None:
    guest = core.guest(core.module(1))
    assert guest.call("grow", 65535) == 1
    assert guest.call("grow", 1) == -1
    guest.call("write", 2**32 - 1, 1, 1)
    assert guest.call("read", 2**32 - 1) == 0xA5
    guest.close()
    guest = core.guest(core.module(1))
    assert guest.call("find") == -1
    guest.close()


# ---- images ----


@pytest.mark.parametrize("count", [1, 3, KEPT_PAGES - 1, KEPT_PAGES, KEPT_PAGES + 1, 1000])
def test_probers_with_an_image(core: Core, image: Image, count: int) -> None:
    module = core.module(IMAGE_MEMORY)
    slots = set()
    size = IMAGE_MEMORY * PAGE
    chosen = random.Random(count)
    for growth in (0, 8, 0, 40):
        guest = core.guest(module, image)
        slots.add(guest.address)
        assert guest.content() == expected(image, size)
        assert guest.call("grow", growth) == IMAGE_MEMORY
        assert guest.content() == expected(image, size + growth * PAGE)
        for page in chosen.sample(range(size // HOST_PAGE), min(count, size // HOST_PAGE)):
            guest.call("write", page * HOST_PAGE + chosen.randrange(HOST_PAGE), 1, 1)
        guest.close()
    assert len(slots) == 1


def test_every_page_around_an_image(core: Core) -> None:
    data = core.image(pattern(PAGE), offset=PAGE, memory_size=3 * PAGE)
    assert data
    module = core.module(3)
    for number in range(3 * PAGE // HOST_PAGE):
        guest = core.guest(module, data)
        assert guest.content() == expected(data, 3 * PAGE)
        guest.call("write", number * HOST_PAGE, 2, HOST_PAGE - 1)
        guest.close()
    core.delete(data)


def test_guests_with_and_without_an_image(core: Core, image: Image) -> None:
    module = core.module(IMAGE_MEMORY)
    for _ in range(5):
        for each in (image, None):
            guest = core.guest(module, each)
            assert guest.content() == (
                expected(image, IMAGE_MEMORY * PAGE) if each else bytes(IMAGE_MEMORY * PAGE)
            )
            guest.call("write", 3, 100, 3 * HOST_PAGE)
            guest.close()


def test_concurrent_guests_do_not_see_each_others_writes_to_the_image(
    core: Core, image: Image
) -> None:
    module = core.module(IMAGE_MEMORY)
    guests = [core.guest(module, image) for _ in range(3)]
    guests[0].call("write", 0, IMAGE_MEMORY * PAGE, 1)
    changed = bytes(byte ^ 0xA5 for byte in expected(image, IMAGE_MEMORY * PAGE))
    assert [guest.content() for guest in guests] == [
        changed,
        *[expected(image, IMAGE_MEMORY * PAGE)] * 2,
    ]
    for guest in guests:
        guest.close()


def test_an_image_cannot_be_written(image: Image) -> None:
    assert image.data
    found = [
        path
        for path in Path("/proc/self/fd").iterdir()
        if path.is_symlink() and "wagi-image" in str(path.readlink())
    ]
    assert found
    for path in found:
        descriptor = int(path.name)
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)


def test_an_image_is_for_memories_of_its_size(core: Core, image: Image) -> None:
    guest = core.guest(core.module(IMAGE_MEMORY + 1), image)
    assert guest.call("find") == -1
    guest.close()


def test_an_image_is_for_the_first_memory(core: Core, image: Image) -> None:
    fields = f'(memory (export "memory") {IMAGE_MEMORY}) (memory (export "other") {IMAGE_MEMORY})'
    guest = core.guest(wasmtime.Module(core.engine, f"(module {fields})"), image)
    other = guest.exports["other"]
    assert isinstance(other, wasmtime.Memory)
    assert guest.content() == expected(image, IMAGE_MEMORY * PAGE)
    assert not any(other.read(guest.store))
    guest.close()


def test_an_image_is_deleted_with_its_slots(core: Core) -> None:
    before = mappings("wagi-image")
    data = core.image(pattern(2 * PAGE), offset=0, memory_size=4 * PAGE)
    assert data
    module = core.module(4)
    guests = [core.guest(module, data) for _ in range(3)]
    guests.pop().close()
    core.delete(data)
    assert [guest.content() for guest in guests] == [expected(data, 4 * PAGE)] * 2
    for guest in guests:
        guest.close()
    assert mappings("wagi-image") == before


def test_few_slots_of_a_large_image_stay(core: Core) -> None:
    before = mappings("wagi-image")
    data = core.image(pattern(4 * MIB), offset=0, memory_size=4 * MIB)
    assert data
    module = core.module(64)
    guests = [core.guest(module, data) for _ in range(6)]
    for guest in guests:
        guest.close()
    assert mappings("wagi-image") - before <= 3  # two slots, and the source of the copies
    core.delete(data)
    assert mappings("wagi-image") == before


@pytest.mark.parametrize(
    ("offset", "size", "memory"),
    [
        (0, 0, PAGE),
        (0, 2 * PAGE, PAGE),
        (PAGE, PAGE, PAGE),
        (2**64 - PAGE, PAGE, PAGE),
        (1, PAGE, 2 * PAGE),
        (0, PAGE - 1, PAGE),
    ],
)
def test_images_that_do_not_fit(core: Core, offset: int, size: int, memory: int) -> None:
    assert core.image(bytes(size), offset, memory) is None


# ---- threads, processes, kernels ----


def test_guests_end_on_another_thread(core: Core, image: Image) -> None:
    """Each of two threads frees the guests of the other one."""
    handed_over: tuple[deque[Guest], deque[Guest]] = (deque(), deque())
    modules = core.module(IMAGE_MEMORY), core.module(2)
    together = threading.Barrier(2)

    def end_all(guests: deque[Guest]) -> None:
        while guests:
            guests.popleft().close()

    def work(number: int) -> int:
        chosen = random.Random(number)
        found = 0
        together.wait(timeout=60)
        for _ in range(150):
            each = chosen.choice((image, None))
            guest = core.guest(modules[0 if each else chosen.randrange(2)], each)
            size = guest.memory.data_len(guest.store)
            found += guest.content() != (expected(image, size) if each else bytes(size))
            guest.call("write", 0, chosen.choice((1, 30, 500)), HOST_PAGE // 16)
            handed_over[1 - number].append(guest)
            end_all(handed_over[number])
        together.wait(timeout=60)
        end_all(handed_over[number])
        return found

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(work, (0, 1))) == [0, 0]


CLEAN = {"found": [-1], "slots": 1}


def test_a_separate_process(library: Path, core: Core) -> None:
    assert run_scenario(library, "usual") == {"fault": None, "method": core.method(), **CLEAN}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is for x86-64")
def test_a_kernel_without_pagemap_scan(library: Path) -> None:
    found = run_scenario(library, "without_pagemap_scan")
    assert found == {"fault": None, "method": "madvise", **CLEAN}


def test_a_child_scans_its_own_memory(library: Path, core: Core) -> None:
    clean = {"method": core.method(), **CLEAN}
    found = run_scenario(library, "forked")
    assert found == {"parent": clean, "child": clean, "again": clean}


def test_self_test_detects_descriptor_of_the_parent(library: Path, core: Core) -> None:
    if not hasattr(ctypes.CDLL(None), "_Fork"):
        missing("_Fork (glibc 2.34)")
    found = run_scenario(library, "forked_unnoticed")
    assert found["parent"] == {"method": core.method(), **CLEAN}
    assert found["child"] == {"fault": None, "method": "madvise", **CLEAN}


# ---- resident memory ----


def test_resident_memory_after_large_guests(library: Path) -> None:
    found = run_scenario(library, "greedy")
    before, after = found["before"], found["after"]
    assert found["most"] - before["VmRSS"] > 4 * 240 * MIB
    assert found["kept"] <= 16 * MIB
    assert sum(after.values()) - sum(before.values()) <= 16 * MIB


def test_resident_memory_of_kept_pages(library: Path) -> None:
    found = run_scenario(library, "moderate")
    before, after = found["before"], found["after"]
    assert found["most"] - before["VmRSS"] > 56 * MIB
    assert sum(after.values()) - sum(before.values()) <= 10 * MIB


def test_resident_memory_after_many_guests(library: Path) -> None:
    found = run_scenario(library, "crowd")
    before, after = found["before"], found["after"]
    assert found["most"] - before["VmRSS"] > 64 * MIB
    assert sum(after.values()) - sum(before.values()) <= 8 * MIB
    assert found["mappings"] <= 128 * 4 + 64 * 2


# ---- without wasmtime, under sanitizers ----


@pytest.mark.parametrize(
    ("sanitizer", "threads"), [("address,undefined", 1), ("address,undefined", 2), ("thread", 2)]
)
def test_random_guests(command: list[str], tmp_path: Path, sanitizer: str, threads: int) -> None:
    driver = tmp_path / "driver"
    sources = [str(Path(__file__).with_name("memory_driver.c")), str(SOURCES / "memory.c")]
    checks = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    options = [*WARNINGS[:-1], *checks, "-g", "-O1", "-pthread", "-o", str(driver)]
    built = subprocess.run(
        [*command, *options, *sources], capture_output=True, text=True, check=False
    )
    if built.returncode != 0:
        assert "sanitize" in built.stderr or "san" in built.stderr, built.stderr
        missing(f"the {sanitizer} sanitizer of the C compiler")
    steps = "200" if sanitizer == "thread" else "600"
    for seed in range(3):
        arguments = [str(driver), str(seed), steps, str(threads)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
