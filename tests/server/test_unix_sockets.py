"""Unix sockets: who may connect, and what happens to files that are in the way."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.users import as_user, require_root
from wagi.config.values import UnixPath
from wagi.errors import ConfigurationError, WagiError
from wagi.server import listeners

pytestmark = pytest.mark.fast
USER, GROUP, WWW_DATA = 64001, 64002, 33


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may search."""
    with tempfile.TemporaryDirectory(prefix="wagi-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def message(address: UnixPath) -> str:
    with pytest.raises(WagiError) as caught, listeners.listen(address, 1):
        pass
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o620, 0o666, 0o777])
@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_the_mode(tmp_path: Path, mode: int, umask: int) -> None:
    """It is exact from the creation on, whatever the umask is, which is restored."""
    before = os.umask(umask)
    try:
        path = tmp_path / "x.sock"
        with listeners.listen(UnixPath(path, mode), 2):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert not path.exists()
    finally:
        assert os.umask(before) == umask


def test_the_group(folder: Path) -> None:
    """Of a user who is a member of it, by number and by name."""
    require_root()
    path = folder / "x.sock"
    folder.chmod(0o777)

    def listen(group: str) -> tuple[int, int, int]:
        with listeners.listen(UnixPath(path, 0o660, group), 1):
            status = path.stat()
            return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)

    assert as_user(USER, (GROUP, WWW_DATA), partial(listen, str(GROUP))) == (USER, GROUP, 0o660)
    www_data = as_user(USER, (WWW_DATA,), partial(listen, "www-data"))
    assert www_data == (USER, WWW_DATA, 0o660)
    with pytest.raises(WagiError, match=r"members of the group .* 'www-data': add .*usermod"):
        as_user(USER, (GROUP,), partial(listen, "www-data"))
    assert not path.exists()


@pytest.mark.parametrize("group", ["no-such-group", "4294967295", "99999999999999999999"])
def test_a_group_that_does_not_exist(tmp_path: Path, group: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        listeners._listen_unix(UnixPath(tmp_path / "x.sock", group=group), "--listen")
    expected = f"--listen: this machine has no group {group!r} (see getent group)"
    assert (str(caught.value), caught.value.exit_status) == (expected, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("precious")
    assert f"{path} exists and is not a socket: remove it, or choose" in message(UnixPath(path))
    assert path.read_text() == "precious"


def test_a_link_to_another_file_stays(tmp_path: Path) -> None:
    """Neither the link nor its target is removed or given away."""
    target, path = tmp_path / "target", tmp_path / "x.sock"
    target.write_text("precious")
    target.chmod(0o600)
    path.symlink_to(target)
    assert "exists and is not a socket" in message(UnixPath(path, 0o666))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert path.is_symlink()


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    text = message(UnixPath(tmp_path / "run/x.sock"))
    assert text.endswith(f"No such file or directory: create the directory {tmp_path}/run")


def test_a_server_whose_queue_is_full_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as stack:
        busy.bind(str(path))
        busy.listen(0)
        for _ in range(10):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(path)) == errno.EAGAIN:
                break
        else:
            pytest.fail("the queue is not full")
        assert "Address already in use" in message(UnixPath(path))
        assert path.is_socket()


def test_of_several_servers_that_find_a_stale_file_one_listens(tmp_path: Path) -> None:
    """The others fail; none of them removes the file of another."""
    path = tmp_path / "x.sock"
    for _ in range(20):
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        start = threading.Barrier(4)
        opened: list[socket.socket] = []

        def listen(start: threading.Barrier, opened: list[socket.socket]) -> None:
            start.wait()
            try:
                opened.append(listeners._listen_unix(UnixPath(path), "--listen"))
            except OSError as error:
                assert error.errno == errno.EADDRINUSE  # noqa: PT017

        threads = [threading.Thread(target=listen, args=(start, opened)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (listener,) = opened
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        listener.close()


def test_a_directory_that_stays_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process cannot stop the start for ever."""
    monkeypatch.setattr(listeners, "_LOCK_TIMEOUT_S", 0.1)
    with listeners._locked(tmp_path):
        text = message(UnixPath(tmp_path / "x.sock"))
    assert text == f"{tmp_path}: another process holds a lock on it"
