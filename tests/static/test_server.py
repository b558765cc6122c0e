"""Static files of a real server."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.server import Response, Server, read_all, serving, write_files
from tests.support.tls import certificate_of
from tests.support.toolchains import tool
from tests.support.wat import HELLO

MANIFEST = """
[[module]]
route = "/hello"
module = "hello.wat"

[[module]]
route = "/app/..."
static = "app"
fallback = "index.html"

[[module]]
route = "/plain/..."
static = "public"

[[module]]
route = "/..."
static = "public"
not_found = "errors/404.html"
cache_control = {"*.html" = "no-cache", "assets/*" = "public, max-age=31536000, immutable"}
"""
BIG = bytes(range(256)) * 4096  # 1 MiB
SCRIPT = b"console.log('hello');\n" * 100
FILES: dict[str, str | bytes] = {
    "hello.wat": HELLO,
    "app/index.html": "<app>",
    "app/main.js": "main",
    "public/index.html": "<h1>é</h1>\n",
    "public/a.txt": "0123456789",
    "public/empty.txt": "",
    "public/big.bin": BIG,
    "public/LICENSE": "license",
    "public/assets/site.css": "body {}",
    "public/assets/a b+é%.txt": "odd",
    "public/docs/index.html": "docs",
    "public/no-index/x": "x",
    "public/errors/404.html": "<h1>lost</h1>",
    "public/.hidden": "secret",
    "public/.git/config": "secret",
    "public/.well-known/security.txt": "Contact: x",
    "public/script.js": SCRIPT,
    "public/script.js.gz": gzip.compress(SCRIPT),
    "public/script.js.br": b"not really brotli",
    "public/only.txt.gz": gzip.compress(b"only"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    write_files(folder, FILES)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, MANIFEST) as server:
        yield server


def head_of(response: Response) -> dict[str, str]:
    left_out = ("date", "etag", "last-modified", "server", "x-request-id")
    return {k.lower(): v for k, v in response.headers if k.lower() not in left_out}


def test_a_file(server: Server) -> None:
    response = server.get("/a.txt")
    assert (response.status, response.body) == (200, b"0123456789")
    assert head_of(response) == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "10",
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
    }
    assert re.fullmatch(r'"[0-9a-f]{32}"', response.header("ETag") or "")
    assert (response.header("Last-Modified") or "").endswith(" GMT")
    assert server.get("/a.txt?version=1#x").body == b"0123456789"


def test_head(server: Server) -> None:
    for path in ("/a.txt", "/big.bin"):
        got, head = server.get(path), server.request("HEAD", path)
        assert (head.status, head.body, head_of(head)) == (200, b"", head_of(got))
        assert head.header("ETag") == got.header("ETag")


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/", 200, b"<h1>\xc3\xa9</h1>\n"),
        ("/index.html", 200, b"<h1>\xc3\xa9</h1>\n"),
        ("/docs/", 200, b"docs"),
        ("/LICENSE", 200, b"license"),
        ("/empty.txt", 200, b""),
        ("/big.bin", 200, BIG),
        ("/assets/a%20b+%C3%A9%25.txt", 200, b"odd"),
        ("/%61.txt", 200, b"0123456789"),
        ("/.well-known/security.txt", 200, b"Contact: x"),
        ("/plain", 301, None),
        ("/plain/", 200, b"<h1>\xc3\xa9</h1>\n"),
        ("/plain/a.txt", 200, b"0123456789"),
        ("/plain/missing", 404, None),
        ("/missing", 404, b"<h1>lost</h1>"),
        ("/no-index/", 404, b"<h1>lost</h1>"),
        ("/no-index", 404, b"<h1>lost</h1>"),
        ("/a.txt/", 404, b"<h1>lost</h1>"),
        ("/a.txt/x", 404, b"<h1>lost</h1>"),
        ("/A.TXT", 404, b"<h1>lost</h1>"),
        ("//a.txt", 404, b"<h1>lost</h1>"),
        ("/docs//index.html", 404, b"<h1>lost</h1>"),
        ("/docs%2Findex.html", 404, b"<h1>lost</h1>"),
        ("/.hidden", 404, b"<h1>lost</h1>"),
        ("/.git/config", 404, b"<h1>lost</h1>"),
        ("/%2Egit/config", 404, b"<h1>lost</h1>"),
        ("/only.txt", 404, b"<h1>lost</h1>"),
        ("/" + "x" * 300, 404, b"<h1>lost</h1>"),
        ("/app/", 200, b"<app>"),
        ("/app/main.js", 200, b"main"),
        ("/app/users/5", 200, b"<app>"),
        ("/app/users/", 200, b"<app>"),
        ("/app//users", 200, b"<app>"),
        ("/app/.env", 404, None),
        ("/hello", 200, b"hello\n"),
    ],
)
def test_paths(server: Server, path: str, status: int, body: bytes | None) -> None:
    response = server.get(path)
    assert response.status == status
    if body is not None:
        assert response.body == body


def test_a_directory_without_a_slash_is_redirected(server: Server) -> None:
    for path, location in {
        "/docs": "docs/",
        "/docs?a=b&c": "docs/?a=b&c",
        "/plain": "plain/",
        "/plain/docs": "docs/",
    }.items():
        response = server.get(path)
        assert (response.status, response.header("Location")) == (301, location)


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"]
)
def test_other_methods(server: Server, method: str) -> None:
    response = server.request(method, "/a.txt", body=b"x" * 100_000)
    assert (response.status, response.header("Allow")) == (405, "GET, HEAD")


def test_the_page_for_missing_files(server: Server) -> None:
    response = server.get("/missing", headers=[("Range", "bytes=0-1"), ("If-None-Match", "*")])
    assert (response.status, response.body) == (404, b"<h1>lost</h1>")
    assert response.header("Content-Type") == "text/html; charset=utf-8"
    assert [response.header(name) for name in ("ETag", "Last-Modified", "Cache-Control")] == [
        None
    ] * 3
    assert server.get("/errors/404.html").status == 200
    head = server.request("HEAD", "/missing")
    assert (head.status, head.header("Content-Length"), head.body) == (404, "13", b"")


def test_cache_control(server: Server) -> None:
    def value(path: str) -> str | None:
        return server.get(path).header("Cache-Control")

    assert value("/") == value("/docs/") == value("/docs/index.html") == "no-cache"
    assert value("/assets/site.css") == "public, max-age=31536000, immutable"
    assert value("/a.txt") is None
    etag = server.get("/").header("ETag") or ""
    not_modified = server.get("/", headers=[("If-None-Match", etag)])
    assert (not_modified.status, not_modified.header("Cache-Control")) == (304, "no-cache")


def test_conditions(server: Server) -> None:
    got = server.get("/a.txt")
    etag, modified = got.header("ETag") or "", got.header("Last-Modified") or ""

    def status(*headers: tuple[str, str], method: str = "GET") -> int:
        return server.request(method, "/a.txt", headers).status

    for method in ("GET", "HEAD"):
        assert status(("If-None-Match", etag), method=method) == 304
    assert status(("If-None-Match", '"x"'), ("If-None-Match", f"W/{etag}")) == 304
    assert status(("If-None-Match", '"x"'), ("If-Modified-Since", modified)) == 200
    assert status(("If-Modified-Since", modified)) == 304
    assert status(("If-Match", '"x"')) == 412
    assert status(("If-Match", etag)) == 200
    assert status(("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")) == 412
    assert status(("Range", "bytes=0-0"), ("If-Range", etag)) == 206
    assert status(("Range", "bytes=0-0"), ("If-Range", modified)) == 206
    assert status(("Range", "bytes=0-0"), ("If-Range", '"x"')) == 200
    not_modified = server.get("/a.txt", headers=[("If-None-Match", etag), ("Range", "bytes=0-1")])
    assert not_modified.status == 304
    assert not_modified.body == b""
    assert head_of(not_modified) == {}
    assert not_modified.header("ETag") == etag


def test_ranges(server: Server) -> None:
    def part(value: str, path: str = "/a.txt") -> tuple[int, bytes, str | None]:
        response = server.get(path, headers=[("Range", value)])
        assert response.header("Content-Length") == str(len(response.body))
        return response.status, response.body, response.header("Content-Range")

    assert part("bytes=2-4") == (206, b"234", "bytes 2-4/10")
    assert part("bytes=-3") == (206, b"789", "bytes 7-9/10")
    assert part("bytes=8-") == (206, b"89", "bytes 8-9/10")
    assert part("bytes=0-0,5-6") == (200, b"0123456789", None)
    assert part("bytes=x") == (200, b"0123456789", None)
    assert part("bytes=0-", "/empty.txt") == (200, b"", None)
    assert part("bytes=300000-900000", "/big.bin")[:2] == (206, BIG[300000:900001])
    status, body, content_range = part("bytes=10-")
    assert (status, content_range) == (416, "bytes */10")
    assert b"0123" not in body
    head = server.request("HEAD", "/a.txt", [("Range", "bytes=2-4")])
    assert (head.status, head.header("Content-Length")) == (200, "10")  # RFC 9110 §14.2: GET only


def test_compressed_variants(server: Server) -> None:
    def got(accept: str, *headers: tuple[str, str]) -> Response:
        return server.get("/script.js", headers=[("Accept-Encoding", accept), *headers])

    plain, zipped, brotli = got(""), got("gzip"), got("gzip, br")
    assert (plain.body, gzip.decompress(zipped.body)) == (SCRIPT, SCRIPT)
    assert brotli.body == b"not really brotli"
    codings = [response.header("Content-Encoding") for response in (plain, zipped, brotli)]
    assert codings == [None, "gzip", "br"]
    etags = [response.header("ETag") or "" for response in (plain, zipped, brotli)]
    assert len(set(etags)) == 3
    for response in (plain, zipped, brotli, got("gzip", ("If-None-Match", etags[1]))):
        assert response.header("Vary") == "Accept-Encoding"
    for response in (plain, zipped, brotli):
        assert response.header("Content-Type") == "text/javascript; charset=utf-8"
    assert got("gzip", ("If-None-Match", etags[1])).status == 304
    assert got("gzip", ("If-None-Match", etags[0])).status == 200
    assert got("gzip;q=0.1, identity;q=0.2").header("Content-Encoding") is None
    part = got("gzip", ("Range", "bytes=0-1"))
    assert (part.status, part.body, part.header("Content-Encoding")) == (206, b"\x1f\x8b", "gzip")
    assert server.get("/a.txt").header("Vary") is None
    itself = server.get("/script.js.gz", headers=[("Accept-Encoding", "gzip")])
    assert itself.header("Content-Encoding") is None
    assert itself.header("Content-Type") == "application/gzip"


def test_the_etag_follows_the_content(server: Server, folder: Path) -> None:
    """Even if size and modification time stay the same, as in a reproducible image."""
    path = folder / "public/changing.txt"
    etags = []
    for content in ("one", "two", "one"):
        write_files(folder, {"public/changing.new": content})
        os.utime(folder / "public/changing.new", (1, 1))
        (folder / "public/changing.new").replace(path)
        response = server.get("/changing.txt")
        assert response.text == content
        assert response.header("Last-Modified") is None
        etags.append(response.header("ETag"))
    path.write_text("six")  # in place: the same inode
    os.utime(path, (1, 1))
    etags.append(server.get("/changing.txt").header("ETag"))
    assert (etags[0] == etags[2], len(set(etags))) == (True, 3)


def test_the_etag_of_a_very_large_file_follows(server: Server, folder: Path) -> None:
    """The first response does not wait for it; a condition does."""
    size = 40 * 1024**2
    with (folder / "public/huge.bin").open("wb") as file:
        file.truncate(size)
    assert server.request("HEAD", "/huge.bin").header("ETag") is None
    assert server.get("/huge.bin", headers=[("If-None-Match", '"x"')]).header("ETag") is not None


def test_config_maps(server: Server, folder: Path) -> None:
    """The links of a Kubernetes volume lead through a hidden directory, which is replaced."""
    root = folder / "public/config"
    root.mkdir()
    for version, content in enumerate(("old", "new")):
        write_files(root, {f"..version-{version}/data.txt": content})
        (root / "..data_tmp").symlink_to(f"..version-{version}")
        (root / "..data_tmp").replace(root / "..data")
        with contextlib.suppress(FileExistsError):
            (root / "data.txt").symlink_to("..data/data.txt")
        assert server.get("/config/data.txt").text == content
    for path in ("/config/..data/data.txt", "/config/..version-1/data.txt"):
        assert server.get(path).status == 404


def test_the_directory_may_be_a_link_that_is_switched(tmp_path: Path) -> None:
    write_files(tmp_path, {"releases/1/x.txt": "1", "releases/2/x.txt": "2"})
    (tmp_path / "current").symlink_to("releases/1")
    manifest = '[[module]]\nroute = "/..."\nstatic = "current"\n'
    with serving(tmp_path, manifest) as server:
        assert server.get("/x.txt").text == "1"
        (tmp_path / "next").symlink_to("releases/2")
        (tmp_path / "next").replace(tmp_path / "current")
        assert server.get("/x.txt").text == "2"
        (tmp_path / "current").unlink()
        assert server.get("/x.txt").status == 404


def test_requests_are_logged(server: Server) -> None:
    server.get("/assets/site.css?logged")
    line = server.wait_for_access(r".*GET /assets/site.css\?logged .*")
    assert re.search(r'/assets/site.css\?logged HTTP/1.1" 200 7 .* route="/\.\.\."', line)


def test_one_connection_and_pipelined_requests(server: Server) -> None:
    request = b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n"
    pieces = [request % (path, b"") for path in (b"/a.txt", b"/big.bin", b"/missing", b"/hello")]
    data = server.raw(b"".join([*pieces, request % (b"/docs/", b"Connection: close\r\n")]))
    assert data.count(b"HTTP/1.1 ") == 5
    assert BIG in data
    assert data.endswith(b"docs")


def test_http_1_0(server: Server) -> None:
    data = server.raw(b"GET /a.txt HTTP/1.0\r\n\r\n")
    assert data.startswith(b"HTTP/1.0 200 OK\r\n")
    assert data.endswith(b"\r\n\r\n0123456789")


def test_tls(folder: Path, tmp_path: Path) -> None:
    certificate, key = certificate_of(tmp_path)
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with serving(folder, MANIFEST, *options) as server:
        server.tls = ssl.create_default_context(cafile=str(certificate))
        assert server.get("/big.bin").body == BIG
        assert server.get("/big.bin", headers=[("Range", "bytes=5-9")]).body == BIG[5:10]
        assert server.get("/a.txt").body == b"0123456789"


def test_a_unix_socket(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(folder, MANIFEST, listen=f"unix:{path}"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(client).endswith(BIG)


def test_a_slow_client_gets_everything_and_takes_no_memory(server: Server, folder: Path) -> None:
    size = 64 * 1024**2
    with (folder / "public/slow.bin").open("wb") as file:
        file.truncate(size)
    server.get("/slow.bin", headers=[("Range", "bytes=0-0"), ("If-Range", '"x"')])
    before = server.rss()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(8)]
        for client in clients:
            client.sendall(b"GET /slow.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.recv(1)
        assert server.get("/a.txt").status == 200
        assert server.rss() - before < 16 * 1024**2
        with ThreadPoolExecutor() as pool:
            for received in pool.map(read_all, clients[:2]):
                assert len(received) > size


def test_a_download_ends_before_the_server(folder: Path) -> None:
    with serving(folder, MANIFEST) as server, server.connect() as client:
        size = 16 * 1024**2
        with (folder / "public/drain.bin").open("wb") as file:
            file.truncate(size)
        client.sendall(b"GET /drain.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        received = client.recv(1000)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        received += read_all(client)
        assert len(received.partition(b"\r\n\r\n")[2]) == size
        assert server.process.wait(20) == 0


def test_a_file_that_is_truncated_breaks_the_connection(server: Server, folder: Path) -> None:
    path = folder / "public/shrinking.bin"
    with path.open("wb") as file:
        file.truncate(64 * 1024**2)
    with server.connect() as client:
        client.sendall(b"GET /shrinking.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        received = client.recv(1000)
        path.write_bytes(b"")
        received += read_all(client)
    assert len(received) < 64 * 1024**2
    server.wait_for_log(r"shrinking.bin, static files public: the file was truncated")


def test_an_unreadable_file(tmp_path: Path) -> None:
    # Root may read every file, but for these capabilities.
    without = "--bounding-set=-dac_override,-dac_read_search"
    command = [tool("setpriv"), without] if os.getuid() == 0 else []
    write_files(tmp_path, {"public/secret.txt": "x", "public/ok.txt": "ok"})
    (tmp_path / "public/secret.txt").chmod(0)
    manifest = '[[module]]\nroute = "/..."\nstatic = "public"\n'
    with serving(tmp_path, manifest, command=command) as server:
        assert server.get("/ok.txt").text == "ok"
        assert server.get("/secret.txt").status == 403
        server.wait_for_log(r"cannot read public/secret.txt: Permission denied")


def test_uvloop(folder: Path) -> None:
    pytest.importorskip("uvloop")
    with serving(folder, MANIFEST, "--loop", "uvloop") as server:
        assert server.get("/big.bin").body == BIG
        assert server.get("/a.txt").body == b"0123456789"
