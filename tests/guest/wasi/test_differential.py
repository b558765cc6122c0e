"""WASI calls behave as in wasmtime's own WASI: same errno, same results, same memory.

Each script of calls is performed twice: by wasmtime with its own WASI, its stdio on pipes, and by a
guest of the gateway; the volumes of the two have the same content. Every difference fails the test,
unless it is listed: ``UNSPECIFIED`` lists results that are not compared, ``EXCEPTIONS`` cases in
which the gateway differs intentionally.

``WAGI_WASI_SEEDS=20000 pytest tests/guest/wasi/test_differential.py -k generated`` is a long run.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support import wasi_trees
from tests.support.toolchains import missing
from tests.support.wasi_calls import (
    ARENA,
    FUNCTIONS,
    NAMES,
    Argument,
    Call,
    Result,
    call,
    errno_name,
    wasm_types,
)
from tests.support.wasi_runs import (
    Observation,
    Sandbox,
    Sandboxes,
    Script,
    run_native,
    run_wagi,
    run_wagi_unstable,
)
from tests.support.wasi_sequences import (
    ALL_RIGHTS,
    READ,
    READDIR,
    WRITE,
    Sequences,
    clock_subscription,
    descriptor_subscription,
)
from wagi.guest import compatibility

SEEDS = int(os.environ.get("WAGI_WASI_SEEDS", "240"))
BATCHES = 12
EBADF, EFAULT, EILSEQ, EINTR, EINVAL, EMFILE = 8, 21, 25, 27, 28, 33
ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR = 37, 44, 48, 54
MAX = 0xFFFFFFFF


# ---- Unspecified results ------------------------------------------------------------------------

Masked = bytearray
Span = tuple[int, int]


def _mask_clock(made: Call, memory: Masked, span: Span) -> None:
    clock, at = made.arguments[0], made.outs[0]
    value = int.from_bytes(memory[at : at + 8], "little")
    if clock == 0:
        _mask_time(memory, at, span)
    elif value > 0:
        memory[at : at + 8] = bytes(8)


def _mask_time(memory: Masked, at: int, span: Span) -> None:
    """Replace a time within the run by 1, because the runs take place at different times."""
    value = int.from_bytes(memory[at : at + 8], "little")
    if span[0] <= value <= span[1]:
        memory[at : at + 8] = (1).to_bytes(8, "little")


def _mask_random(made: Call, memory: Masked, span: Span) -> None:
    at, length = made.arguments
    memory[at : at + length] = bytes(length)


def _mask_filestat(made: Call, memory: Masked, span: Span) -> None:
    at = made.outs[0]
    memory[at : at + 16] = bytes(16)  # dev, ino
    _mask_time(memory, at + 40, span)  # atim
    _mask_time(memory, at + 48, span)  # mtim
    memory[at + 56 : at + 64] = bytes(8)  # ctim
    if memory[at + 16] == 3:
        memory[at + 32 : at + 40] = bytes(8)  # the size of a directory


def _mask_inodes(made: Call, memory: Masked, span: Span) -> None:
    start = made.arguments[1]
    used = int.from_bytes(memory[made.outs[0] : made.outs[0] + 4], "little")
    at, end = start, start + used
    while at < end:
        length = int.from_bytes(memory[at + 16 : at + 20], "little") if at + 20 <= end else 0
        inode = slice(min(at + 8, end), min(at + 16, end))
        memory[inode] = bytes(inode.stop - inode.start)
        at += 24 + length


def _mask_event_sizes(made: Call, memory: Masked, span: Span) -> None:
    events, count_at = made.arguments[1], made.outs[0]
    count = int.from_bytes(memory[count_at : count_at + 4], "little")
    for at in range(events, events + 32 * count, 32):
        memory[at + 16 : at + 24] = bytes(8)


@dataclass(frozen=True, slots=True)
class Unspecified:
    """Results that are not compared.

    Attributes:
        functions: The functions that return them.
        mask: Overwrites them in a copy of the memory, after a successful call.
        reason: Why they are not compared.
    """

    functions: tuple[str, ...]
    mask: Callable[[Call, Masked, Span], None]
    reason: str


UNSPECIFIED = (
    Unspecified(("clock_time_get",), _mask_clock, "The two runs are at different times."),
    Unspecified(("random_get",), _mask_random, "Random bytes differ."),
    Unspecified(
        ("fd_filestat_get", "path_filestat_get"),
        _mask_filestat,
        "dev and ino are those of the file system, where wasmtime has 1 and a hash. ctim is the"
        " time of the last change of status, where wasmtime has the time of creation. The size of a"
        " directory depends on its history. Times within the run depend on when it was.",
    ),
    Unspecified(
        ("fd_readdir",), _mask_inodes, "ino is that of the file system, wasmtime's a hash."
    ),
    Unspecified(
        ("poll_oneoff",),
        _mask_event_sizes,
        "nbytes of an event is a hint: wasmtime says 1 where it does not know.",
    ),
)


# ---- Intentional differences --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """A call with different results.

    Attributes:
        call: The call.
        theirs: Its result in wasmtime; no errno if the guest ended there.
        trap: Why wasmtime ended the guest, if it did.
        ours: Its result in the gateway.
    """

    call: Call
    theirs: Result
    trap: str
    ours: Result


def _pointer_trap(difference: Difference) -> bool:
    if "out of bounds" in difference.trap or "Pointer overflow" in difference.trap:
        return difference.ours.errno not in (None, 0)
    return "not aligned" in difference.trap and difference.ours.errno is not None


def _argument_trap(difference: Difference) -> bool:
    is_invalid = any(
        text in difference.trap
        for text in ("Invalid flag value", "Invalid enum value", "to fit in target type")
    )
    return is_invalid and difference.ours.errno == EINVAL


def _outside(difference: Difference) -> bool:
    return difference.ours.errno == EFAULT and difference.call.leaves_memory()


def _several_buffers(difference: Difference) -> bool:
    made, theirs, ours = difference.call, difference.theirs, difference.ours
    if theirs.errno != 0 or ours.errno != 0:
        return False
    lengths = [length for _, length in made.buffers() if length]
    (at,) = made.outs
    return len(lengths) > 1 and theirs.number(at) <= ours.number(at) <= sum(lengths)


def _bad_descriptor_events(difference: Difference) -> bool:
    made, theirs, ours = difference.call, difference.theirs, difference.ours
    if theirs.errno != EBADF:
        return False
    if (
        ours.errno == EINVAL
    ):  # wasmtime stops at the descriptor, before it reaches the invalid subscription
        return _has_invalid_subscription(made)
    if ours.errno != 0:
        return False
    errors = [error for _, error, _ in _events(made, ours)]
    return EBADF in errors and set(errors) <= {0, EBADF}


def _has_invalid_subscription(made: Call) -> bool:
    memory, (start, _, count, _) = made.placed(), made.arguments
    for at in range(start, min(start + 48 * count, ARENA - 47), 48):
        tag, clock, flags = struct.unpack_from("<8xB7xI20xH6x", memory, at)
        if tag > 2 or (tag == 0 and (clock > 1 or flags > 1)):
            return True
    return False


def _found_later(difference: Difference) -> bool:
    """Our result has the same events, and additional ones of clocks or readable descriptors."""
    made, theirs, ours = difference.call, difference.theirs, difference.ours
    if theirs.errno != 0 or ours.errno != 0:
        return False
    events = [_events(made, result) for result in (theirs, ours)]
    more = [event for event in events[1] if event not in events[0]]
    return all(event in events[1] for event in events[0]) and all(
        error == 0 and kind in (0, 1) for _, error, kind in more
    )


def _events(made: Call, result: Result) -> list[tuple[int, int, int]]:
    """The events of a poll: userdata, error and type of each."""
    start, (count_at,) = made.arguments[1], made.outs
    return [
        struct.unpack_from("<QHB", result.memory, start + 32 * index)
        for index in range(result.number(count_at))
    ]


def _illegal_name(difference: Difference) -> bool:
    return difference.theirs.errno == EILSEQ and difference.ours.errno in (0, EILSEQ)


def _first_error(difference: Difference) -> bool:
    return bool(difference.theirs.errno) and difference.ours.errno in (EINVAL, ENOTDIR)


def _too_long(difference: Difference) -> bool:
    return difference.theirs.errno == ENOMEM and difference.ours.errno not in (None, 0)


@dataclass(frozen=True, slots=True)
class Exemption:
    """A listed exception.

    Attributes:
        functions: The affected functions; empty for all.
        applies: Returns whether it explains a difference.
        reason: Why the gateway differs from wasmtime.
        goes_on: Whether both are in the same state afterwards, so that later calls are compared.
    """

    functions: tuple[str, ...]
    applies: Callable[[Difference], bool]
    reason: str
    goes_on: bool = False


EXCEPTIONS = (
    Exemption(
        ("fd_read",),
        lambda difference: difference.theirs.errno == EINTR and difference.ours.errno == 0,
        "A read into no buffer is a success, where wasmtime says it was interrupted (EINTR).",
        goes_on=True,
    ),
    Exemption(
        (),
        lambda difference: bool(difference.theirs.errno) and difference.ours.errno == ENAMETOOLONG,
        "A path of PATH_MAX bytes or more is ENAMETOOLONG, and not looked at. wasmtime finds that"
        " out later, where the kernel gets the whole path.",
        goes_on=True,
    ),
    Exemption(
        ("path_filestat_set_times",),
        lambda difference: difference.theirs.errno == 0 and difference.ours.errno == ENOENT,
        "A file that does not exist is ENOENT also where no time is to be set. Linux, and so"
        " wasmtime, does not look at the file then.",
        goes_on=True,
    ),
    Exemption(
        ("path_rename",),
        _first_error,
        "Where both paths are wrong the old one is reported, with what can be said without its"
        " directory: wasmtime looks at both directories first.",
        goes_on=True,
    ),
    Exemption(
        (),
        _pointer_trap,
        "A pointer out of bounds is an errno, where wasmtime ends the guest: the program can report"
        " its bug. A pointer need not be aligned: nothing depends on it.",
    ),
    Exemption(
        (),
        _outside,
        "What is passed by pointer has to be within the memory, and that is checked first, so"
        " that a call that fails has no effect. wasmtime checks what it gets to use: not the result"
        " of a call that fails, nor the rest of a buffer that is not filled.",
    ),
    Exemption(
        (),
        _argument_trap,
        "A flag or number without a meaning is EINVAL, where wasmtime ends the guest: a newer"
        " program can do without what it has asked for.",
    ),
    Exemption(
        ("fd_read", "fd_write", "fd_pread", "fd_pwrite"),
        _several_buffers,
        "All buffers are served in one call, where wasmtime serves the first that is not empty:"
        " programs that never look at the count would lose output.",
    ),
    Exemption(
        ("poll_oneoff",),
        _bad_descriptor_events,
        "A descriptor that is closed, unknown or of the wrong direction is an event with the error"
        " EBADF, where wasmtime fails the whole call: other events would be lost.",
        goes_on=True,
    ),
    Exemption(
        ("path_open",),
        lambda difference: difference.theirs.errno == 0 and difference.ours.errno == EMFILE,
        "A guest may have 128 files open: all guests share those of the process.",
    ),
    Exemption(
        ("poll_oneoff",),
        _found_later,
        "A clock that is due and a file that can be read are events. wasmtime finds a relative time"
        " of 0 ns, and whatever can be read, only if nothing else is ready at the first look.",
        goes_on=True,
    ),
    Exemption(
        ("fd_readdir",),
        _illegal_name,
        "A listing is read as far as the buffer goes: a name that is not UTF-8 is an error when it"
        " is its turn. wasmtime reads the whole directory in each call.",
        goes_on=True,
    ),
    Exemption(
        (),
        _too_long,
        "wasmtime copies at most 128 MiB in a call and returns ENOMEM for more, before it looks"
        " whether there is so much memory. The gateway looks first.",
    ),
    Exemption(
        ("proc_exit",),
        lambda difference: "invalid exit status" in difference.trap,
        "Every status is delivered, where wasmtime accepts 0 to 125: a response that is complete"
        " must not become an error.",
    ),
)


# ---- Comparison ---------------------------------------------------------------------------------


def find_difference(script: Script, theirs: Observation, ours: Observation) -> str:
    """Compare two runs of a script. Returns: the first difference, empty if the runs are equal."""
    if theirs.ending.startswith("trap") and ours.ending.startswith("trap"):
        return ""  # in a function of wasmtime that we do not implement; our record is lost
    for index, made in enumerate(script.calls):
        if index >= len(theirs.results) and index >= len(ours.results):
            break  # both guests have ended
        their_result = theirs.results[index] if index < len(theirs.results) else Result(None, b"")
        our_result = ours.results[index] if index < len(ours.results) else Result(None, b"")
        if _normal(made, their_result, theirs) == _normal(made, our_result, ours):
            if their_result.errno is None:
                break  # neither call has returned
            continue
        trap = theirs.ending if their_result.errno is None else ""
        exemption = _exemption(Difference(made, their_result, trap, our_result))
        if exemption is None:
            return _describe(script, index, theirs, ours)
        if not exemption.goes_on:
            return ""
    if script.calls and script.calls[-1].name == "proc_exit" and "invalid exit" in theirs.ending:
        return ""
    for what in ("ending", "stdout", "stderr"):
        if getattr(theirs, what) != getattr(ours, what):
            return (
                f"{what}: wasmtime {getattr(theirs, what)!r}, wagi {getattr(ours, what)!r}"
                f"\n{_listing(script, theirs, ours, len(script.calls))}"
            )
    return _compare_files(script, theirs, ours)


def _normal(made: Call, result: Result, seen: Observation) -> tuple[int | None, bytes]:
    if result.errno != 0:
        return result.errno, result.memory
    memory = bytearray(result.memory)
    for unspecified in UNSPECIFIED:
        if made.name in unspecified.functions:
            unspecified.mask(made, memory, seen.span)
    return result.errno, bytes(memory)


def _exemption(difference: Difference) -> Exemption | None:
    for exemption in EXCEPTIONS:
        concerned = not exemption.functions or difference.call.name in exemption.functions
        if concerned and exemption.applies(difference):
            return exemption
    return None


def _compare_files(script: Script, theirs: Observation, ours: Observation) -> str:
    for name in sorted(theirs.files.keys() | ours.files.keys()):
        nodes = []
        for seen in (theirs, ours):
            node = seen.files.get(name)
            times = [
                1 if seen.span[0] <= time <= seen.span[1] else time
                for time in (node.times if node else ())
            ]
            nodes.append((node and (node.mode, node.size, node.content, node.links), times))
        if nodes[0] != nodes[1]:
            return (
                f"file {name!r}: wasmtime {nodes[0]}, wagi {nodes[1]}"
                f"\n{_listing(script, theirs, ours, len(script.calls))}"
            )
    return ""


def _describe(script: Script, index: int, theirs: Observation, ours: Observation) -> str:
    made = script.calls[index]
    lines = [f"call {index} of {len(script.calls)}: {made}"]
    memories = []
    for name, seen in (("wasmtime", theirs), ("wagi", ours)):
        result = seen.results[index] if index < len(seen.results) else Result(None, b"")
        ending = "" if result.errno is not None else seen.ending.strip()
        lines.append(f"  {name}: {_outcome(result)} {ending}")
        memories.append(_normal(made, result, seen)[1])
    lines += _memory_differences(*memories)
    return "\n".join((*lines, _listing(script, theirs, ours, index)))


def _memory_differences(theirs: bytes, ours: bytes) -> list[str]:
    if len(theirs) != len(ours) or theirs == ours:
        return []
    first = next(at for at in range(len(theirs)) if theirs[at] != ours[at])
    start = first & ~15
    return [
        f"  memory at {start:#x} ({name}): {memory[start : start + 64].hex(' ', 8)}"
        for name, memory in (("wasmtime", theirs), ("wagi", ours))
    ]


def _outcome(result: Result) -> str:
    return "did not return" if result.errno is None else errno_name(result.errno)


def _listing(script: Script, theirs: Observation, ours: Observation, end: int) -> str:
    """List the calls before a difference, with their results."""
    lines = ["after:"]
    for made, *results in zip(script.calls[:end], theirs.results, ours.results, strict=False):
        lines.append(f"  {made} = {', '.join(_outcome(result) for result in results[:1])}")
    return "\n".join(lines)


# ---- The tests ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def reference() -> None:
    """Older versions have different errnos, inodes and times, and cannot be the reference."""
    major = compatibility.installed_version().partition(".")[0]
    if int(major) < compatibility.NEWEST_TESTED_MAJOR:
        missing(f"wasmtime {compatibility.NEWEST_TESTED_MAJOR} or newer is not installed")


@pytest.fixture(scope="module")
def sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandboxes]:
    """The scripts' sandboxes. The read-only volume must be unchanged at the end."""
    made = Sandboxes(tmp_path_factory.mktemp("wasi"))
    before = wasi_trees.inspect(made.library)
    yield made
    assert wasi_trees.inspect(made.library) == before


