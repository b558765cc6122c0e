"""The cache of compiled modules, in a directory that only its owner can write to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.server import ENVIRONMENT, WAGI, run_wagi, serving, write_files
from tests.support.users import require_root
from tests.support.wat import HELLO, TEXT_HEAD, printing
from wagi.errors import WagiError
from wagi.guest.artefacts import Artefacts
from wagi.guest.capi.engine import Memory
from wagi.guest.engine import DEFAULT_MEMORY
from wagi.guest.targets import Target, this_processor

MANIFEST = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
TEN = "".join(f'[[module]]\nroute = "/hello/{i}"\nmodule = "hello.wat"\n' for i in range(10))
MODULES = {"hello.wat": HELLO}
LARGE = '[[module]]\nroute = "/large"\nmodule = "hello.wat"\nmemory_limit = "512MiB"\n'
"""A module whose guests do not fit in the pool, which is compiled for another engine."""


def artefacts(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and size of each file."""
    return {p.name: (p.stat().st_ino, p.stat().st_size) for p in folder.iterdir()}


def test_compiled_modules_are_reused(tmp_path: Path) -> None:
    """The same bytes in ten routes are one artefact, which the next start uses."""
    folder = tmp_path / "artefacts"
    options = ("--artefact-cache", str(folder))
    with serving(tmp_path, TEN, *options, modules=MODULES) as server:
        assert server.get("/hello/9").text == "hello\n"
    kept = artefacts(folder)
    assert len(kept) == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    with serving(tmp_path, TEN, *options, modules=MODULES) as server:
        assert server.get("/hello/9").text == "hello\n"
    assert artefacts(folder) == kept
    # Other bytes are another artefact.
    other = {"hello.wat": printing(TEXT_HEAD + "other\n")}
    with serving(tmp_path, TEN, *options, modules=other) as server:
        assert server.get("/hello/9").text == "other\n"
    assert len(artefacts(folder)) == 2


@pytest.mark.parametrize("damage", [b"", b"\x7fELF", b"no code at all" * 1000])
def test_a_damaged_artefact_is_compiled_again(tmp_path: Path, damage: bytes) -> None:
    options = ("--artefact-cache", str(tmp_path / "artefacts"))
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    assert run_wagi(tmp_path, "compile", *options).returncode == 0
    (path,) = (tmp_path / "artefacts").iterdir()
    whole = path.stat().st_size
    path.write_bytes(damage)
    with serving(tmp_path, MANIFEST, *options) as server:
        assert server.get("/hello").text == "hello\n"
    assert path.stat().st_size == whole


def test_compile_fills_the_cache(tmp_path: Path) -> None:
    """For an image, in which the folder may be read-only or owned by another trusted user."""
    folder = tmp_path / "artefacts"
    options = ("--artefact-cache", str(folder))
    write_files(tmp_path, {**MODULES, "modules.toml": TEN})
    done = run_wagi(tmp_path, "compile", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"modules.toml: 10 routes, 1 compiled modules in {folder}, ")
    kept = artefacts(folder)
    folder.chmod(0o555)
    try:
        with serving(tmp_path, TEN, *options) as server:
            assert server.get("/hello/3").text == "hello\n"
    finally:
        folder.chmod(0o700)
    assert artefacts(folder) == kept


# With a pool, a guest that does not fit into its memory slots needs different code.
LARGE_AND_SMALL = 2 if DEFAULT_MEMORY is Memory.POOL else 1
PORTABLE = [target for target in this_processor().targets if target is not Target.NATIVE]


@pytest.mark.parametrize("target", PORTABLE)
def test_an_image_with_portable_code_serves_without_compiling(
    tmp_path: Path, target: Target
) -> None:
    """Only the folder is from another machine: it contains no native code."""
    folder, temporary = tmp_path / "artefacts", tmp_path / "tmp"
    temporary.mkdir()
    options = ("--artefact-cache", str(folder))
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST + LARGE})
    done = run_wagi(tmp_path, "compile", "--target", target, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"modules.toml: 2 routes, {LARGE_AND_SMALL} compiled modules for {target} in {folder}, "
    )
    kept = artefacts(folder)
    assert len(kept) == LARGE_AND_SMALL
    folder.chmod(0o555)
    try:
        environment = {
            "TMPDIR": str(temporary)
        }  # the spare folder, for code that cannot be written to the first one
        with serving(tmp_path, None, *options, environment=environment) as server:
            assert server.get("/hello").text == "hello\n"
            assert server.get("/large").text == "hello\n"
            assert list(temporary.rglob("*.cwasm")) == []
    finally:
        folder.chmod(0o700)
    assert artefacts(folder) == kept


