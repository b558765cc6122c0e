"""Random scripts of WASI calls: mostly sensible, often unusual, with a hostile end."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from tests.support.wasi_calls import ARENA, FUNCTIONS, NAMES, Argument, Call, call, wasm_types
from tests.support.wasi_runs import Script

_T = TypeVar("_T")

READ, WRITE, READDIR = 1 << 1, 1 << 6, 1 << 14
ALL_RIGHTS = (1 << 30) - 1
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
MAX = 0xFFFFFFFF
_WIDE_MAX = (1 << 64) - 1
_SIGN = 1 << 63
_FAR = 10**13  # nanoseconds: beyond the end of any test

# Names in the volumes of ``wasi_trees``, missing names, and alternative spellings.
_FILES = (b"file.txt", b"empty", b"big.bin", b"dir/nested.txt", b"dir/sub/deep.txt")
_DIRECTORIES = (b".", b"dir", b"dir/sub", b"void", b"raw", b"many", b"linkdir", b"dot")
_LINKS = (
    b"link",
    b"linkdir",
    b"linkslash",
    b"linkfileslash",
    b"dangling",
    b"absolute",
    b"escape",
    b"escapedir",
    b"loop",
    b"self",
    b"dir/up",
    b"dir/sub/top",
    b"chain0",
    b"chain4",
    b"chain5",
    b"chain6",
)
_NEW = (b"new", b"new2", b"dir/new", b"new/inner", b"\xc3\xa9t\xc3\xa9")
_ODD = (
    b"",
    b"..",
    b"../outside.txt",
    b"../data/file.txt",
    b"/",
    b"/etc/passwd",
    b"/data/file.txt",
    b"//file.txt",
    b"missing/../file.txt",
    b"file.txt/..",
    b"file.txt/x",
    b"dir/../..",
    b"dir/../../outside.txt",
    b"escapedir/outside.txt",
    b"dir/sub/top/file.txt",
    b"linkdir/../file.txt",
    b"self/x",
    b"dangling/x",
    b"absolute/x",
    b"file.txt\0",
    b"\0",
    b"a\0b",
    b"\xff",
    b"raw/\xff\xfe.txt",
    b"\xed\xa0\x80",  # a surrogate, which UTF-8 does not have
    b"\xc0\xaf",  # an overlong encoding of a slash
    b"x" * 255,
    b"x" * 256,
    b"./" * 2000,
    b"x/" * 2100,
    b"x" * 5000,
)
_PREFIXES = (b"./", b"dir/../", b"linkdir/../", b"dot/", b".//", b"dir/sub/../../")
_SUFFIXES = (b"/", b"/.", b"/..", b"//", b"/./")

_LENGTHS_64 = (0, 1, 2, 10, 44, 45, 46, 100, 4095, 4096, 65536, 1 << 31, 1 << 32)
_HUGE_64 = (_SIGN - 1, _SIGN, _SIGN + 1, _WIDE_MAX - 1, _WIDE_MAX)
_TIMES = (0, 1, 10**9, 10**9 - 1, 1_600_000_000 * 10**9 + 123, _SIGN - 1, _SIGN, _WIDE_MAX)
_INPUTS = (b"", b"x", b"input\n", bytes(range(256)) * 16)
_ARGUMENTS = ((), ("command",), ("command", "", "a=b", "\u00e9"), ("",), ("c", "x" * 300))
_ENVIRONMENTS = (
    (),
    (("A", "1"),),
    (("EMPTY", ""), ("", "x"), ("E", "=1=2="), ("\u00e9", "\u00e9")),
)

_WEIGHTS = {
    "path_open": 14,
    "fd_close": 5,
    "fd_read": 6,
    "fd_write": 6,
    "fd_seek": 4,
    "fd_readdir": 4,
    "path_filestat_get": 4,
    "path_rename": 3,
    "path_symlink": 3,
    "fd_renumber": 3,
    "poll_oneoff": 4,
    "proc_exit": 0,  # only as the last call
}


class Sequences:
    """A generator of scripts, deterministic for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._weights = [_WEIGHTS.get(name, 2) for name in NAMES]
        # The likely descriptors of the files and directories that are opened first.
        self._files: list[int] = []
        self._directories: list[int] = []
        self._next = 5
        self._values: dict[str, Callable[[], Argument]] = {
            "advice": lambda: self._random.randrange(6),
            "buffer": lambda: self._pick((0, 1, 5, 23, 24, 25, 100, 1000, 4096, 30000)),
            "buffers": self._buffers,
            "clock": lambda: self._pick((0, 0, 1, 1, 2, 3)),
            "cookie": lambda: self._pick((0, 0, 0, 1, 2, 3, 4, 9, 299, 300, 302, 303, *_HUGE_64)),
            "data": self._data,
            "delta": lambda: self._pick(
                (0, 0, 1, 5, 44, 45, 5000, -1, -5, -44, -45, -46, *_LENGTHS_64, *_HUGE_64)
            ),
            "fd": self._descriptor,
            "fdflags": lambda: self._flags(31, (0, 0, 0, 0, 1, 1, 4, 5)),
            "fstflags": lambda: self._flags(15, (0, 1, 2, 4, 5, 5, 6, 8, 9, 10)),
            "length64": self._length_64,
            "lookup": lambda: self._random.randrange(2),
            "oflags": lambda: self._flags(15, (0, 0, 0, 0, 1, 1, 2, 2, 5, 8, 9)),
            "path": self._path,
            "pointer": lambda: self._pick((0, 64, 1024, 4096)),
            "riflags": lambda: self._random.randrange(4),
            "rights": lambda: self._flags(
                ALL_RIGHTS, (0, READ, READ, READ | READDIR, WRITE, READ | WRITE, ALL_RIGHTS)
            ),
            "sdflags": lambda: self._random.randrange(4),
            "siflags": lambda: self._pick((0, 1, 65535)),
            "signal": lambda: self._random.randrange(31),
            "status": lambda: self._pick((0, 1, 2, 100, 125)),
            "time": lambda: self._pick(_TIMES),
            "whence": lambda: self._random.randrange(3),
        }

    def script(self, most: int = 40) -> Script:
        """Generate the next script, with a maximum number of calls."""
        chance = self._random.random
        self._files, self._directories, self._next = [], [], 5
        calls: list[Call] = []
        if chance() < 0.7:
            calls += [self._opening() for _ in range(self._random.randint(1, 4))]
        for _ in range(self._random.randint(1, max(1, most - len(calls) - 1))):
            calls.append(self._call())
        if chance() < 0.3:
            calls.append(self._hostile())
        elif chance() < 0.2:
            calls.append(call("proc_exit", self._values["status"]()))
        return Script(
            calls=tuple(calls[-most:]),
            stdin=self._pick(_INPUTS),
            argv=self._pick(_ARGUMENTS),
            environment=self._pick(_ENVIRONMENTS),
            volumes=chance() < 0.93,
        )

    def _pick(self, choices: Sequence[_T]) -> _T:
        return choices[self._random.randrange(len(choices))]

    def _flags(self, most: int, usual: tuple[int, ...]) -> int:
        return self._pick(usual) if self._random.random() < 0.85 else self._random.randint(0, most)

    def _opening(self) -> Call:
        """Generate a call that opens an existing file or directory."""
        is_directory = self._random.random() < 0.3
        path = self._pick(_DIRECTORIES if is_directory else _FILES)
        rights = READ | READDIR if is_directory else self._pick((READ, WRITE, READ | WRITE))
        volume = self._pick((3, 3, 3, 4))
        (self._directories if is_directory else self._files).append(self._next)
        self._next += 1
        flags = self._pick((0, 0, 0, 1))
        return call("path_open", volume, 1, path, 0, rights, rights, flags)

    def _call(self) -> Call:
        """Generate a call whose arguments are individually valid."""
        (name,) = self._random.choices(NAMES, self._weights)
        if name == "poll_oneoff":
            return self._poll()
        likely = self._likely(name)
        return call(name, *self._arguments(name, likely))

    def _likely(self, name: str) -> Callable[[], int]:
        """Return a source of descriptors that usually suit a function."""
        if name.startswith("path_") or name == "fd_readdir":
            suitable = [3, 3, 3, 4, *self._directories]
        elif name.startswith("fd_prestat"):
            suitable = [3, 4]
        else:
            suitable = self._files or [0, 1, 2]
        return lambda: self._pick(suitable) if self._random.random() < 0.65 else self._descriptor()

    def _arguments(self, name: str, descriptor: Callable[[], int]) -> list[Argument]:
        arguments: list[Argument] = []
        for kind in FUNCTIONS[name]:
            if kind == "fd":
                arguments.append(descriptor())
            elif not kind.startswith("out"):
                arguments.append(self._values[kind]())
        if name == "path_readlink" and self._random.random() < 0.6:
            arguments[1] = self._pick(_LINKS)
        # The two buffers of args_get and environ_get must not overlap by accident.
        if name in ("args_get", "environ_get"):
            arguments[1] = 8192 + self._random.randrange(8)
        return arguments

    def _descriptor(self) -> int:
        if self._random.random() < 0.05:
            return self._pick((10, 77, 0x7FFFFFFF, 0x80000000, MAX))
        return self._pick((0, 1, 2, 3, 4, 5, 5, 5, 5, 6, 6, 6, 7, 7, 8, 9))

    def _length_64(self) -> int:
        return self._pick(_LENGTHS_64 if self._random.random() < 0.8 else _HUGE_64)

    def _path(self) -> bytes:
        chance = self._random.random()
        if chance < 0.15:
            return self._pick(_ODD)
        path: bytes = self._pick(
            self._pick((_FILES, _FILES, _DIRECTORIES, _LINKS, _LINKS, _NEW, _NEW))
        )
        if self._random.random() < 0.15:
            path = self._pick(_PREFIXES) + path
        if self._random.random() < 0.15:
            path += self._pick(_SUFFIXES)
        return path

    def _buffers(self) -> list[int]:
        """Generate buffers to read into; at most one is nonempty, as wasmtime fills only one."""
        length = self._pick((0, 1, 4, 10, 44, 45, 100, 5000, 20000))
        return self._with_empty([length], 0)

    def _data(self) -> list[bytes]:
        """Generate buffers to write; at most one is nonempty, as wasmtime writes only one."""
        length = self._pick((0, 1, 3, 10, 10, 100, 5000, 20000))
        return self._with_empty([self._random.randbytes(1) * length], b"")

    def _with_empty(self, buffers: list[_T], empty: _T) -> list[_T]:
        if self._random.random() < 0.1:
            return []
        if self._random.random() < 0.2:
            buffers = [empty, *buffers]
        if self._random.random() < 0.2:
            buffers = [*buffers, empty, empty]
        return buffers

    def _poll(self) -> Call:
        """Generate a poll that ends soon and whose events do not depend on timing.

        wasmtime reports a file or input as ready only after a moment. So a poll has subscriptions
        of one kind that are always ready, and others that never are.
        """
        count = self._random.randint(0, 5)
        ready = self._pick((self._due_clock, self._output, self._input))
        table = []
        for index in range(count):
            # wasmtime may report one of two reads before the other.
            is_ready = index == 0 or (ready != self._input and self._random.random() < 0.5)
            table.append(ready() if is_ready else self._far_clock())
        if self._random.random() < 0.3:
            table.append(self._unusable())
        self._random.shuffle(table)
        return call("poll_oneoff", b"".join(table), 16384, len(table))

    def _due_clock(self) -> bytes:
        clock = self._random.randrange(2)
        return clock_subscription(self._userdata(), clock, self._random.randrange(2), flags=1)

    def _far_clock(self) -> bytes:
        return clock_subscription(self._userdata(), self._random.randrange(2), _FAR)

    def _output(self) -> bytes:
        return descriptor_subscription(self._userdata(), 2, self._pick((1, 2)))

    def _input(self) -> bytes:
        return descriptor_subscription(self._userdata(), 1, 0)

    def _unusable(self) -> bytes:
        """Generate a subscription that makes wasmtime's call fail."""
        if self._random.random() < 0.5:
            tag, descriptor = self._pick(
                ((1, 1), (1, 2), (2, 0), (1, 3), (2, 3), (1, 77), (2, MAX))
            )
            return descriptor_subscription(self._userdata(), tag, descriptor)
        tag, clock, flags = self._pick(((0, 2, 0), (0, 3, 1), (0, 4, 0), (0, 0, 2), (3, 0, 0)))
        return clock_subscription(self._userdata(), clock, 0, flags=flags, tag=tag)

    def _userdata(self) -> int:
        return self._pick((0, 1, 7, _WIDE_MAX, self._random.getrandbits(64)))

    def _hostile(self) -> Call:
        """Generate a call with one hostile argument, which may end the guest in wasmtime."""
        name = self._pick([name for name in NAMES if FUNCTIONS[name] and name != "proc_exit"])
        made = (
            self._poll()
            if name == "poll_oneoff"
            else call(name, *self._arguments(name, self._descriptor))
        )
        arguments = list(made.arguments)
        index = self._random.randrange(len(arguments))
        arguments[index] = self._pick(
            (
                arguments[index] ^ 1,
                arguments[index] + 2,
                ARENA - 1,
                ARENA,
                ARENA + 1,
                ARENA - 8,
                100 << 20,
                0x7FFFFFFF,
                0x80000000,
                MAX - 3,
                MAX,
                4,
                256,
                65536,
                1 << self._random.randrange(32),
            )
        )
        if name == "random_get":
            # wasmtime generates all random bytes before it checks the pointer.
            arguments[1] = min(arguments[1], 1 << 20)
        arguments[index] &= MAX if wasm_types(name)[index] == "i32" else _WIDE_MAX
        hostile = Call(name, tuple(arguments), made.patches)
        # The order of overlapping writes is unspecified.
        return self._hostile() if hostile.overlaps_itself() else hostile


def clock_subscription(
    userdata: int, clock: int, timeout: int, flags: int = 0, tag: int = 0
) -> bytes:
    """Encode a subscription to a clock; ``timeout`` is in nanoseconds."""
    return struct.pack("<QB7xI4xQQH6x", userdata, tag, clock, timeout, 0, flags)


def descriptor_subscription(userdata: int, tag: int, descriptor: int) -> bytes:
    """Encode a subscription to a descriptor: to read (tag 1) or to write (2)."""
    return struct.pack("<QB7xI28x", userdata, tag, descriptor)
