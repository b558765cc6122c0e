"""Modules as they are parsed when a server starts."""

from __future__ import annotations

import pytest

from tests.support.components import LIBRARIES, component
from wagi.guest.engine import Runtime
from wagi.guest.module import ModuleError, parse

pytestmark = pytest.mark.fast


def test_a_mistake_in_the_text_format_is_shown_with_file_and_line() -> None:
    text = b'(module\n  (func (export "_start")\n    i32.bad))\n'
    with pytest.raises(ModuleError) as found:
        parse("bad.wat", text, memory_limit=1024**2)
    message = str(found.value)
    assert message.startswith("bad.wat: unknown operator or unexpected token\n")
    assert "--> bad.wat:3:5\n" in message
    assert "3 |     i32.bad))\n" in message


def test_the_imports_of_merged_modules_are_listed_once() -> None:
    """Without the number of the allocator, which differs between the modules."""
    parsed = parse("libraries.wasm", component(LIBRARIES), memory_limit=1024**2)
    imports = Runtime().describe(parsed).imports
    names = [(item.module, item.name, item.missing) for item in imports]
    assert names == [("wasi:cli/environment", "get-arguments", "")]
