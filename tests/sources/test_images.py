"""Image manifests: parsing, selection, unpacking and building, without a registry."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from wagi.sources.cache import digest_of
from wagi.sources.errors import FetchError, SourceError
from wagi.sources.images import (
    Descriptor,
    Manifest,
    build_image,
    choose_layer,
    choose_manifest,
    module_of,
    parse_manifest,
)

pytestmark = pytest.mark.fast

WASM_TO_OCI = "application/vnd.wasm.content.layer.v1+wasm"
CNCF = "application/wasm"
TAR = "application/vnd.oci.image.layer.v1.tar"
TAR_GZIP = f"{TAR}+gzip"
TITLE = "org.opencontainers.image.title"
MODULE = b"\0asm\x01\0\0\0"
LIMIT = 1024**2


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def layer(media_type: str, number: int = 1, title: str = "", size: int = 8) -> dict[str, Any]:
    annotations = {"annotations": {TITLE: title}} if title else {}
    return {"mediaType": media_type, "digest": digest(number), "size": size, **annotations}


def image(*layers: dict[str, Any]) -> Manifest:
    return parse_manifest(json.dumps({"schemaVersion": 2, "layers": layers}).encode())


def index(*platforms: str | None) -> Manifest:
    """Make an index of images for platforms in the form OS/ARCHITECTURE."""
    images = []
    for number, platform in enumerate(platforms):
        item: dict[str, Any] = {"digest": digest(number), "size": 1}
        if platform is not None:
            os, _, architecture = platform.partition("/")
            item["platform"] = {"os": os, "architecture": architecture}
        images.append(item)
    return parse_manifest(json.dumps({"manifests": images}).encode())


def compress(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def archive(files: Mapping[str, bytes], compressed: bool = False) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return compress(output.getvalue()) if compressed else output.getvalue()


def descriptor(media_type: str) -> Descriptor:
    return Descriptor(mediaType=media_type, digest=digest(1), size=1)


def test_a_manifest_of_wasm_to_oci() -> None:
    """It has an empty config, and a layer with a title."""
    manifest = parse_manifest(
        b"""{"schemaVersion":2,"config":{"mediaType":"application/vnd.wasm.config.v1+json",
        "digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size":2},"layers":[{"mediaType":"application/vnd.wasm.content.layer.v1+wasm",
        "digest":"sha256:4c7915b4c1f9b0c13f962998e4199ceb00db39a4a7fa4554f40ae0bed83d9510",
        "size":1624962,"annotations":{"org.opencontainers.image.title":"hello.wasm"}}]}"""
    )
    chosen = choose_layer("", manifest)
    assert (chosen.title, chosen.size) == ("hello.wasm", 1624962)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "invalid manifest: invalid JSON"),
        (b"\xff\xfe", "invalid manifest: invalid JSON"),
        (b"[]", "invalid manifest: expected a table, found an array"),
        (b"{}", "invalid manifest: no layers"),
        (b'{"layers": {}}', "invalid manifest: layers: "),
        (b'{"layers": [{}]}', "invalid manifest: required key 'layers.0.digest' is missing"),
        (
            b'{"layers": [{"digest": "sha256:../../etc/passwd", "size": 1}]}',
            "invalid manifest: layers.0.digest: expected a string that matches",
        ),
        (
            b'{"layers": [{"digest": "sha256:%s", "size": 1}]}' % (b"A" * 64),
            "invalid manifest: layers.0.digest: expected a string that matches",
        ),
        (
            b'{"layers": [{"digest": "sha256:%s", "size": -1}]}' % (b"a" * 64),
            "invalid manifest: layers.0.size: expected 0 or more",
        ),
        (
            b'{"manifests": [{"digest": "md5:%s", "size": 1}]}' % (b"a" * 32),
            "invalid manifest: manifests.0.digest: expected a string that matches",
        ),
    ],
)
def test_an_invalid_manifest(content: bytes, message: str) -> None:
    with pytest.raises(FetchError) as error:
        parse_manifest(content)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("platforms", "chosen"),
    [
        (("linux/amd64", "wasip1/wasm", "linux/arm64"), 1),
        (("wasi/wasm32", "linux/amd64"), 0),
        (("linux/amd64",), 0),
        ((None,), 0),
        ((None, "wasip1/wasm"), 1),
    ],
)
def test_the_image_for_wasm_is_chosen(platforms: tuple[str | None, ...], chosen: int) -> None:
    assert choose_manifest(index(*platforms)).digest == digest(chosen)


@pytest.mark.parametrize(
    ("platforms", "listing"),
    [
        ((), " none"),
        (("linux/amd64", "linux/arm64"), "linux/amd64"),
        (("wasip1/wasm", "wasi/wasm"), "for wasi/wasm"),
        ((None, None), "without a platform"),
    ],
)
def test_an_ambiguous_index_lists_its_images(
    platforms: tuple[str | None, ...], listing: str
) -> None:
    with pytest.raises(FetchError, match="exactly one image for wasm") as error:
        choose_manifest(index(*platforms))
    assert listing in str(error.value)
    assert str(error.value).count("\n") == len(platforms)


@pytest.mark.parametrize("media_type", [WASM_TO_OCI, CNCF, TAR, TAR_GZIP])
def test_the_only_module_is_chosen(media_type: str) -> None:
    others = layer("text/plain", 1), layer("application/json", 2)
    assert choose_layer("", image(*others, layer(media_type, 3))).digest == digest(3)


def test_a_module_is_preferred_to_an_archive() -> None:
    assert choose_layer("", image(layer(TAR, 1), layer(CNCF, 2))).digest == digest(2)


def test_a_module_is_chosen_by_its_title() -> None:
    layers = layer(WASM_TO_OCI, 1, "a.wasm"), layer(WASM_TO_OCI, 2, "b.wasm")
    assert choose_layer("b.wasm", image(*layers)).digest == digest(2)


def test_several_modules_need_a_title() -> None:
    layers = layer(WASM_TO_OCI, 1, "a.wasm"), layer(WASM_TO_OCI, 2, "b.wasm")
    with pytest.raises(SourceError, match="2 layers are modules: add #TITLE") as error:
        choose_layer("", image(*layers))
    assert "a.wasm" in str(error.value)
    assert "b.wasm" in str(error.value)


@pytest.mark.parametrize(
    ("title", "layers", "message"),
    [
        ("", (), "no layer is a module; the layers are: none"),
        ("", (layer("text/plain", size=3),), "the layers are:\ntext/plain, 3 bytes"),
        ("", (layer(""),), "the layers are:\nno media type, 8 bytes"),
        ("c.wasm", (layer(CNCF, 1, "a.wasm"),), "no module has the title 'c.wasm'"),
        ("a.txt", (layer("text/plain", 1, "a.txt"),), "no module has the title 'a.txt'"),
    ],
)
def test_an_image_without_the_module(
    title: str, layers: tuple[dict[str, Any], ...], message: str
) -> None:
    with pytest.raises(FetchError) as error:
        choose_layer(title, image(*layers))
    assert message in str(error.value)


@pytest.mark.parametrize("media_type", [WASM_TO_OCI, CNCF, ""])
def test_a_layer_that_is_a_module_is_not_unpacked(media_type: str) -> None:
    content = compress(MODULE)
    assert module_of(descriptor(media_type), content, LIMIT) == content


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("media_type", [TAR, TAR_GZIP])
def test_a_module_in_an_archive(media_type: str, compressed: bool) -> None:
    """Compression is detected from the content: some tools use the wrong media type."""
    content = archive({"README": b"x", "app/hello.wasm": MODULE}, compressed)
    assert module_of(descriptor(media_type), content, LIMIT) == MODULE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a valid tar archive"),
        (MODULE, "not a valid tar archive"),
        (compress(MODULE), "not a valid tar archive"),
        (compress(archive({"a.wasm": MODULE}))[:-12], "not a valid tar archive"),
        (b"\x1f\x8b\x08" + bytes(40), "not a valid tar archive"),
        (archive({}), "exactly one .wasm file, found nothing"),
        (archive({"b": b"", "a": b""}), "exactly one .wasm file, found a, b"),
        (archive({"b.wasm": MODULE, "a.wasm": MODULE}), "found a.wasm, b.wasm"),
        (archive({"a.wasm": bytes(LIMIT + 1)}, compressed=True), "more than 1048576 bytes"),
        (compress(bytes(3 * LIMIT)), "more than 1048576 bytes"),
    ],
    ids=[
        *("empty", "a module", "a compressed module", "truncated", "not gzip", "no files"),
        *("no module", "two modules", "a large module", "a large archive"),
    ],
)
def test_an_invalid_archive(content: bytes, message: str) -> None:
    with pytest.raises(FetchError) as error:
        module_of(descriptor(TAR_GZIP), content, LIMIT)
    assert message in str(error.value)


def test_a_link_is_not_a_module() -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        entry = tarfile.TarInfo("hello.wasm")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(FetchError, match=r"exactly one \.wasm file, found hello\.wasm"):
        module_of(descriptor(TAR), output.getvalue(), LIMIT)


CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))


def test_the_system_of_a_component() -> None:
    built = build_image("cncf", [("a.wasm", b"\0asm\x0d\0\x01\0")], {}, CREATED)
    configs = [content for content in built.contents.values() if content.startswith(b"{")]
    assert [json.loads(config)["os"] for config in configs] == ["wasip2"]


@pytest.mark.parametrize("layout", ["wasm-to-oci", "cncf"])
def test_a_built_image_can_be_parsed(layout: Any) -> None:
    built = build_image(layout, [("hello.wasm", MODULE)], {"a": "b"}, CREATED)
    manifest = parse_manifest(built.manifest)
    chosen = choose_layer("hello.wasm", manifest)
    assert module_of(chosen, built.contents[chosen.digest], LIMIT) == MODULE
    assert manifest.config is not None
    for part in (chosen, manifest.config):
        assert digest_of(built.contents[part.digest]) == part.digest
        assert len(built.contents[part.digest]) == part.size
    assert json.loads(built.manifest)["annotations"] == {"a": "b"}
    assert built.digest == digest_of(built.manifest)
    assert build_image(layout, [("hello.wasm", MODULE)], {"a": "b"}, CREATED) == built


def test_the_config_of_the_cncf_layout() -> None:
    built = build_image("cncf", [("hello.wasm", MODULE)], {}, CREATED)
    config = parse_manifest(built.manifest).config
    assert config is not None
    assert json.loads(built.contents[config.digest]) == {
        "created": CREATED.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "architecture": "wasm",
        "os": "wasip1",
        "layerDigests": [digest_of(MODULE)],
    }
    assert "annotations" not in json.loads(built.manifest)


def test_several_modules() -> None:
    modules = [("a.wasm", MODULE), ("b.wasm", MODULE + b"\0\1\0")]
    built = build_image("wasm-to-oci", modules, {}, CREATED)
    chosen = choose_layer("b.wasm", parse_manifest(built.manifest))
    assert built.contents[chosen.digest] == modules[1][1]
    with pytest.raises(SourceError, match="supports only one module"):
        build_image("cncf", modules, {}, CREATED)