@pytest.mark.skipif(not PORTABLE, reason="this processor runs native code only")
def test_portable_code_is_added_to_native_code(tmp_path: Path) -> None:
    """`wagi compile` on a machine that has served adds portable code, once."""
    options = ("--artefact-cache", str(tmp_path / "artefacts"))
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    assert run_wagi(tmp_path, "compile", *options).returncode == 0
    native = artefacts(tmp_path / "artefacts")
    for number, target in enumerate(PORTABLE, 2):
        for _ in range(2):
            assert run_wagi(tmp_path, "compile", "--target", target, *options).returncode == 0
            kept = artefacts(tmp_path / "artefacts")
            assert len(kept) == number
    assert native.items() <= kept.items()
    # Native code exists: nothing else is used, and nothing is added.
    with serving(tmp_path, None, *options) as server:
        assert server.get("/hello").text == "hello\n"
    assert artefacts(tmp_path / "artefacts") == kept


@pytest.mark.skipif(not PORTABLE, reason="this processor runs native code only")
def test_damaged_portable_code_is_replaced_by_native_code(tmp_path: Path) -> None:
    options = ("--artefact-cache", str(tmp_path / "artefacts"))
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    assert run_wagi(tmp_path, "compile", "--target", PORTABLE[-1], *options).returncode == 0
    (path,) = (tmp_path / "artefacts").iterdir()
    path.write_bytes(b"no code at all")
    with serving(tmp_path, None, *options) as server:
        assert server.get("/hello").text == "hello\n"
    assert len(artefacts(tmp_path / "artefacts")) == 2


def test_an_unknown_target(tmp_path: Path) -> None:
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    done = run_wagi(tmp_path, "compile", "--target", "x86-64-v9")
    assert done.returncode == 2
    assert "'--target': 'x86-64-v9' is not one of 'native', 'x86-64-v2', 'x86-64-v3'" in done.stderr


AS_ON_ARM = """
import platform, wasmtime
platform.machine = lambda: "aarch64"
from wagi.cli import main
main()
"""


def test_a_target_of_another_architecture(tmp_path: Path) -> None:
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    options = ("--target", "x86-64-v2", "--artefact-cache", str(tmp_path / "artefacts"))
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_ARM, "compile", *options],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "--target x86-64-v2 cannot be compiled here: it requires Linux on x86_64" in done.stderr
    assert done.stderr.endswith("on aarch64; expected native\n")
    assert not (tmp_path / "artefacts").exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_in_a_folder_that_others_can_write_to_a_private_one_is_used(
    tmp_path: Path, mode: int
) -> None:
    """For example in an emptyDir volume of Kubernetes."""
    folder = tmp_path / "artefacts"
    folder.mkdir()
    folder.chmod(mode)
    own = folder / f"wagi-{os.geteuid()}"
    options = ("--artefact-cache", str(folder))
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    done = run_wagi(tmp_path, "compile", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"modules.toml: 1 route, 1 compiled modules in {own}, ")
    kept = artefacts(own)
    assert len(kept) == 1
    assert own.stat().st_mode & 0o777 == 0o700
    with serving(tmp_path, None, *options) as server:
        assert server.get("/hello").text == "hello\n"
        assert f"other users can write to {folder}: compiled modules are in {own}" in server.log
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("reloaded")
    assert artefacts(own) == kept


@pytest.mark.parametrize("kind", ["open", "link", "file", "foreign"])
def test_a_private_folder_that_is_not_private_is_rejected(tmp_path: Path, kind: str) -> None:
    """Another user may have created it, to have their own code executed."""
    folder = tmp_path / "artefacts"
    folder.mkdir()
    folder.chmod(0o777)
    own = folder / f"wagi-{os.geteuid()}"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        own.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        own.write_text("")
    else:
        own.mkdir()
        own.chmod(0o770 if kind == "open" else 0o700)
    if kind == "foreign":
        require_root()
        os.chown(own, 64001, 64001)
    write_files(tmp_path, {**MODULES, "modules.toml": MANIFEST})
    done = run_wagi(tmp_path, "serve", "--artefact-cache", str(folder))
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: --artefact-cache {folder}: other users can write to this"
    )
    assert f"and {own} cannot be used (" in done.stderr or f"and to {own}: " in done.stderr
    assert "chmod 700" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_private_folder_that_is_replaced_is_not_read(tmp_path: Path) -> None:
    """Others can rename a folder if they can write to its parent."""
    folder = tmp_path / "artefacts"
    folder.mkdir()
    folder.chmod(0o777)
    store = Artefacts(folder, 1000)
    store.add("key", b"ours")
    store.name.rename(folder / "away")
    store.name.mkdir()
    (store.name / "key.cwasm").write_bytes(b"theirs")
    found = store.find("key")
    assert found is not None
    assert found.read_bytes() == b"ours"