def check(sandboxes: Sandboxes, script: Script, label: str = "") -> None:
    """Perform a script both ways and compare the results."""
    theirs = sandboxes.run(run_native, script)
    ours = sandboxes.run(run_wagi, script)
    difference = find_difference(script, theirs, ours)
    assert not difference, f"{label}\n{difference}"


def _seeds(batch: int) -> range:
    return range(batch, SEEDS, BATCHES)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_generated_sequences(sandboxes: Sandboxes, batch: int) -> None:
    for seed in _seeds(batch):
        check(sandboxes, Sequences(seed).script(), f"seed {seed}")


def test_the_reference_is_stable(sandboxes: Sandboxes) -> None:
    """Two runs of wasmtime are equal: the comparison does not depend on time or chance."""
    for seed in range(SEEDS // 6):
        script = Sequences(seed).script()
        first, second = (sandboxes.run(run_native, script) for _ in range(2))
        assert not find_difference(script, first, second), f"seed {seed}"


def test_difference_is_detected(sandboxes: Sandboxes) -> None:
    """If two runs differ in one argument, the comparison names the call."""
    opened = call("path_open", 3, 1, b"file.txt", 0, READ, READ, 0)
    scripts = [
        Script((opened, call("fd_seek", 5, offset, 0), call("fd_tell", 5))) for offset in (3, 4)
    ]
    first, second = (sandboxes.run(run_native, script) for script in scripts)
    assert find_difference(scripts[0], first, second).startswith("call 1 of 3: fd_seek(5, 3, 0")
    written = [Script((call("path_symlink", target, 3, b"new"),)) for target in (b"a", b"b")]
    first, second = (sandboxes.run(run_native, script) for script in written)
    difference = find_difference(written[0], first, second)
    assert difference.startswith("call 0 of 1") or difference.startswith("file b'new'")


_OPENED = (
    call("path_open", 3, 1, b"file.txt", 0, READ | WRITE, READ | WRITE, 0),  # 5
    call("path_open", 4, 1, b"file.txt", 0, READ, READ, 0),  # 6
    call("path_open", 3, 1, b"dir", 0, READ | READDIR, READ, 0),  # 7
    call("path_open", 3, 1, b"big.bin", 0, WRITE, WRITE, 1),  # 8, to append
    call("path_open", 3, 1, b"void", 0, 0, 0, 0),  # 9
    call("fd_close", 9),
)
_DESCRIPTORS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x7FFFFFFF, MAX)
_TYPICAL: dict[str, Argument] = {
    "advice": 0,
    "buffer": 300,
    "buffers": [7],
    "clock": 0,
    "cookie": 0,
    "count": 1,
    "data": [b"seven b"],
    "delta": 1,
    "fdflags": 0,
    "fstflags": 5,
    "length64": 3,
    "lookup": 0,
    "oflags": 0,
    "path": b"nested.txt",
    "pointer": 8192,
    "riflags": 0,
    "rights": READ,
    "sdflags": 1,
    "siflags": 0,
    "signal": 0,
    "status": 3,
    "subscriptions": descriptor_subscription(1, 2, 1),
    "time": 10**18,
    "whence": 1,
}


