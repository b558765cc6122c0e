"""``wagi inspect``: show what a module imports, exports and needs."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import click

from wagi.cli.options import SOURCES, SettingsCommand, setting_options, settings_from
from wagi.cli.pull import fetch_one
from wagi.guest import binary
from wagi.guest.component.description import ComponentDescription, describe_component
from wagi.guest.description import Description
from wagi.guest.engine import Runtime
from wagi.guest.module import ModuleError, parse, to_wasm
from wagi.observe.text import one_line
from wagi.sources.cache import digest_of

_UNLIMITED_MEMORY = 2**40  # bytes; no guest runs here


@click.command(
    cls=SettingsCommand,
    short_help="Show what a module imports, exports and needs.",
    help="""Describe the module at a REFERENCE or in a FILE: its imports and whether the gateway
    provides them, its exports and entrypoints, its memory, and the tools that built it.

    \b
    Examples:
      wagi inspect hello.wasm
      wagi inspect --json oci://registry.example/hello:1.0
    """,
)
@click.argument("reference", metavar="REFERENCE|FILE")
@click.option(
    "--sha256", default="", metavar="HEX", help="Expected SHA-256; required for https: references."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@setting_options(*SOURCES)
def inspect(reference: str, sha256: str, as_json: bool, **options: Any) -> None:
    """Describe a module."""
    fetched = fetch_one(reference, sha256, settings_from(options))
    facts: dict[str, Any] = {
        "source": fetched.resolved,
        "digest": digest_of(fetched.content),
        "size": len(fetched.content),
    }
    wasm = to_wasm(reference, fetched.content)
    if binary.is_component(wasm):
        facts |= _component_facts(reference, wasm)
    else:
        facts |= _module_facts(reference, wasm)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        click.echo("\n".join(map(one_line, _lines(facts))))


def _component_facts(reference: str, wasm: bytes) -> dict[str, Any]:
    try:
        described = describe_component(wasm)
    except binary.MalformedModuleError as error:
        raise ModuleError(f"{reference}: {error}") from None
    facts: dict[str, Any] = {"producers": {}}
    if not described.problem:
        facts = _module_facts(reference, wasm)
    facts |= {
        "kind": "component",
        "world": described.world,
        "wasi": described.versions,
        "supported": not described.problem,
        **({"why": described.problem} if described.problem else {}),
        "interfaces": {"imports": described.imports, "exports": described.exports},
        "producers": _merged_producers(described),
    }
    return facts


def _merged_producers(described: ComponentDescription) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = {}
    for content in described.producers:
        for field, values in _producers(content).items():
            known = merged.setdefault(field, [])
            known += [value for value in values if value not in known]
    return merged


def _module_facts(reference: str, content: bytes) -> dict[str, Any]:
    source = parse(reference, content, _UNLIMITED_MEMORY)
    described = Runtime().describe(source)
    sections = dict(binary.custom_sections(source.wasm))
    return {
        "kind": _kind(described),
        "memory": [f"{size} bytes initially" for size in source.sizes.memories],
        "imports": [
            {
                "module": item.module,
                "name": item.name,
                "signature": item.signature,
                "provided": not item.missing,
                **({"why": item.missing} if item.missing else {}),
            }
            for item in described.imports
        ],
        "exports": described.exports,
        "entrypoints": described.entrypoints,
        "producers": _producers(sections.get("producers", b"\0")),
        "custom_sections": {name: len(body) for name, body in sections.items()},
    }


def _component_lines(facts: dict[str, Any]) -> list[str]:
    versions = ", ".join(facts["wasi"])
    world = facts["world"] or "none that the gateway knows"
    imports = facts.get("imports", ())
    preview = 2 if any(item["module"].startswith("wasi:") for item in imports) else 1
    runs = f"as its core module, with WASI preview {preview}"
    return [
        f"world    {world}{f' (WASI {versions})' if versions else ''}",
        f"runs     {runs if facts['supported'] else 'no: ' + facts['why']}",
    ]


def _interface_lines(interfaces: dict[str, tuple[str, ...]]) -> list[str]:
    """List the interfaces of a component that cannot run."""
    lines = []
    for kind, names in interfaces.items():
        lines.append(f"{kind}:" if names else f"{kind}: none")
        lines += [f"  {name}" for name in names]
    return lines


def _kind(described: Description) -> str:
    if "_start" in described.exports:
        return "command"
    return "reactor" + ("" if "_initialize" in described.exports else " without _initialize")


def _producers(content: bytes) -> dict[str, list[str]]:
    try:
        return binary.producers(content)
    except binary.MalformedModuleError:
        return {}  # custom sections are not validated; ignore one that cannot be parsed


def _lines(facts: dict[str, Any]) -> list[str]:
    lines = [f"{key:<8} {facts[key]}" for key in ("source", "digest")]
    lines += [f"size     {facts['size']:,} bytes", f"kind     {facts['kind']}"]
    if "world" in facts:
        lines += _component_lines(facts)
    lines += [f"memory   {memory}" for memory in facts.get("memory", ())]
    lines += [f"{key:<8} {', '.join(values)}" for key, values in facts["producers"].items()]
    if "imports" not in facts:
        return [*lines, *_interface_lines(facts["interfaces"])]
    lines.append(f"entries  {', '.join(facts['entrypoints']) or 'none'}")
    by_module = defaultdict(list)
    for item in facts["imports"]:
        by_module[item["module"]].append(item)
    for module, items in by_module.items():
        lines.append(f"imports from {module}:")
        for item in items:
            mark = "yes" if item["provided"] else "NO "
            why = "" if item["provided"] else f" - {item['why']}"
            lines.append(f"  {mark} {item['name']}: {item['signature']}{why}")
    lines.append("exports:")
    lines += [f"  {name}: {signature}" for name, signature in facts["exports"].items()]
    custom = facts["custom_sections"].items()
    lines.append("custom sections:" if custom else "custom sections: none")
    return lines + [f"  {name}: {size:,} bytes" for name, size in custom]
