"""A guest can access only the resources of its entry, and leaves no data behind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.server import Server, serving
from tests.support.toolchains import HANDLERS, compiled

MANIFEST = """
[[module]]
route = "/thief"
module = "burglar.wasm"
volumes = {"/data" = "shared"}
[[module]]
route = "/owner"
module = "burglar.wasm"
volumes = {"/data" = "shared", "/private" = "private"}
[[module]]
route = "/reader"
module = "burglar.wasm"
volumes = {"/data" = {path = "shared"}, "/private" = {path = "private", readonly = true}}
[[module]]
route = "/nothing"
module = "burglar.wasm"
[[module]]
route = "/counter"
module = "counter.wat"
[[module]]
route = "/fill"
module = "fill.wat"
[[module]]
route = "/scan"
module = "scan.wat"
"""
# Increments counters in a global, in memory and in a table, and prints their sum.
COUNTER = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (table $t 1 funcref)
  (global $g (mut i32) (i32.const 0))
  (data (i32.const 64) "Content-Type: text/plain\\n\\n0")
  (func (export "_start")
    (global.set $g (i32.add (global.get $g) (i32.const 1)))
    (i32.store (i32.const 4096) (i32.add (i32.load (i32.const 4096)) (i32.const 1)))
    (drop (table.grow $t (ref.null func) (i32.const 1)))
    (i32.store8 (i32.const 90) (i32.add (i32.const 45)
      (i32.add (global.get $g) (i32.add (i32.load (i32.const 4096)) (table.size $t)))))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 27))
    (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
MARKER = 0x5EC2E75EC2E75EC2
# Fills 8 MiB with a marker.
FILL = f"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 128)
  (data (i32.const 64) "Content-Type: text/plain\\n\\nfilled")
  (func (export "_start") (local $at i32)
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 32))
    (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $l (i64.store (local.get $at) (i64.const {MARKER}))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $l (i32.lt_u (local.get $at) (i32.const 8388608))))))"""