def typical(name: str, descriptor: int, **given: Argument) -> Call:
    """Make a plain call of a function; ``given`` overrides arguments by kind."""
    arguments = [
        descriptor if kind == "fd" else given.get(kind, _TYPICAL.get(kind, 0))
        for kind in FUNCTIONS[name]
        if not kind.startswith("out")
    ]
    if name in ("args_get", "environ_get"):
        arguments[1] = 16384
    return call(name, *arguments)


_WITH_DESCRIPTOR = tuple(name for name in NAMES if "fd" in FUNCTIONS[name])


@pytest.mark.parametrize("name", _WITH_DESCRIPTOR)
def test_every_function_on_every_descriptor(sandboxes: Sandboxes, name: str) -> None:
    closed = tuple(call("fd_close", number) for number in (0, 1, 2))
    calls = tuple(typical(name, descriptor) for descriptor in _DESCRIPTORS)
    check(sandboxes, Script((*_OPENED, *calls)))
    check(sandboxes, Script((*closed, *calls, *_OPENED, *calls)))
    check(sandboxes, Script(calls, volumes=False))


@pytest.mark.parametrize("name", NAMES)
def test_every_function_alone(sandboxes: Sandboxes, name: str) -> None:
    for descriptor in (0, 1, 3):
        check(sandboxes, Script((typical(name, descriptor),)))


