"""Scripts of WASI calls, and a module that performs them.

The interpreter is one core module that imports every function of ``wasi_snapshot_preview1``. It
reads a script from stdin, performs its calls one by one, and records the errno of each together
with a snapshot of its memory, so that two implementations of WASI can be compared call by call. The
rest of stdin is what the calls of the script read.

The interpreter keeps the script and the record in memories of its own, which WASI calls cannot
reach: they work on the memory exported as ``memory``, which is zero before each call except for
what the call itself places there (paths, vectors, subscriptions).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ARENA = 65536
"""Size in bytes of the memory that the calls use."""
MAX_CALLS = 160
"""Maximum number of calls in a script."""
_LOG_PAGES = 1 + MAX_CALLS
_SCRIPT_PAGES = 8
MAX_SCRIPT = _SCRIPT_PAGES * 65536

FUNCTIONS: dict[str, tuple[str, ...]] = {
    "args_get": ("pointer", "pointer"),
    "args_sizes_get": ("out4", "out4"),
    "clock_res_get": ("clock", "out8"),
    "clock_time_get": ("clock", "time", "out8"),
    "environ_get": ("pointer", "pointer"),
    "environ_sizes_get": ("out4", "out4"),
    "fd_advise": ("fd", "length64", "length64", "advice"),
    "fd_allocate": ("fd", "length64", "length64"),
    "fd_close": ("fd",),
    "fd_datasync": ("fd",),
    "fd_fdstat_get": ("fd", "out24"),
    "fd_fdstat_set_flags": ("fd", "fdflags"),
    "fd_fdstat_set_rights": ("fd", "rights", "rights"),
    "fd_filestat_get": ("fd", "out64"),
    "fd_filestat_set_size": ("fd", "length64"),
    "fd_filestat_set_times": ("fd", "time", "time", "fstflags"),
    "fd_pread": ("fd", "buffers", "length64", "out4"),
    "fd_prestat_dir_name": ("fd", "buffer"),
    "fd_prestat_get": ("fd", "out8"),
    "fd_pwrite": ("fd", "data", "length64", "out4"),
    "fd_read": ("fd", "buffers", "out4"),
    "fd_readdir": ("fd", "buffer", "cookie", "out4"),
    "fd_renumber": ("fd", "fd"),
    "fd_seek": ("fd", "delta", "whence", "out8"),
    "fd_sync": ("fd",),
    "fd_tell": ("fd", "out8"),
    "fd_write": ("fd", "data", "out4"),
    "path_create_directory": ("fd", "path"),
    "path_filestat_get": ("fd", "lookup", "path", "out64"),
    "path_filestat_set_times": ("fd", "lookup", "path", "time", "time", "fstflags"),
    "path_link": ("fd", "lookup", "path", "fd", "path"),
    "path_open": ("fd", "lookup", "path", "oflags", "rights", "rights", "fdflags", "out4"),
    "path_readlink": ("fd", "path", "buffer", "out4"),
    "path_remove_directory": ("fd", "path"),
    "path_rename": ("fd", "path", "fd", "path"),
    "path_symlink": ("path", "fd", "path"),
    "path_unlink_file": ("fd", "path"),
    "poll_oneoff": ("subscriptions", "pointer", "count", "out4"),
    "proc_exit": ("status",),
    "proc_raise": ("signal",),
    "random_get": ("buffer",),
    "sched_yield": (),
    "sock_accept": ("fd", "fdflags", "out4"),
    "sock_recv": ("fd", "buffers", "riflags", "out4", "out2"),
    "sock_send": ("fd", "data", "siflags", "out4"),
    "sock_shutdown": ("fd", "sdflags"),
}
"""The kinds of the parameters of each function, in order.