def test_without_a_home_directory(tmp_path: Path) -> None:
    """Compiled modules are temporary; a warning has the reason."""
    (tmp_path / "file").write_text("")
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file"), "WAGI_ARTEFACT_CACHE": ""}
    with serving(tmp_path, MANIFEST, modules=MODULES, environment=environment) as server:
        assert server.get("/hello").text == "hello\n"
        assert "compiled modules will not be cached" in server.log
        assert str(tmp_path / "file" / "wagi") in server.log


def test_the_cache_directory_of_the_user(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "WAGI_ARTEFACT_CACHE": ""}
    with serving(tmp_path, MANIFEST, modules=MODULES, environment=environment):
        assert len(artefacts(tmp_path / "cache" / "wagi" / "artefacts")) == 1


def test_concurrent_starts_on_an_empty_cache(tmp_path: Path) -> None:
    """With twenty modules and several processes, all start, and the files are intact."""
    modules: dict[str, str | bytes] = {
        f"m{i}.wat": printing(TEXT_HEAD + f"module {i}\n") for i in range(20)
    }
    manifest = "".join(f'[[module]]\nroute = "/{i}"\nmodule = "m{i}.wat"\n' for i in range(20))
    write_files(tmp_path, {**modules, "modules.toml": manifest})
    command = [*WAGI, "compile", "--artefact-cache", str(tmp_path / "artefacts")]
    started = [
        subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert [process.wait(60) for process in started] == [0, 0, 0, 0]
    kept = artefacts(tmp_path / "artefacts")
    assert len(kept) == 20
    assert all(name.endswith(".cwasm") for name in kept)
    options = ("--artefact-cache", str(tmp_path / "artefacts"))
    with serving(tmp_path, manifest, *options) as server:
        assert server.get("/17").text == "module 17\n"
    assert artefacts(tmp_path / "artefacts") == kept


def test_the_cache_size_is_limited(tmp_path: Path) -> None:
    """The least recently used artefacts are evicted, but never a new one."""
    store = Artefacts(tmp_path / "artefacts", 1000)
    for number in range(4):
        path = store.add(f"key{number}", bytes(300))
        os.utime(path, (number, number))
    assert store.find("key0") is None
    assert store.find("key1") is not None  # now the most recently used one
    store.add("key4", bytes(300))
    assert [store.find(f"key{n}") is not None for n in range(5)] == [0, 1, 0, 1, 1]
    store.add("large", bytes(2000))
    assert [p.stem for p in (tmp_path / "artefacts").iterdir()] == ["large"]


def test_the_spare_folder_is_used_if_the_first_is_unwritable(tmp_path: Path) -> None:
    """Artefacts are found there and in the first folder."""
    spare = tmp_path / "spare"
    spare.mkdir()
    store = Artefacts(tmp_path / "artefacts", 1000, spare)
    store.add("kept", b"code")
    (tmp_path / "artefacts").rename(tmp_path / "elsewhere")
    assert store.add("key", b"code") == spare / "key.cwasm"
    assert store.find("key") == spare / "key.cwasm"
    (tmp_path / "elsewhere").rename(tmp_path / "artefacts")
    assert store.find("kept") == tmp_path / "artefacts" / "kept.cwasm"
    assert [path.name for path in spare.iterdir()] == ["key.cwasm"]


def test_partial_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    store = Artefacts(tmp_path / "artefacts", 1000)
    old, new = tmp_path / "artefacts" / "old.partial", tmp_path / "artefacts" / "new.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.add("key", b"code")
    assert not old.exists()
    assert new.exists()


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WagiError, match=r"File exists|not a folder"):
        Artefacts(tmp_path / "file", 1000)


def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """It counts the compiled modules; output to a pipe has no progress."""
    modules: dict[str, str | bytes] = {
        f"m{i}.wat": printing(TEXT_HEAD + f"module {i}\n") for i in range(5)
    }
    manifest = "".join(f'[[module]]\nroute = "/{i}"\nmodule = "m{i}.wat"\n' for i in range(5))
    write_files(tmp_path, {**modules, "modules.toml": manifest})
    command = [*WAGI, "compile", "--artefact-cache", str(tmp_path / "artefacts")]
    leader, follower = os.openpty()
    seen = b""

    def read() -> None:
        nonlocal seen
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                return
            if not piece:
                return
            seen += piece

    reader = threading.Thread(target=read)
    reader.start()
    subprocess.run(
        command,
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=follower,
        check=True,
    )
    os.close(follower)
    reader.join(10)
    os.close(leader)
    assert b"Compiling modules: 0 of 5" in seen
    assert b"Compiling modules: 0 of 5" in seen
    done = run_wagi(tmp_path, "compile", "--artefact-cache", str(tmp_path / "other"))
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_do_not_leave_processes(tmp_path: Path) -> None:
    """After a configuration error, all processes end, including the loader."""
    write_files(tmp_path, {"modules.toml": "nonsense"})
    done = subprocess.run(
        [sys.executable, "-m", "wagi", "serve", "-l", "127.0.0.1:0"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: modules.toml:1: not valid TOML")