_HOSTILE_POINTERS = (ARENA - 1, ARENA, 0x80000000, MAX - 7, MAX, 257)


@pytest.mark.parametrize("name", [name for name in NAMES if "i32" in wasm_types(name)])
def test_every_argument_hostile(sandboxes: Sandboxes, name: str) -> None:
    """Each 32-bit argument in turn is an invalid pointer, an invalid length, or an unknown flag."""
    if name == "proc_exit":
        values: Sequence[int] = (0, 1, 125, 126, 127, 134, 255, 256, 1 << 31, MAX)
    else:
        values = _HOSTILE_POINTERS
    plain = typical(name, 5, path=b"file.txt")
    if name == "fd_readdir":
        plain = typical(name, 7)
    elif name.startswith("path_"):
        plain = typical(name, 3, path=b"file.txt")
    for index, wasm_type in enumerate(wasm_types(name)):
        for value in values if wasm_type == "i32" else ():
            if name == "random_get" and index == 1:
                value &= 0xFFFFF  # wasmtime generates the bytes before it checks the pointer
            arguments = (*plain.arguments[:index], value, *plain.arguments[index + 1 :])
            hostile = Call(name, arguments, plain.patches)
            if not hostile.overlaps_itself():  # the order of overlapping writes is unspecified
                check(sandboxes, Script((*_OPENED, hostile)), str(hostile))