# Traps if 8 MiB, half of them initial and half grown, are not all zero.
SCAN = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 64) "Content-Type: text/plain\\n\\nclean")
  (func (export "_start") (local $at i32)
    (drop (memory.grow (i32.const 64)))
    (local.set $at (i32.const 128))
    (loop $l
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $l (i32.lt_u (local.get $at) (i32.const 8388608))))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 31))
    (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""


@dataclass(frozen=True)
class Site:
    """A server and its folder."""

    server: Server
    folder: Path

    def perform(self, route: str, *operations: str) -> list[str]:
        """Perform operations in the guest; return the result of each."""
        response = self.server.get(f"/{route}?{'&'.join(operations)}")
        assert response.status == 200, response.text
        return [line.split(" -> ", 1)[1] for line in response.text.splitlines()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("isolation")
    modules: dict[str, str | bytes] = {
        "burglar.wasm": compiled(HANDLERS / "burglar.c").read_bytes(),
        "counter.wat": COUNTER,
        "fill.wat": FILL,
        "scan.wat": SCAN,
        "outside.txt": "secret",
        "shared/file.txt": "shared",
        "private/secret.txt": "secret",
    }
    (folder / "shared").mkdir()
    (folder / "shared" / "host-absolute").symlink_to("/etc/passwd")
    (folder / "shared" / "host-relative").symlink_to("../outside.txt")
    (folder / "shared" / "host-folder").symlink_to(folder)
    environment = {"SECRET_OF_THE_HOST": "secret"}
    with serving(folder, MANIFEST, modules=modules, environment=environment) as server:
        yield Site(server, folder)


@pytest.mark.parametrize(
    "path",
    [
        "/data/../outside.txt",
        "/data/../../../../../../../../etc/passwd",
        "/data/./../outside.txt",
        "/data/x/../../outside.txt",
        "/data//../outside.txt",
        "../outside.txt",
        "outside.txt",
        "/outside.txt",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/1/environ",
        "/dev/zero",
        "/private/secret.txt",
        "/data/../private/secret.txt",
        "/data/host-absolute",
        "/data/host-relative",
        "/data/host-folder/outside.txt",
        "/data/host-folder/private/secret.txt",
        "",
        ".",
        "/",
    ],
)
def test_paths_outside_the_volumes_are_inaccessible(site: Site, path: str) -> None:
    """For reading and writing."""
    if path:
        (found,) = site.perform("thief", f"read:{path}")
        assert found in (
            "Operation not permitted",
            "No such file or directory",
            "Capabilities insufficient",
            "Bad file descriptor",
        ), found
        (found, *_) = site.perform("thief", f"overwrite:{path}")
        assert found != "ok"
    assert (site.folder / "outside.txt").read_text() == "secret"


def test_links_of_another_guest_cannot_leave_the_volume(site: Site) -> None:
    """One guest plants links in a shared volume; another with more access follows them."""
    targets = (
        "../private/secret.txt",
        "../outside.txt",
        "/private/secret.txt",
        "/etc/passwd",
        "/proc/self/environ",
        "../../../../../../../../etc/passwd",
        "planted-0",
    )
    site.perform("thief", *(f"symlink:{t}:/data/planted-{i}" for i, t in enumerate(targets)))
    found = site.perform("owner", *(f"read:/data/planted-{i}" for i in range(len(targets))))
    assert len(found) == len(targets)
    assert not [text for text in found if "secret" in text or "root:" in text or "PATH=" in text]
    site.perform("thief", "symlink:../private:/data/folder")
    assert site.perform("owner", "read:/data/folder/secret.txt") == ["Operation not permitted"]


def test_a_link_inside_the_volume_works(site: Site) -> None:
    assert site.perform("thief", "symlink:file.txt:/data/inside", "read:/data/inside") == [
        "ok",
        "shared",
    ]


def test_nothing_is_moved_across_volume_boundaries(site: Site) -> None:
    operations = (
        "rename:/data/file.txt:/data/../moved.txt",
        "rename:/data/../outside.txt:/data/stolen.txt",
        "link:/data/../outside.txt:/data/stolen.txt",
        "link:/data/host-relative:/data/stolen.txt",
        "unlink:/data/../outside.txt",
        "mkdir:/data/../made",
    )
    assert "ok" not in site.perform("thief", *operations[:3], *operations[4:])
    site.perform("thief", operations[3])
    assert "secret" not in site.perform("thief", "read:/data/stolen.txt")
    assert sorted(path.name for path in site.folder.iterdir() if path.is_dir()) == [
        "private",
        "shared",
    ]


def test_a_readonly_volume(site: Site) -> None:
    """It can be read but not changed in any way, not even through another volume."""
    assert site.perform("reader", "read:/private/secret.txt", "list:/private") == [
        "secret",
        ". .. secret.txt ",
    ]
    operations = (
        "overwrite:/private/secret.txt",
        "truncate:/private/secret.txt",
        "create:/private/new.txt",
        "unlink:/private/secret.txt",
        "mkdir:/private/folder",
        "rename:/private/secret.txt:/private/other.txt",
        "rename:/private/secret.txt:/data/other.txt",
        "rename:/data/file.txt:/private/file.txt",
        "link:/private/secret.txt:/data/linked.txt",
        "symlink:x:/private/link",
        "utime:/private/secret.txt",
    )
    assert set(site.perform("reader", *operations)) <= {
        "Operation not permitted",
        "Read-only file system",
        "Cross-device link",
        "Capabilities insufficient",
    }
    assert [path.name for path in (site.folder / "private").iterdir()] == ["secret.txt"]
    assert site.perform("owner", "create:/private/own", "unlink:/private/own") == ["ok", "ok"]


def test_no_host_descriptors(site: Site) -> None:
    assert site.perform("nothing", "descriptors") == ["0"]
    assert site.perform("owner", "descriptors") == ["2"]


def test_open_files_are_limited(site: Site) -> None:
    """Guests share the descriptors of their worker, so each may have only a few."""
    few = "128, then No file descriptors available, one more after a close"
    assert site.perform("thief", "hoard:/data/file.txt", "read:/data/file.txt") == [
        few,
        "No file descriptors available",
    ]
    assert site.perform("thief", "hoard:/data/file.txt")[0] == few


def test_no_host_environment(site: Site) -> None:
    text = site.server.get("/nothing?environ").text
    assert "GATEWAY_INTERFACE=CGI/1.1" in text
    assert "SECRET_OF_THE_HOST" not in text
    assert "PATH=" not in text.replace("X_RAW_PATH", "")
    assert str(site.folder) not in text


def test_no_state_survives_a_run(site: Site) -> None:
    """Globals, memory and tables are new for each run, in whatever order memory is reused."""
    with ThreadPoolExecutor(8) as pool:
        answers = {site.server.get("/counter").text}
        answers |= {r.text for r in pool.map(lambda _: site.server.get("/counter"), range(200))}
    assert answers == {"1"}


def test_memory_of_another_guest_is_never_visible(site: Site) -> None:
    with ThreadPoolExecutor(8) as pool:
        routes = ["/fill", "/scan"] * 150
        answers = {r.text for r in pool.map(site.server.get, routes)}
    assert answers == {"filled", "clean"}
