"""Header fields of wasi:http: which ones are valid, and how many there may be."""

from __future__ import annotations

import pytest

from wagi.guest.errno import GuestTrap
from wagi.guest.preview2.http_fields import (
    MAX_FIELDS,
    MAX_SIZE,
    Fields,
    FieldsAccount,
    HeaderError,
    check_field,
)

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (b"x-a", b"b", None),
        (b"!#$%&'*+-.^_`|~09az", b"\t \x80\xff", None),
        (b"content-length", b"0", None),
        (b"content-length", b"1, 1", HeaderError.INVALID_SYNTAX),
        (b"content-length", b"", HeaderError.INVALID_SYNTAX),
        (b"", b"b", HeaderError.INVALID_SYNTAX),
        (b"a b", b"b", HeaderError.INVALID_SYNTAX),
        (b"a:", b"b", HeaderError.INVALID_SYNTAX),
        (b"a\n", b"b", HeaderError.INVALID_SYNTAX),
        (b"\xe9", b"b", HeaderError.INVALID_SYNTAX),
        (b"a", b"\0", HeaderError.INVALID_SYNTAX),
        (b"a", b"b\r\nc: d", HeaderError.INVALID_SYNTAX),
        (b"a", b"\x7f", HeaderError.INVALID_SYNTAX),
        (b"Host", b"b", HeaderError.FORBIDDEN),
        (b"Transfer-Encoding", b"chunked", HeaderError.FORBIDDEN),
        (b"connection", b"\0", HeaderError.FORBIDDEN),
    ],
)
def test_which_fields_are_valid(name: bytes, value: bytes, error: HeaderError | None) -> None:
    assert check_field(name, (b"ok", value) if name == b"a" else (value,)) == (name.lower(), error)


def test_the_number_of_fields_is_limited() -> None:
    item = (b"a", b"b")
    fields = Fields(account=FieldsAccount())
    fields.replace((item,) * MAX_FIELDS)
    with pytest.raises(GuestTrap, match="made more than 1024 header fields"):
        fields.replace((item,) * (MAX_FIELDS + 1))


def test_the_size_of_all_fields_is_limited() -> None:
    account = FieldsAccount()
    large = ((b"a", b"b" * (MAX_SIZE // 2)),)
    first = Fields(large, account)
    with pytest.raises(GuestTrap, match="bytes of header fields"):
        Fields(large, account)
    account = FieldsAccount()
    first = Fields(large, account)
    first.close()
    first.close()
    assert Fields(large, account).take() == large
    assert Fields(large, account).items == large


def test_fields_of_a_request_cost_nothing() -> None:
    fields = Fields(((b"a", b"b"),))
    assert fields.is_immutable
    assert fields.take() == ((b"a", b"b"),)
