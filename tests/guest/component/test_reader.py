"""The reader of the binary format: where types end, and bounds on depth and work."""

from __future__ import annotations

import pytest

from tests.support.components import component
from wagi.guest.binary import MalformedModuleError, leb
from wagi.guest.component.errors import UnsupportedComponentError
from wagi.guest.component.graph import read_component
from wagi.guest.component.reader import Budget, ComponentReader, Sort

pytestmark = pytest.mark.fast

HEADER = b"\0asm\x0d\0\x01\0"
TYPES = """
  (type $record (record (field "a" u8) (field "b" string)))
  (type $variant (variant (case "a") (case "b" $record)))
  (type $list (list $variant)) (type $tuple (tuple u64 f32 char))
  (type $flags (flags "a" "b")) (type $enum (enum "a" "b"))
  (type $option (option $tuple)) (type $result (result $list (error $enum)))
  (type $empty (result)) (type $resource (resource (rep i32)))
  (type $own (own $resource)) (type $borrow (borrow $resource))
  (type $function (func (param "a" $own) (param "b" $borrow) (result $result)))
  (type $nothing (func))
  (type $instance (instance
    (alias outer 1 $record (type $r)) (export "r" (type (eq $r)))
    (export "s" (type (sub resource))) (type $f (func (param "x" $r))) (export "f" (func (type $f)))
  ))
  (type $component (component
    (import "i" (instance (type $instance))) (import "f" (func (type $function)))
    (export "c" (component))))"""


def reader(content: bytes, budget: int = 1000) -> ComponentReader:
    return ComponentReader(content, 0, len(content), Budget(budget))


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + leb(len(content)) + content


def test_every_kind_of_type_is_skipped() -> None:
    """wasmtime encodes them; a wrong length would leave bytes, which is an error."""
    assert read_component(component(f"(component {TYPES})")).exports == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x43\0\0\x7f", "asynchronous functions"),
        (b"\x66\x01\x7d", "streams or futures"),
        (b"\x65\x00", "streams or futures"),
        (b"\x00", "type 0x0"),
        (b"\x62", "type 0x62"),
        (b"\x40\0\x01\x01", "extension 0x1"),
        (b"\x42\x01\x00\x50", "declaration 0x0 in a type"),
        (b"\x42\x01\x04\x02\x01a\x01\0", "name of kind 2"),
        (b"\x42\x01\x04\x00\x01a\x02\0", "import or export of kind 2"),
    ],
)
def test_types_that_are_not_supported(content: bytes, message: str) -> None:
    with pytest.raises(UnsupportedComponentError, match=message):
        reader(content).skip_component_type()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unexpected end of a section"),
        (b"\x72\x05\x01a", "unexpected end of a section"),
        (b"\x72\xff\xff\xff\xff\x0f", "unexpected end of a section"),
        (b"\x6a\x02", "unknown flag of an optional value: 2"),
        (b"\x42\x01\x02\x09\x00\x00", "unknown sort of item: 0x9"),
        (b"\x42\x01\x02\x00\x09\x00", "unknown sort of item: 0x109"),
        (b"\x42\x01\x02\x03\x03\x00", "unknown target of an alias: 3"),
        (b"\x42\x01\x04\x00\x01a\x03\x02", "unknown bound of a type: 2"),
        (b"\x6e\x01\x02\xff\xfe", "not valid UTF-8"),
    ],
)
def test_invalid_types(content: bytes, message: str) -> None:
    with pytest.raises(MalformedModuleError, match=message):
        reader(content).skip_component_type()


def test_sorts() -> None:
    assert reader(b"\x01").sort() is Sort.FUNC
    assert reader(b"\x00\x12").sort() is Sort.CORE_INSTANCE
    assert reader(b"\x02").core_sort() is Sort.CORE_MEMORY


def test_the_depth_of_types_is_limited() -> None:
    """Each level has four bytes, so that a small file could exhaust the stack."""
    deep = b"\x42\x01\x01" * 10_000 + b"\x42\0"
    with pytest.raises(UnsupportedComponentError, match="nested in more than 64 levels"):
        reader(deep).skip_component_type()
    reader(b"\x42\x01\x01" * 60 + b"\x42\0").skip_component_type()


def test_the_depth_of_components_is_limited() -> None:
    content = HEADER
    for _ in range(100):  # each level instantiates the next one
        content = HEADER + section(4, content) + section(5, b"\x01\0\0\0")
    with pytest.raises(UnsupportedComponentError, match="nested in more than 64 levels"):
        read_component(content)


def test_the_work_is_limited() -> None:
    """30 components, each of which instantiates the next one twice, would make 2 ** 30."""
    content = HEADER
    for _ in range(30):
        content = HEADER + section(4, content) + section(5, b"\x02" + b"\0\0\0" * 2)
    with pytest.raises(UnsupportedComponentError, match="more than 100000 imports"):
        read_component(content)


def test_long_names_count_as_work() -> None:
    name = leb(64_000) + b"a" * 64_000
    with pytest.raises(UnsupportedComponentError, match="more than 999 imports"):
        reader(name, 999).name()
    assert len(reader(name, 1001).name()) == 64_000
