"""In a container: a user without a name or home, volumes of others, probes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.machine import install, run_on_copy
from tests.support.server import run_wagi, serving, write_files
from tests.support.wat import HELLO
from wagi.errors import WagiError
from wagi.storage import user_cache

MANIFEST = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
MODULES: dict[str, str | bytes] = {"hello.wat": HELLO, "modules.toml": MANIFEST}
USER = "env -i PATH=$PATH setpriv --reuid=64005 --regid=64005 --clear-groups"
SERVE = "/opt/wagi/bin/wagi serve --listen 127.0.0.1:3000 --workers 1"
GET = "curl -sS --retry 30 --retry-delay 1 --retry-connrefused http://127.0.0.1:3000/hello"


@pytest.mark.fast
def test_a_user_without_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def fail(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", fail)
    with pytest.raises(WagiError, match="no home directory: set HOME or XDG_CACHE_HOME"):
        user_cache("artefacts")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert user_cache("artefacts") == Path("/cache/wagi/artefacts")


def test_a_user_without_a_name(tmp_path: Path) -> None:
    """As OpenShift and runAsUser select it; the caches are temporary or in an emptyDir volume."""
    write_files(tmp_path, MODULES)
    script = f"""
        {install()}
        mkdir /srv/app /srv/cache
        cp {tmp_path}/hello.wat {tmp_path}/modules.toml /srv/app
        chmod 777 /srv/cache
        cd /srv/app
        {USER} {SERVE} > /srv/log 2>&1 &
        {GET} 2>/dev/null || cat /srv/log
        kill $! && wait $!
        echo '# no home' && cat /srv/log
        {USER} {SERVE} --artefact-cache /srv/cache > /srv/log 2>&1 &
        {GET} 2>/dev/null || cat /srv/log
        kill $! && wait $!
        echo '# emptyDir' && cat /srv/log
        stat -c '%n %u %a' /srv/cache/*
        {USER} /opt/wagi/bin/wagi compile || echo status $?
        {USER} /opt/wagi/bin/wagi check
        {USER} /opt/wagi/bin/wagi pull oci://127.0.0.1:9/x:1 || echo status $?
    """
    found = run_on_copy(tmp_path, script)
    assert "Traceback" not in found
    no_home, _, rest = found.partition("# emptyDir")
    assert no_home.startswith("hello\nhello\n# no home") or no_home.startswith("hello\n# no home")
    reason = "the user has no home directory: set HOME or XDG_CACHE_HOME"
    assert f"compiled modules will not be cached: {reason}" in no_home
    assert "/srv/cache/wagi-64005 64005 700\n" in rest
    assert f"error: {reason}\nstatus 1\n" in rest
    assert "modules.toml: 1 route, no problems\n" in rest
    assert rest.endswith("status 1\n")


def test_probes_are_not_in_the_access_log(tmp_path: Path) -> None:
    with serving(tmp_path, None, modules=MODULES) as server:
        for _ in range(3):
            assert server.get("/healthz").text == "OK"
        assert server.get("/hello").status == 200
        assert server.get("/healthz?verbose").text == "OK"
        assert server.stop(signal.SIGTERM) == 0
        assert len(server.access_log) == 1
        assert '"GET /hello HTTP/1.1" 200' in server.access_log[0]


def test_compile_needs_a_place_that_lasts(tmp_path: Path) -> None:
    write_files(tmp_path, {**MODULES, "file": ""})
    environment = {"WAGI_ARTEFACT_CACHE": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run_wagi(tmp_path, "compile", environment=environment)
    assert done.returncode == 0, done.stderr
    assert f"compiled modules in {tmp_path}/cache/wagi/artefacts, " in done.stdout
