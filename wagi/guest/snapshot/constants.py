"""Constant expressions (core specification §3.3.13). Pure."""

from __future__ import annotations

from struct import pack

from wagi.guest.binary import Reader
from wagi.guest.encoding import signed
from wagi.guest.snapshot.errors import SnapshotError

NUMBER_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}


def constant(kind: int, value: object) -> bytes:
    """Encode a number as a constant expression.

    Args:
        kind: Its type, a key of ``NUMBER_TYPES``.
        value: The number.
    """
    assert isinstance(value, int | float)
    match NUMBER_TYPES[kind]:
        case "i32":
            return b"\x41" + signed(int(value)) + b"\x0b"
        case "i64":
            return b"\x42" + signed(int(value)) + b"\x0b"
        case "f32":
            return b"\x43" + pack("<f", value) + b"\x0b"
        case _:
            return b"\x44" + pack("<d", value) + b"\x0b"


def skip_constant(reader: Reader) -> None:
    """Skip a constant expression (core specification §3.3.13).

    Raises:
        SnapshotError: It uses an instruction that is not supported.
    """
    while (opcode := reader.byte()) != 0x0B:
        if opcode in (0x41, 0x42, 0x23, 0xD2):  # i32, i64, global.get, ref.func
            while reader.byte() & 0x80:
                pass
        elif opcode in (0x43, 0x44):
            reader.at += 4 if opcode == 0x43 else 8
        elif opcode == 0xD0:  # ref.null
            reader.byte()
        elif opcode not in (0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E):  # extended constants
            raise SnapshotError("the module has an unsupported constant expression")