_PATHS = (
    b"",
    b".",
    b"..",
    b"./",
    b"dir",
    b"dir/",
    b"dir/.",
    b"dir/..",
    b"dir/../file.txt",
    b"dir/../..",
    b"file.txt",
    b"file.txt/",
    b"file.txt/.",
    b"file.txt/x",
    b"file.txt/..",
    b"/",
    b"/data/file.txt",
    b"//file.txt",
    b"../outside.txt",
    b"../data/file.txt",
    b"missing",
    b"missing/",
    b"missing/x",
    b"missing/../file.txt",
    b"void",
    b"void/",
    b"dir//nested.txt",
    b"link",
    b"link/",
    b"linkdir",
    b"linkdir/",
    b"linkdir/.",
    b"linkdir/nested.txt",
    b"linkdir/../file.txt",
    b"linkslash",
    b"linkfileslash",
    b"dangling",
    b"dangling/",
    b"absolute",
    b"escape",
    b"escapedir",
    b"escapedir/data/file.txt",
    b"loop",
    b"self/x",
    b"dot",
    b"dot/file.txt",
    b"dir/up",
    b"dir/sub/top",
    b"dir/sub/top/file.txt",
    b"raw/\xff\xfe.txt",
    b"file.txt\0",
    b"\0",
    b"x" * 255,
    b"x" * 256,
    b"x/" * 2000,
    b"a/" * 2049,
    b"x" * 5000,
    "ünïcode.txt".encode(),
)
_ON_PATHS: dict[str, Callable[[bytes], Call]] = {
    "stat": lambda path: call("path_filestat_get", 3, 0, path),
    "stat-follow": lambda path: call("path_filestat_get", 3, 1, path),
    "stat-readonly": lambda path: call("path_filestat_get", 4, 1, path),
    "open": lambda path: call("path_open", 3, 0, path, 0, READ, READ, 0),
    "open-follow": lambda path: call("path_open", 3, 1, path, 0, READ, READ, 0),
    "open-write": lambda path: call("path_open", 3, 1, path, 0, WRITE, WRITE, 0),
    "open-directory": lambda path: call("path_open", 3, 1, path, 2, READ | READDIR, READ, 0),
    "open-directory-no-follow": lambda path: call("path_open", 3, 0, path, 2, READ, READ, 0),
    "open-create": lambda path: call("path_open", 3, 0, path, 1, READ | WRITE, READ, 0),
    "open-create-follow": lambda path: call("path_open", 3, 1, path, 1, READ | WRITE, READ, 0),
    "open-exclusive": lambda path: call("path_open", 3, 1, path, 5, READ | WRITE, READ, 0),
    "open-truncate": lambda path: call("path_open", 3, 1, path, 8, READ, READ, 0),
    "open-all-rights": lambda path: call("path_open", 3, 1, path, 0, ALL_RIGHTS, ALL_RIGHTS, 0),
    "open-readonly": lambda path: call("path_open", 4, 1, path, 0, READ, READ, 0),
    "open-readonly-create": lambda path: call("path_open", 4, 1, path, 1, READ, READ, 0),
    "readlink": lambda path: call("path_readlink", 3, path, 300),
    "mkdir": lambda path: call("path_create_directory", 3, path),
    "mkdir-readonly": lambda path: call("path_create_directory", 4, path),
    "rmdir": lambda path: call("path_remove_directory", 3, path),
    "unlink": lambda path: call("path_unlink_file", 3, path),
    "unlink-readonly": lambda path: call("path_unlink_file", 4, path),
    "rename-from": lambda path: call("path_rename", 3, path, 3, b"new"),
    "rename-to": lambda path: call("path_rename", 3, b"file.txt", 3, path),
    "rename-directory-to": lambda path: call("path_rename", 3, b"void", 3, path),
    "rename-between": lambda path: call("path_rename", 4, path, 3, b"new"),
    "link-from": lambda path: call("path_link", 3, 0, path, 3, b"new"),
    "link-to": lambda path: call("path_link", 3, 0, b"file.txt", 3, path),
    "symlink-at": lambda path: call("path_symlink", b"target", 3, path),
    "symlink-target": lambda path: call("path_symlink", path, 3, b"new"),
    "set-times": lambda path: call("path_filestat_set_times", 3, 0, path, 10**18, 10**18, 5),
    "set-times-follow": lambda path: call("path_filestat_set_times", 3, 1, path, 1, 2, 5),
}
_CHANGING = frozenset(
    ("rmdir", "unlink", "rename-from", "rename-to", "rename-directory-to", "open-truncate")
)


