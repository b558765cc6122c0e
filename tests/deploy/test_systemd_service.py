"""deploy/systemd under a real systemd, which is PID 1 of a container."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import BUILD_BASE, build, logs, podman, podman_process, running
from tests.support.server import ROOT, write_files
from tests.support.shell import BLOCK
from tests.support.wat import HELLO, TEXT_HEAD, Program

pytestmark = pytest.mark.xdist_group("containers")

PAGE = (ROOT / "docs/operations.md").read_text().partition("## systemd\n")[2].partition("\n## ")[0]
INSTALLED = ("python3 -m venv /opt/wagi", "/opt/wagi/bin/pip install wagi")
"""What the image has already."""
ENVIRONMENT = (ROOT / "examples/wat/environment.wat").read_text()
LOUD = Program().write("a message\n", fd=2).write(TEXT_HEAD + "loud\n").wat()
MANIFEST = "".join(
    f'[[module]]\nroute = "/{name}"\nmodule = "{name}.wasm"\n'
    for name in ("hello", "environment", "loud")
)
FILES: dict[str, str | bytes] = {
    "modules.toml": MANIFEST,
    "hello.wasm": HELLO,
    "environment.wasm": ENVIRONMENT,
    "loud.wasm": LOUD,
}
CONTAINERFILE = f"""
FROM {BUILD_BASE}
COPY --from=%s /opt/wagi /opt/wagi
COPY deploy /srv/source/deploy
COPY modules.toml *.wasm /srv/source/
CMD ["/lib/systemd/systemd"]
"""
CLIENT = """
import socket, sys, threading
results = []
def ask(number):
    for _ in range(number):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            try:
                client.connect("/run/wagi/wagi.sock")
                client.sendall(b"GET /hello HTTP/1.0\\r\\n\\r\\n")
                found = b""
                while piece := client.recv(4096):
                    found += piece
                results.append(found.rpartition(b"\\n\\n")[2].rpartition(b"\\r\\n")[2].decode())
            except OSError as error:
                results.append(str(error))
        if len(results) == 50:
            print("begun", flush=True)