``path``, ``buffer``, ``buffers`` (to read into) and ``data`` (to write) are two parameters in
WebAssembly, a pointer and a length; ``outN`` is a pointer to a result of N bytes.
"""
NAMES = tuple(FUNCTIONS)
_PAIRS = frozenset({"path", "buffer", "buffers", "data"})
_WIDE = frozenset({"length64", "delta", "cookie", "time", "rights"})

_ERRNO_NAMES = (
    "SUCCESS 2BIG ACCES ADDRINUSE ADDRNOTAVAIL AFNOSUPPORT AGAIN ALREADY BADF BADMSG BUSY CANCELED"
    " CHILD CONNABORTED CONNREFUSED CONNRESET DEADLK DESTADDRREQ DOM DQUOT EXIST FAULT FBIG"
    " HOSTUNREACH IDRM ILSEQ INPROGRESS INTR INVAL IO ISCONN ISDIR LOOP MFILE MLINK MSGSIZE"
    " MULTIHOP NAMETOOLONG NETDOWN NETRESET NETUNREACH NFILE NOBUFS NODEV NOENT NOEXEC NOLCK"
    " NOLINK NOMEM NOMSG NOPROTOOPT NOSPC NOSYS NOTCONN NOTDIR NOTEMPTY NOTRECOVERABLE NOTSOCK"
    " NOTSUP NOTTY NXIO OVERFLOW OWNERDEAD PERM PIPE PROTO PROTONOSUPPORT PROTOTYPE RANGE ROFS"
    " SPIPE SRCH STALE TIMEDOUT TXTBSY XDEV NOTCAPABLE"
)
ERRNO = tuple(_ERRNO_NAMES.split())
"""Names of the error numbers of preview 1."""


def errno_name(errno: int) -> str:
    """Return the name of an error number, or the number if it has none."""
    return ERRNO[errno] if 0 <= errno < len(ERRNO) else str(errno)


def wasm_types(name: str) -> tuple[str, ...]:
    """Return the WebAssembly types of a function's parameters."""
    types: list[str] = []
    for kind in FUNCTIONS[name]:
        if kind in _PAIRS:
            types += ("i32", "i32")
        else:
            types.append("i64" if kind in _WIDE else "i32")
    return tuple(types)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script.

    Attributes:
        name: The function.
        arguments: Its arguments as unsigned numbers, one per WebAssembly parameter.
        patches: The nonzero parts of the memory when the call is made, as pairs of address and
            bytes.
    """

    name: str
    arguments: tuple[int, ...]
    patches: tuple[tuple[int, bytes], ...] = ()

    @property
    def outs(self) -> list[int]:
        """The addresses of the results, which are passed for ``outN`` parameters."""
        return [pointer for pointer, _ in self._results()]

    def _results(self) -> list[tuple[int, int]]:
        """Return address and length of each result."""
        return [
            (numbers[0], int(kind[3:]))
            for kind, numbers in self._by_kind()
            if kind.startswith("out")
        ]

    def _by_kind(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return the parameters' kinds, each with its numbers."""
        numbers = iter(self.arguments)
        return [
            (kind, tuple(next(numbers) for _ in range(2 if kind in _PAIRS else 1)))
            for kind in FUNCTIONS[self.name]
        ]

    def placed(self) -> bytearray:
        """The memory when the call is made."""
        memory = bytearray(ARENA)
        for at, data in self.patches:
            memory[at : at + len(data)] = data
        return memory

    def buffers(self) -> list[tuple[int, int]]:
        """Address and length of each buffer of the call's vector, if it has one.

        A vector that is outside the memory has no buffers.
        """
        memory = self.placed()
        return [
            struct.unpack_from("<II", memory, pointer + 8 * index)
            for kind, numbers in self._by_kind()
            if kind in ("buffers", "data")
            for pointer, count in [numbers]
            if pointer + 8 * count <= ARENA
            for index in range(count)
        ]

    def leaves_memory(self) -> bool:
        """Whether any pointer argument refers to data outside the memory."""
        ranges = self._results() + self.buffers()
        for kind, numbers in self._by_kind():
            match kind:
                case "path" | "buffer":
                    ranges.append((numbers[0], numbers[1]))
                case "buffers" | "data":
                    ranges.append((numbers[0], 8 * numbers[1]))
        if self.name == "poll_oneoff":
            subscriptions, events, count, _ = self.arguments
            ranges += [(subscriptions, 48 * count), (events, 32 * count)]
        return any(pointer + length > ARENA for pointer, length in ranges)

    def overlaps_itself(self) -> bool:
        """Whether a result overlaps another one, or data that the call reads."""
        ranges = [(at, at + len(data)) for at, data in self.patches]
        for pointer, length in self._results():
            if any(start < pointer + length and pointer < end for start, end in ranges):
                return True
            ranges.append((pointer, pointer + length))
        return False

    def __str__(self) -> str:
        numbers = ", ".join(
            str(value) if value < 1 << 20 else hex(value) for value in self.arguments
        )
        placed = "".join(f" [{at:#x}]={_short(data)}" for at, data in self.patches)
        return f"{self.name}({numbers}){placed}"


def _short(data: bytes) -> str:
    return repr(data) if len(data) <= 48 else f"{data[:32]!r}... ({len(data)} bytes)"


Argument = int | bytes | tuple[int, int] | Sequence[int] | Sequence[bytes]