@pytest.mark.parametrize("operation", _ON_PATHS)
def test_every_path(sandboxes: Sandboxes, operation: str) -> None:
    """Successful calls may affect later ones; failed calls change nothing."""
    make = _ON_PATHS[operation]
    size = 1 if operation in _CHANGING else 20
    for start in range(0, len(_PATHS), size):
        calls = [make(path) for path in _PATHS[start : start + size]]
        check(sandboxes, Script((*calls, call("fd_fdstat_get", 5), call("fd_tell", 5))))


def test_descriptor_numbers(sandboxes: Sandboxes) -> None:
    opened = call("path_open", 3, 1, b"file.txt", 0, READ, READ, 0)
    for closed in ((5, 6), (6, 5), (0, 1, 2), (4,), (2, 7), (3,), (0, 1, 2, 3, 4, 5, 6, 7)):
        closing = [call("fd_close", number) for number in closed]
        check(sandboxes, Script((opened, opened, opened, *closing, *[opened] * 9)))
    for source in (0, 1, 2, 3, 5, 6, 77):
        for target in (0, 1, 4, 5, 9, MAX):
            moved = call("fd_renumber", source, target)
            used = (
                call("fd_write", 1, [b"written\n"]),
                call("fd_read", target, [5]),
                call("fd_filestat_get", target),
                call("fd_prestat_get", target),
            )
            check(sandboxes, Script((opened, opened, moved, *used, *[opened] * 3)))


def test_many_open_files(sandboxes: Sandboxes) -> None:
    """The exception: the number of open files is limited, unlike in wasmtime."""
    opened = call("path_open", 3, 1, b"file.txt", 0, READ, READ, 0)
    script = Script((*[opened] * 129, call("fd_close", 7), opened, opened))
    check(sandboxes, script)
    results = [result.errno for result in sandboxes.run(run_wagi, script).results]
    assert results == [0] * 128 + [EMFILE, 0, 0, EMFILE]


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    """The exception: in wasmtime, opening a FIFO waits for its other end."""
    library = tmp_path / "library"
    wasi_trees.build(library)
    sandbox = Sandbox(tmp_path / "sandbox", library)
    os.mkfifo(sandbox.data / "fifo")
    script = Script(
        (
            call("path_filestat_get", 3, 0, b"fifo"),
            call("path_open", 3, 0, b"fifo", 0, READ, READ, 0),
            call("path_open", 3, 0, b"fifo", 0, WRITE, WRITE, 0),
            call("path_open", 3, 0, b"fifo", 0, READ | WRITE, READ, 0),
            call("fd_read", 5, [10]),
            call("fd_write", 5, [b"data"]),
            call("path_unlink_file", 3, b"fifo"),
        )
    )
    ours = run_wagi(script, sandbox)
    assert ours.ending == "return"
    assert len(ours.results) == len(script.calls)
    assert ours.results[0].memory[script.calls[0].outs[0] + 16] == 0  # a type without a number
    assert ours.results[-1].errno == 0


@pytest.mark.parametrize("rights", [0, READ, WRITE, READ | WRITE, READDIR, ALL_RIGHTS])
@pytest.mark.parametrize("flags", [0, 1, 4, 5, 2, 8, 16])
def test_open_modes(sandboxes: Sandboxes, rights: int, flags: int) -> None:
    """Every combination of rights, open flags and descriptor flags, then reads and writes."""
    uses = (
        call("fd_fdstat_get", 5),
        call("fd_pwrite", 5, [b"written"], 3),
        call("fd_pread", 5, [9], 1),
        call("fd_write", 5, [b"more"]),
        call("fd_read", 5, [9]),
        call("fd_filestat_set_size", 5, 60),
        call("fd_filestat_get", 5),
        call("fd_close", 5),
    )
    for half in (range(8), range(8, 16)):
        calls: list[Call] = []
        for oflags in half:
            for path in (b"file.txt", b"new") if oflags & 1 else (b"file.txt",):
                calls.append(call("path_open", 3, 1, path, oflags, rights, 0, flags))
                calls += uses
        check(sandboxes, Script(tuple(calls)))


def test_positions(sandboxes: Sandboxes) -> None:
    top = 1 << 63
    seeks = [
        call("fd_seek", 5, offset, whence)
        for whence in (0, 1, 2)
        for offset in (0, 1, -1, -45, -46, top - 1, -top, 1 - top)
    ]
    check(sandboxes, Script((*_OPENED[:1], *seeks)))
    for position in (0, 44, 45, 100, 1 << 33, top - 4, top - 1, top, (1 << 64) - 1):
        calls = (
            call("fd_pread", 5, [7], position),
            call("fd_seek", 5, min(position, top - 1), 0),
            call("fd_read", 5, [7]),
            call("fd_tell", 5),
            call("fd_pwrite", 5, [b"abc"], position),
            call("fd_write", 5, [b"defg"]),
            call("fd_tell", 5),
            call("fd_write", 5, []),
            call("fd_read", 5, []),
            call("fd_filestat_set_size", 5, position if position < 1 << 40 else top + position),
            call("fd_advise", 5, position, 1, 3),
            call("fd_advise", 5, 1, position, 0),
            call("fd_allocate", 5, position, position),
            call("fd_filestat_get", 5),
        )
        check(sandboxes, Script((*_OPENED[:1], *calls)), f"position {position}")