threads = [threading.Thread(target=ask, args=(250,)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(results), set(results))
"""
"""Makes 1,000 requests on connections of their own, four at a time."""


SYSTEMD_OPTIONS = (
    "--systemd=always",
    # What a sandbox needs. With --privileged, systemd would configure this machine as well.
    *("--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
)


class Machine:
    """A container with systemd."""

    def __init__(self, container: str) -> None:
        self.container = container

    def run(self, command: str, status: int = 0) -> str:
        """Run a shell command in the container, and check its exit status."""
        done = podman(
            "exec", self.container, "bash", "-c", f"cd /srv/source; {command}", check=False
        )
        text = done.stdout + done.stderr
        if done.returncode != status:
            journal = ("journalctl", "--no-pager", "-n", "30")
            text += podman("exec", self.container, *journal, check=False).stdout
            raise AssertionError(f"{command}: exit status {done.returncode}\n{text}")
        return text

    def curl(self, path: str) -> str:
        return self.run(f"curl -sS --unix-socket /run/wagi/wagi.sock http://localhost{path}")


@pytest.fixture(scope="module")
def machine(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the commands of the page have been run."""
    folder = tmp_path_factory.mktemp("systemd")
    write_files(folder, FILES | {"Containerfile": CONTAINERFILE % image})
    for path in (ROOT / "deploy/systemd").iterdir():
        write_files(folder, {f"deploy/systemd/{path.name}": path.read_bytes()})
    build(folder, "--tag", "localhost/systemd", ".")
    with running("localhost/systemd", *SYSTEMD_OPTIONS, network="none") as container:
        machine = Machine(container)
        wait_for_systemd(machine)
        # As on a machine of its own: systemd passes credentials on through shared mounts.
        machine.run("mount --make-rshared /")
        for command in commands_of_the_page():
            machine.run(command)
        yield machine


def wait_for_systemd(machine: Machine) -> None:
    deadline = time.monotonic() + 60
    while True:
        done = podman("exec", machine.container, "systemctl", "is-system-running", check=False)
        if done.stdout.strip() in ("running", "degraded"):
            return
        assert time.monotonic() < deadline, done.stdout + done.stderr + logs(machine.container)
        time.sleep(0.2)


def commands_of_the_page() -> list[str]:
    (text,) = (text for language, _, text in BLOCK.findall(PAGE) if language == "console")
    commands = re.findall(r"^# (.*)$", text, re.MULTILINE)
    assert [command for command in commands if command.startswith("curl")] == [commands[-1]]
    return [command for command in commands if command not in INSTALLED]


def test_the_service_of_the_page_serves(machine: Machine) -> None:
    assert machine.curl("/hello") == "hello\n"
    status = machine.run("systemctl status --no-pager wagi")
    assert "Active: active (running)" in status
    assert "serving 3 routes" in status
    assert machine.run("systemctl --failed --no-legend") == ""
    assert "200" in machine.run("curl -sSI http://127.0.0.1:9464/readyz | head -1")


def test_the_sandbox_is_in_effect(machine: Machine) -> None:
    """The service has a user of its own, no capabilities, and system calls are filtered."""
    process = machine.run("cat /proc/$(systemctl show -P MainPID wagi)/status")
    found = dict(re.findall(r"^(\w+):\s+(.*)$", process, re.MULTILINE))
    assert found["Uid"].split()[0] not in ("0", "33")
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == 0
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert machine.run("stat -c '%U:%G %a' /run/wagi/wagi.sock") == "root:www-data 660\n"
    folders = machine.run("stat -c %a /var/{log,cache,lib}/private/wagi").split()
    assert folders == ["700", "700", "700"]
    options = "--reuid=65534 --regid=65534 --clear-groups"
    curl = "curl -sS --unix-socket /run/wagi/wagi.sock http://localhost/hello"
    machine.run(f"setpriv {options} {curl}", status=7)
    assert machine.run(f"setpriv --reuid=65534 --regid=33 --clear-groups {curl}") == "hello\n"


def test_logs_are_in_the_journal_and_in_files(machine: Machine) -> None:
    assert machine.curl("/loud") == "loud\n"
    machine.run(
        "for _ in $(seq 50); do journalctl -u wagi | grep 'a message' && break; sleep 0.1; done"
    )
    assert "a message" in machine.run("cat /var/log/wagi/*/module.stderr")


def test_reload(machine: Machine) -> None:
    """A valid configuration takes effect; an invalid one is reported, and requests go on."""
    machine.run("sed -i 's#/loud#/renamed#' /etc/wagi/modules.toml && systemctl reload wagi")
    retry = "for _ in $(seq 100); do {} && exit; sleep 0.1; done; exit 1"
    curl = "curl -sSf --unix-socket /run/wagi/wagi.sock http://localhost/"
    machine.run(retry.format(f"{curl}renamed 2>/dev/null"))
    machine.run("echo 'modul = 1' >> /etc/wagi/modules.toml && systemctl reload wagi")
    machine.run(retry.format("systemctl status --no-pager wagi | grep 'Status:.*reload failed'"))
    assert machine.curl("/hello") == "hello\n"
    machine.run("cp modules.toml /etc/wagi/ && systemctl reload wagi")
    machine.run(retry.format(f"{curl}loud 2>/dev/null"))


def test_no_request_is_lost_across_restarts(machine: Machine) -> None:
    """1,000 requests during restarts: connections wait in the socket of systemd."""
    command = ["exec", "--interactive", machine.container, "/opt/wagi/bin/python", "-c", CLIENT]
    with podman_process(command) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "begun\n"
        restarts = 0
        while client.poll() is None and restarts < 3:
            machine.run("systemctl restart wagi")
            restarts += 1
        output, _ = client.communicate(timeout=200)
    assert output == "1000 {'hello\\n'}\n"
    assert restarts >= 1
    started = machine.run("journalctl -u wagi --no-pager | grep -c 'Started wagi'")
    assert int(started) >= 1 + restarts


def test_secrets(machine: Machine) -> None:
    """The drop-in of the page: a handler gets a variable of a file that only root can read."""
    ((name, drop_in),) = ((name, text) for language, name, text in BLOCK.findall(PAGE) if name)
    machine.run("umask 077; echo TOKEN=a-secret > /etc/wagi/secrets.env")
    machine.run(f"mkdir -p {Path(name).parent}; printf %s '{drop_in}' > {name}")
    machine.run("systemctl daemon-reload && systemctl restart wagi")
    assert "TOKEN=a-secret\n" in machine.curl("/environment")
    assert "a-secret" not in machine.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_an_invalid_configuration_is_not_restarted(machine: Machine) -> None:
    machine.run("echo 'modul = 1' >> /etc/wagi/modules.toml")
    machine.run("systemctl restart wagi", status=1)
    time.sleep(2)
    shown = machine.run("systemctl show -P NRestarts -P ExecMainStatus -P ActiveState wagi").split()
    assert sorted(shown) == ["0", "2", "failed"]
    machine.run("cp modules.toml /etc/wagi/ && systemctl reset-failed && systemctl restart wagi")
    assert machine.curl("/hello") == "hello\n"