def call(name: str, *arguments: Argument) -> Call:
    """Make a call, and place the data of its pointer arguments in memory.

    Args:
        name: The function.
        arguments: One for each kind in ``FUNCTIONS``; ``outN`` may be omitted at the end. A tuple
            of two numbers is passed unchanged, as pointer and length. Otherwise: bytes for a
            path; the length of a ``buffer``; the lengths of ``buffers``; the texts of ``data``;
            the bytes of the table of subscriptions.
    """
    layout = _Layout()
    kinds = FUNCTIONS[name]
    given = iter(arguments)
    numbers: list[int] = []
    for kind in kinds:
        argument = next(given, None)
        if argument is None:
            if not kind.startswith("out"):
                raise TypeError(f"{name}: no argument for a parameter of the kind {kind}")
            argument = layout.reserve(int(kind[3:]))
        numbers += layout.place(kind, argument)
    if next(given, None) is not None:
        raise TypeError(f"{name}: more arguments than its parameters: {kinds}")
    types = wasm_types(name)
    masked = (
        number & (0xFFFFFFFF if wasm_type == "i32" else 0xFFFFFFFFFFFFFFFF)
        for number, wasm_type in zip(numbers, types, strict=True)
    )
    return Call(name, tuple(masked), tuple(layout.patches))


class _Layout:
    """Allocates the data of a call's pointer arguments, from the start of the memory."""

    def __init__(self) -> None:
        self.patches: list[tuple[int, bytes]] = []
        self._next = 256

    def reserve(self, length: int) -> int:
        at = self._next
        self._next = (at + length + 15) & ~15
        return at

    def put(self, data: bytes) -> tuple[int, int]:
        at = self.reserve(len(data))
        if data:
            self.patches.append((at, data))
        return at, len(data)

    def place(self, kind: str, argument: Argument) -> tuple[int, ...]:
        """Return the numbers that are passed for an argument."""
        match kind, argument:
            case _, int():
                return (self.reserve(argument), argument) if kind == "buffer" else (argument,)
            case _, tuple((int(), int())) if kind in _PAIRS:
                return argument
            case "subscriptions", bytes():
                return (self.put(argument)[0],)
            case _, bytes():
                return self.put(argument)
            case "buffers", list():
                lengths = [int(length) for length in argument]
                vectors = [(self.reserve(length), length) for length in lengths]
            case "data", list():
                vectors = [self.put(bytes(piece)) for piece in argument]
            case _:
                raise TypeError(f"{argument!r} for a parameter of the kind {kind}")
        at, _ = self.put(b"".join(struct.pack("<II", *vector) for vector in vectors))
        return at, len(vectors)


_CHUNK = 4096


def encode(calls: Sequence[Call]) -> bytes:
    """Encode calls as a script, which the interpreter reads from stdin.

    It is padded so that the data that follows it on stdin begins a new chunk: wasmtime reads a pipe
    in chunks of 4096 bytes, and a read returns bytes of one chunk only. The size of reads must not
    depend on the length of the script.
    """
    if len(calls) > MAX_CALLS:
        raise ValueError(f"{len(calls)} calls: a script has at most {MAX_CALLS}")
    records = b"".join(_record(made) for made in calls)
    records += bytes(-(8 + len(records)) % _CHUNK)
    if len(records) > MAX_SCRIPT:
        raise ValueError(f"a script of {len(records)} bytes: it may have at most {MAX_SCRIPT}")
    return struct.pack("<II", len(records), len(calls)) + records


def _record(made: Call) -> bytes:
    arguments = struct.pack("<9Q", *made.arguments, *[0] * (9 - len(made.arguments)))
    patches = b"".join(
        struct.pack("<II", at, len(data)) + data.ljust(_aligned(len(data)), b"\0")
        for at, data in made.patches
    )
    head = struct.pack("<II", NAMES.index(made.name), len(made.patches))
    return head + arguments + patches


