"""Modules in registries: pushing them, images that other tools make, and entries that name them."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from tests.support.registry import Registry
from tests.support.server import run_wagi, write_files
from tests.support.wat import TEXT_HEAD, printing
from wagi.guest.capi.engine import wat_to_wasm

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def module(text: str) -> bytes:
    """Return a handler that prints a text."""
    return wat_to_wasm(printing(TEXT_HEAD + text))


def entry(reference: str, route: str = "/", extra: str = "") -> str:
    """Return an entry of modules.toml."""
    return f'[[module]]\nroute = "{route}"\nmodule = "{reference}"\n{extra}\n'


def cache(folder: Path) -> dict[str, str]:
    """Return the variable that selects a module cache in a folder."""
    return {"WAGI_MODULE_CACHE": str(folder / "cache")}


def push(folder: Path, content: bytes, target: str, *options: str, **environment: str) -> str:
    """Push with `wagi push`; return the reference by digest."""
    write_files(folder, {"pushed.wasm": content})
    done = run_wagi(folder, "push", *options, "pushed.wasm", target, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def archive(files: dict[str, bytes], zipped: bool = True) -> bytes:
    """Return files as a layer of an image."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue()) if zipped else buffer.getvalue()


def put_image(
    registry: Registry, repository: str, media_type: str, content: bytes, tag: str = "1"
) -> str:
    """Upload an image with one layer; return its digest."""
    config_type = "application/vnd.oci.image.config.v1+json"
    config = {"mediaType": config_type, **registry.put_blob(repository, b"{}")}
    layer = {"mediaType": media_type, **registry.put_blob(repository, content)}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    return registry.put_manifest(repository, tag, manifest, MANIFEST)
