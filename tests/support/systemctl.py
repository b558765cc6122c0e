"""A systemctl for a machine without systemd: starts a service as its unit file describes it.

python systemctl.py start|restart|reload|enable|daemon-reload [--now] [SERVICE]
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

START_TIMEOUT_S = 60.0
FOLDERS = {"RuntimeDirectory": "/run", "CacheDirectory": "/var/cache", "LogsDirectory": "/var/log"}


def main(action: str, *arguments: str) -> None:
    """Carry out a command."""
    names = [name for name in arguments if not name.startswith("-")]
    if action == "daemon-reload" or (action == "enable" and "--now" not in arguments):
        return
    if names == ["nginx"]:
        subprocess.run(["nginx"], check=True)
        return
    (name,) = names
    pid_file = Path(f"/run/{name}.test-pid")
    if action in ("enable", "start", "restart"):
        pid_file.write_text(str(start(read_unit(name))))
    elif action == "reload":
        (command,) = read_unit(name)["ExecReload"]
        subprocess.run(shlex.split(command.replace("$MAINPID", pid_file.read_text())), check=True)
    else:
        sys.exit(f"unknown command {action}")


def read_unit(name: str) -> dict[str, list[str]]:
    """Read a unit file: the values of each key, after systemd has checked them."""
    path = Path(f"/etc/systemd/system/{name}.service")
    subprocess.run(["systemd-analyze", "verify", str(path)], check=True)
    text = path.read_text().replace("\\\n", " ")
    unit = defaultdict(list)
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.M):
        unit[key].append(value)
    return unit


def start(unit: dict[str, list[str]]) -> int:
    """Start the service of a unit, and wait until it is ready.

    Returns:
        Its process ID.
    """
    (user,) = unit["User"]
    for key, base in FOLDERS.items():
        for name in unit[key]:
            path = Path(base) / name
            path.mkdir(mode=0o755)
            subprocess.run(["chown", f"{user}:{user}", str(path)], check=True)
    groups = ",".join([user, *unit["SupplementaryGroups"]])
    credentials = [f"--reuid={user}", f"--regid={user}", f"--groups={groups}"]
    address = "/run/test-notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(address)
        Path(address).chmod(0o666)
        environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": address}
        environment |= dict(pair.split("=", 1) for pair in unit["Environment"])
        (command,) = unit["ExecStart"]
        process = subprocess.Popen(
            ["setpriv", *credentials, *shlex.split(command)], env=environment, cwd="/"
        )
        if unit["Type"] == ["notify"]:
            notifications.settimeout(START_TIMEOUT_S)
            while b"READY=1" not in notifications.recv(4096).split(b"\n"):
                pass
        else:
            time.sleep(1)
    assert process.poll() is None, "the service has exited"
    return process.pid


main(*sys.argv[1:])
