"""deploy/systemd: the units are valid and strict, and what they set exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.server import ROOT, serving
from tests.support.toolchains import tool
from tests.support.wat import HELLO
from wagi.config.settings import Settings

SYSTEMD = ROOT / "deploy/systemd"
UNIT = (SYSTEMD / "wagi.service").read_text()
SOCKET = (SYSTEMD / "wagi.socket").read_text()
DEFAULTS = (SYSTEMD / "wagi.default").read_text()
COMMAND = "/opt/wagi/bin/wagi"
MAX_EXPOSURE = 1.5


def analyze(folder: Path, *arguments: str) -> str:
    """Run systemd-analyze on copies of the units; its program need not exist for that."""
    assert COMMAND in UNIT
    (folder / "wagi.service").write_text(UNIT.replace(COMMAND, "/bin/true"))
    (folder / "wagi.socket").write_text(SOCKET)
    done = subprocess.run(
        [tool("systemd-analyze"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_the_units_are_valid(tmp_path: Path) -> None:
    assert analyze(tmp_path, "verify", "./wagi.service", "./wagi.socket") == ""


def test_the_sandbox_is_strict(tmp_path: Path) -> None:
    text = analyze(tmp_path, "security", "--offline=true", "./wagi.service")
    (exposure,) = re.findall(r"Overall exposure level for wagi.service: ([\d.]+)", text)
    assert 0 < float(exposure) <= MAX_EXPOSURE


def settings_in(text: str) -> dict[str, str]:
    """The variables that a text sets, also in comments."""
    return dict(re.findall(r"^#?(?:Environment=)?(WAGI_\w+)=(\S+)", text, re.MULTILINE))


@pytest.mark.fast
def test_the_defaults_are_those_of_the_server() -> None:
    """What a comment shows as a default, and what the time limits of the unit rely on."""
    shown = settings_in(DEFAULTS)
    known = {f"WAGI_{name.upper()}" for name in Settings.model_fields}
    in_unit = set(re.findall(r"\b(WAGI_\w+)", UNIT))
    assert in_unit | shown.keys() <= known
    defaults = Settings()
    drain = defaults.shutdown_timeout + defaults.shutdown_delay
    assert float(shown["WAGI_SHUTDOWN_TIMEOUT"]) == defaults.shutdown_timeout
    assert float(shown["WAGI_SHUTDOWN_DELAY"]) == defaults.shutdown_delay
    (stop_timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(stop_timeout) >= drain + 5
    admin = settings_in(UNIT)["WAGI_ADMIN_LISTEN"]
    assert admin == shown["WAGI_ADMIN_LISTEN"]
    assert f'targets: ["{admin}"]' in (ROOT / "deploy/monitoring/prometheus.yml").read_text()


def test_a_server_accepts_all_settings(tmp_path: Path) -> None:
    """Those of the example of /etc/default/wagi, with all comments removed."""
    environment = settings_in(DEFAULTS) | {"WAGI_ADMIN_LISTEN": "127.0.0.1:0"}
    manifest = '[[module]]\nroute = "/hello"\nmodule = "hello.wat"\n'
    modules = {"hello.wat": HELLO}
    with serving(tmp_path, manifest, modules=modules, environment=environment) as server:
        assert server.get("/hello").text == "hello\n"
        assert len(server.workers) >= int(environment["WAGI_WORKERS"])


@pytest.mark.fast
def test_a_restart_does_not_remove_the_socket() -> None:
    """systemd removes the RuntimeDirectory of a service that stops, with all files in it."""
    assert "ListenStream=/run/wagi/wagi.sock\n" in SOCKET
    assert "RuntimeDirectory=" not in UNIT
