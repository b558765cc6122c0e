"""Messages for addresses that cannot be listened on."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from wagi.config.values import HostPort, UnixPath
from wagi.errors import WagiError
from wagi.server import listeners

pytestmark = pytest.mark.fast


def message(address: HostPort | UnixPath, option: str = "--listen") -> str:
    with pytest.raises(WagiError) as caught, listeners.listen(address, 1, option):
        pass
    return str(caught.value)


@pytest.mark.parametrize("option", ["--listen", "--dev-listen"])
def test_a_taken_port_names_the_process_and_the_option(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = message(HostPort("127.0.0.1", port), option)
    name = Path("/proc/self/comm").read_text().strip()
    assert text == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use by process {os.getpid()}"
        f" ({name}): stop process {os.getpid()}, or choose another address with {option}"
    )


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_a_taken_ipv6_port() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        text = message(HostPort("[::1]", taken.getsockname()[1]))
    assert f"Address already in use by process {os.getpid()} (" in text


def test_a_taken_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        text = message(UnixPath(path))
    assert f"Address already in use by process {os.getpid()} (" in text


def test_the_process_may_be_unknown(tmp_path: Path) -> None:
    """For example another user's process, or a system without /proc."""
    assert listeners._holder(HostPort("127.0.0.1", 80), tmp_path) == ""
    (tmp_path / "net").mkdir()
    line = " 0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1"
    (tmp_path / "net/tcp").write_text(f"sl local_address\n{line}\n")
    (tmp_path / "12").mkdir()
    assert listeners._holder(HostPort("127.0.0.1", 80), tmp_path) == ""
    (tmp_path / "12/fd").mkdir()
    (tmp_path / "12/fd/3").symlink_to("socket:[77]")
    (tmp_path / "12/comm").write_text("nginx\n")
    assert listeners._holder(HostPort("127.0.0.1", 80), tmp_path) == "process 12 (nginx)"
    assert listeners._holder(HostPort("127.0.0.1", 81), tmp_path) == ""


@pytest.mark.parametrize(
    ("number", "port", "expected"),
    [
        (errno.EACCES, 80, "CAP_NET_BIND_SERVICE: grant it, or choose a port from 1024 on with"),
        (errno.EACCES, 443, "ports below 1024 require the capability CAP_NET_BIND_SERVICE"),
        (errno.EACCES, 3000, "Permission denied"),
        (errno.EADDRNOTAVAIL, 80, "choose another with --listen"),
    ],
)
def test_hints(monkeypatch: pytest.MonkeyPatch, number: int, port: int, expected: str) -> None:
    def fail(*_args: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(listeners, "_listen_tcp", fail)
    text = message(HostPort("127.0.0.1", port))
    assert expected in text
    assert ("CAP_NET" in text) == (number == errno.EACCES and port < 1024)