@pytest.mark.parametrize("directory", [b".", b"dir", b"void", b"raw", b"many"])
def test_listings(sandboxes: Sandboxes, directory: bytes) -> None:
    volume = 4 if directory == b"many" else 3
    opened = call("path_open", volume, 0, directory, 2, READ | READDIR, READ, 0)
    for sizes in ((0, 1, 23, 24, 25, 26, 48, 49, 50, 51, 75), (200, 1000, 30000)):
        calls = [
            call("fd_readdir", 5, size, cookie) for size in sizes for cookie in (0, 1, 2, 3, 302)
        ]
        check(sandboxes, Script((opened, *calls)))
    cookies = (4, 150, 299, 301, 303, 1 << 32, 1 << 63, (1 << 64) - 1)
    check(sandboxes, Script((opened, *(call("fd_readdir", 5, 300, c) for c in cookies))))


def test_input(sandboxes: Sandboxes) -> None:
    """Reads of stdin, up to and beyond its end."""
    for stdin in (b"", b"a", b"twelve bytes", bytes(4096)):
        calls = [call("fd_read", 0, lengths) for lengths in ([], [0], [1], [0, 5, 0], [5000], [1])]
        calls += [call("fd_read", 0, []), call("fd_read", 0, [0]), call("fd_read", 0, [9])]
        check(sandboxes, Script(tuple(calls), stdin=stdin))


def test_arguments_and_environment(sandboxes: Sandboxes) -> None:
    calls = (
        call("args_sizes_get"),
        call("args_get", 256, 4096),
        call("environ_sizes_get"),
        call("environ_get", 256, 4096),
    )
    lists = ((), ("",), ("a",), ("", "", ""), ("a", "b=c", "=", "d e", "é", "x" * 1000))
    for values in lists:
        environment = tuple((value, value) for value in values)
        check(sandboxes, Script(calls, argv=values, environment=environment))


def test_subscriptions(sandboxes: Sandboxes) -> None:
    """Polls with deterministic events."""
    due = [clock_subscription(7, clock, timeout, 1) for clock in (0, 1) for timeout in (0, 1)]
    short = [clock_subscription(8, clock, 10**6) for clock in (0, 1)]
    output = [descriptor_subscription(number, 2, number) for number in (1, 2)]
    stdin = [descriptor_subscription(9, 1, 0)]
    far = [clock_subscription(10, clock, 10**13) for clock in (0, 1)]
    bad = [
        descriptor_subscription(11, tag, number)
        for tag, number in (
            (1, 1),
            (1, 2),
            (2, 0),
            (1, 3),
            (2, 4),
            (1, 7),
            (1, 9),
            (2, 77),
            (1, MAX),
        )
    ]
    tables = [[], *([one] for one in (*due, *short, *output, *stdin, *bad)), due, output]
    tables += [[*far, *output], [*far, *stdin, *far], [*due, *far]]
    tables += [[*output, one] for one in bad]
    calls = [call("poll_oneoff", b"".join(table), 16384, len(table)) for table in tables]
    check(sandboxes, Script((*_OPENED, *calls)))
    wrong = [
        clock_subscription(1, clock, 0, flags, tag)
        for clock, flags, tag in ((2, 0, 0), (3, 1, 0), (4, 0, 0), (0, 2, 0), (1, 3, 0), (0, 0, 3))
    ]
    for subscription in wrong:
        table = subscription + output[0]
        check(sandboxes, Script((call("poll_oneoff", table, 16384, 2),)), table.hex())


def test_all_buffers_are_used(sandboxes: Sandboxes) -> None:
    """The exception: all buffers are read and written, where wasmtime uses only one."""
    script = Script(
        (
            call("path_open", 3, 1, b"file.txt", 0, READ | WRITE, READ, 0),
            call("fd_read", 5, [0, 4, 6]),
            call("fd_tell", 5),
            call("fd_write", 5, [b"ab", b"", b"cde"]),
            call("fd_tell", 5),
            call("fd_pread", 5, [4, 6], 4),
            call("fd_pwrite", 5, [b"x", b"yz"], 0),
            call("fd_write", 1, [b"head", b"er\n"]),
            call("fd_read", 0, [3, 100]),
        ),
        stdin=b"0123456789",
    )
    ours = sandboxes.run(run_wagi, script)
    counts = [
        result.number(made.outs[0], 8 if made.name == "fd_tell" else 4)
        for made, result in zip(script.calls, ours.results, strict=True)
    ]
    assert counts == [5, 10, 10, 5, 15, 10, 3, 7, 10]
    assert ours.stdout == b"header\n"
    assert ours.files[b"file.txt"].content.startswith(b"xyz quick abcde")


def test_exit_statuses(sandboxes: Sandboxes) -> None:
    for status in (0, 1, 2, 63, 64, 100, 124, 125):
        check(sandboxes, Script((call("fd_write", 1, [b"out"]), call("proc_exit", status))))


def test_random_bytes(sandboxes: Sandboxes) -> None:
    script = Script((call("random_get", 4096), call("random_get", 4096)))
    first, second = (
        result.memory[256 : 256 + 4096] for result in sandboxes.run(run_wagi, script).results
    )
    assert first != second
    assert len(set(first)) > 200


def test_clocks_advance(sandboxes: Sandboxes) -> None:
    calls = tuple(call("clock_time_get", clock, 0) for clock in (0, 1, 0, 1))
    ours = sandboxes.run(run_wagi, Script(calls))
    times = [
        result.number(made.outs[0], 8) for made, result in zip(calls, ours.results, strict=True)
    ]
    assert ours.span[0] <= times[0] <= times[2] <= ours.span[1]
    assert 0 < times[1] <= times[3]