def _aligned(length: int) -> int:
    return (length + 7) & ~7


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call.

    Attributes:
        errno: What the function returned; None if it did not return.
        memory: The memory after the call, ``ARENA`` bytes; empty if it did not return.
    """

    errno: int | None
    memory: bytes

    def number(self, at: int, length: int = 4) -> int:
        """Return the number at an address of the memory."""
        return int.from_bytes(self.memory[at : at + length], "little")


def decode_log(read: Callable[[int, int], bytes]) -> list[Result]:
    """Read the interpreter's record.

    Args:
        read: Reads part of the record, given offset and length.

    Returns:
        The results of the calls that were started.
    """
    results = []
    for index, (state, errno) in enumerate(struct.iter_unpack("<II", read(0, 8 * MAX_CALLS))):
        if state == 0:
            break
        returned = state == 2
        memory = read(ARENA * (1 + index), ARENA) if returned else b""
        results.append(Result(errno if returned else None, memory))
    return results


def interpreter(module: str = "wasi_snapshot_preview1") -> str:
    """Return the interpreter in the text format.

    It exports its record as ``log``. Before it ends, by returning or by ``proc_exit``, it appends
    the record to ``memory`` at the address ``ARENA``, for hosts that can only read ``memory``.
    """
    imports, wrappers = [], []
    for index, name in enumerate(NAMES):
        if name == "sock_accept" and module == "wasi_unstable":  # it came with preview 1
            wrappers.append(f"(func $c{index} (param i32) (result i32) (unreachable))")
            continue
        types = wasm_types(name)
        result = "" if name == "proc_exit" else "(result i32)"
        parameters = f"(param {' '.join(types)})" if types else ""
        imports.append(f'(import "{module}" "{name}" (func $f{index} {parameters} {result}))')
        arguments = " ".join(
            f"(i64.load $script offset={8 + 8 * at} (local.get 0))"
            if wasm_type == "i64"
            else f"(i32.load $script offset={8 + 8 * at} (local.get 0))"
            for at, wasm_type in enumerate(types)
        )
        body = f"(call $f{index} {arguments})"
        if name == "proc_exit":
            body = f"(call $append_log) {body} (unreachable)"
        wrappers.append(f"(func $c{index} (param i32) (result i32) {body})")
    elements = " ".join(f"$c{index}" for index in range(len(NAMES)))
    return f"""(module
  {" ".join(imports)}
  (memory $arena (export "memory") 1)
  (memory $script {_SCRIPT_PAGES})
  (memory $log (export "log") {_LOG_PAGES})
  (global $begun (mut i32) (i32.const 0))
  (type $call (func (param i32) (result i32)))
  (table funcref (elem {elements}))
  {" ".join(wrappers)}

  ;; Reads exactly $length bytes of stdin into the script's memory.
  (func $receive (param $to i32) (param $length i32) (local $got i32)
    (loop $more
      (if (i32.eqz (local.get $length)) (then (return)))
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (select (local.get $length) (i32.const 32768)
        (i32.lt_u (local.get $length) (i32.const 32768))))
      (if (call $f{NAMES.index("fd_read")}
            (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
      (local.set $got (i32.load (i32.const 8)))
      (if (i32.eqz (local.get $got)) (then (unreachable)))
      (memory.copy $script $arena (local.get $to) (i32.const 1024) (local.get $got))
      (local.set $to (i32.add (local.get $to) (local.get $got)))
      (local.set $length (i32.sub (local.get $length) (local.get $got)))
      (br $more)))

  (func $append_log (local $pages i32)
    (local.set $pages (i32.add (global.get $begun) (i32.const 1)))
    (if (i32.eq (memory.grow $arena (local.get $pages)) (i32.const -1)) (then (unreachable)))
    (memory.copy $arena $log (i32.const {ARENA}) (i32.const 0)
      (i32.mul (local.get $pages) (i32.const {ARENA}))))

  (func (export "_start")
    (local $at i32) (local $calls i32) (local $index i32)
    (local $here i32) (local $patches i32) (local $length i32)
    (call $receive (i32.const 0) (i32.const 8))
    (local.set $calls (i32.load $script (i32.const 4)))
    (call $receive (i32.const 0) (i32.load $script (i32.const 0)))
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $index) (local.get $calls)))
      (memory.fill $arena (i32.const 0) (i32.const 0) (i32.const {ARENA}))
      (local.set $here (local.get $at))
      (local.set $patches (i32.load $script offset=4 (local.get $here)))
      (local.set $at (i32.add (local.get $here) (i32.const 80)))
      (block $placed (loop $place
        (br_if $placed (i32.eqz (local.get $patches)))
        (local.set $length (i32.load $script offset=4 (local.get $at)))
        (memory.copy $arena $script (i32.load $script (local.get $at))
          (i32.add (local.get $at) (i32.const 8)) (local.get $length))
        (local.set $at (i32.add (local.get $at)
          (i32.and (i32.add (local.get $length) (i32.const 15)) (i32.const -8))))
        (local.set $patches (i32.sub (local.get $patches) (i32.const 1)))
        (br $place)))
      (i32.store $log (i32.mul (local.get $index) (i32.const 8)) (i32.const 1))
      (global.set $begun (i32.add (local.get $index) (i32.const 1)))
      (i32.store $log offset=4 (i32.mul (local.get $index) (i32.const 8))
        (call_indirect (type $call) (local.get $here) (i32.load $script (local.get $here))))
      (i32.store $log (i32.mul (local.get $index) (i32.const 8)) (i32.const 2))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (memory.copy $log $arena (i32.mul (local.get $index) (i32.const {ARENA}))
        (i32.const 0) (i32.const {ARENA}))
      (br $next)))
    (call $append_log)))"""