# ---- wasi_unstable ------------------------------------------------------------------------------

_CHANGED = frozenset(("fd_seek", "fd_filestat_get", "path_filestat_get", "poll_oneoff"))
_OLD_WHENCE = {
    0: 2,
    1: 0,
    2: 1,
}  # set, cur and end in the numbering of preview 1 and of the previous snapshot


def test_unchanged_unstable_functions(sandboxes: Sandboxes) -> None:
    for seed in range(SEEDS // 6):
        script = Sequences(seed).script()
        calls = [
            made
            for made in script.calls
            if made.name not in _CHANGED and made.name != "sock_accept"
        ]
        script = replace(script, calls=tuple(calls))
        theirs = sandboxes.run(run_native, script)
        ours = sandboxes.run(run_wagi_unstable, script)
        assert not (difference := find_difference(script, theirs, ours)), (
            f"seed {seed}\n{difference}"
        )


def test_unstable_fd_seek(sandboxes: Sandboxes) -> None:
    """``whence`` had a different numbering."""
    new = [
        call("fd_seek", descriptor, offset, whence)
        for descriptor in (5, 1, 3, 77)
        for offset in (5, -3, 1 << 62)
        for whence in (0, 1, 2)
    ]
    old = [
        Call(made.name, (*made.arguments[:2], _OLD_WHENCE[made.arguments[2]], made.arguments[3]))
        for made in new
    ]
    theirs = sandboxes.run(run_native, Script((_OPENED[0], *new)))
    ours = sandboxes.run(run_wagi_unstable, Script((_OPENED[0], *old)))
    assert ours.results == theirs.results
    wrong = Script((_OPENED[0], call("fd_seek", 5, 0, 3)))
    assert sandboxes.run(run_wagi_unstable, wrong).results[1].errno == EINVAL


_FILESTAT = struct.Struct("<QQB7xQQQQQ")
_OLD_FILESTAT = struct.Struct("<QQB3xIQQQQ")
"""dev, ino, filetype, nlink, size, atim, mtim, ctim: nlink had 32 bits."""


def test_unstable_filestat(sandboxes: Sandboxes) -> None:
    """The structure was shorter: the bytes after it are unchanged."""
    calls = [call("fd_filestat_get", number) for number in (0, 1, 3, 4, 5, 7, 9, 77)]
    for path in (b"file.txt", b"link", b"dir", b"missing", b"../x", b"\xff"):
        calls += [call("path_filestat_get", 3, flags, path) for flags in (0, 1)]
    script = Script((*_OPENED, *calls))
    theirs = sandboxes.run(run_native, script)
    guarded = [
        replace(made, patches=(*made.patches, (made.outs[0], b"\xaa" * 64))) for made in calls
    ]
    ours = sandboxes.run(run_wagi_unstable, replace(script, calls=(*_OPENED, *guarded)))
    for made, their_result, our_result in zip(
        calls, theirs.results[len(_OPENED) :], ours.results[len(_OPENED) :], strict=True
    ):
        assert our_result.errno == their_result.errno, made
        (at,) = made.outs
        got = our_result.memory[at : at + 64]
        if our_result.errno:
            assert got == b"\xaa" * 64, made
            continue
        expected = _FILESTAT.unpack_from(their_result.memory, at)
        is_directory = expected[2] == 3
        fields = slice(
            2, 4 if is_directory else 5
        )  # the size of a directory depends on the file system
        assert _OLD_FILESTAT.unpack_from(got)[fields] == expected[fields], made
        assert _OLD_FILESTAT.unpack_from(got)[6] == expected[6] or is_directory, made
        assert got[_OLD_FILESTAT.size :] == b"\xaa" * 8, made


def test_unstable_poll_oneoff(sandboxes: Sandboxes) -> None:
    """The clock of a subscription had an additional identifier of 8 bytes."""
    clocks = ((0, 5, 1), (1, 0, 1), (0, 10**6, 0), (1, 10**13, 0), (2, 0, 0))
    descriptors = ((1, 0), (2, 1), (2, 2))
    new = [clock_subscription(n, *clock) for n, clock in enumerate(clocks)]
    new += [descriptor_subscription(n, *one) for n, one in enumerate(descriptors, 10)]
    old = [
        struct.pack("<QB7xQI4xQQH6x", n, 0, 99, clock, timeout, 0, flags)
        for n, (clock, timeout, flags) in enumerate(clocks)
    ]
    old += [struct.pack("<QB7xI36x", n, *one) for n, one in enumerate(descriptors, 10)]
    chosen = ((0,), (1,), (2,), (0, 1), (3, 5), (3, 6, 7), (5,), (4,), (4, 6), ())
    scripts = [
        Script(
            tuple(
                call("poll_oneoff", b"".join(table[n] for n in numbers), 16384, len(numbers))
                for numbers in chosen
            )
        )
        for table in (new, old)
    ]
    theirs = sandboxes.run(run_native, scripts[0])
    ours = sandboxes.run(run_wagi_unstable, scripts[1])
    for numbers, made, their_result, our_result in zip(
        chosen, scripts[0].calls, theirs.results, ours.results, strict=True
    ):
        assert our_result.errno == their_result.errno, numbers
        if their_result.errno == 0:
            count_at = scripts[1].calls[chosen.index(numbers)].outs[0]
            start = made.arguments[1]
            events = [
                struct.unpack_from("<QHB", our_result.memory, start + 32 * n)
                for n in range(our_result.number(count_at))
            ]
            assert events == _events(made, their_result), numbers
