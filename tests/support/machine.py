"""A copy of this machine, in namespaces of its own, that a test may change as root.

The copy shares /usr with the machine. Its /etc and the folders of nginx are copies, the other
folders that a test changes are empty, it has a network of its own, and its processes end with it.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.server import ENVIRONMENT, ROOT
from tests.support.toolchains import missing, tool
from tests.support.users import require_root

_EMPTY = ("/run", "/srv", "/opt", "/var/cache", "/var/www")
_COPIED = ("/etc", "/var/lib/nginx", "/var/log")
_SYSTEMCTL = Path(__file__).with_name("systemctl.py")


def run_on_copy(folder: Path, script: str) -> str:
    """Run a shell script as root on a copy of this machine.

    ``systemctl`` is a small one of ours, because systemd does not run there: it starts services as
    their unit files describe.

    Args:
        folder: A folder for the copy.
        script: The script, which is stopped by the first command that fails.

    Returns:
        What it printed.
    """
    require_root()
    for name in ("unshare", "setpriv", "ip", "nginx", "curl", "openssl", "systemd-analyze"):
        tool(name)
    path = folder / "script.sh"
    path.write_text("\n".join([*_preparations(), "exec 2>&1", script]))
    namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*namespaces, "true"], capture_output=True, check=False).returncode != 0:
        missing("this container may not create namespaces: run it with more capabilities")
    done = subprocess.run(
        [*namespaces, "bash", "-eu", str(path)],
        env=ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _preparations() -> list[str]:
    lines = ["mount --make-rprivate /", "mount -t proc proc /proc", "ip link set lo up"]
    for number, name in enumerate(_COPIED):
        place = f"/mnt/{number}"
        lines += [
            *("mount -t tmpfs tmpfs /mnt", f"mkdir {place}", f"cp -a {name}/. {place}"),
            f"mount --bind {place} {name}",
        ]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {name}" for name in _EMPTY if Path(name).exists()]
    # Other users have to reach Python and this checkout, which may be in a private folder of root.
    needed = {Path(sys.base_prefix), Path(sys.prefix), ROOT}
    private = sorted(path for path in needed if path.is_relative_to("/root"))
    if private:
        lines.append("mount -t tmpfs tmpfs /mnt")
        for number, path in enumerate(private):
            lines.append(f"mkdir /mnt/{number} && mount --bind {path} /mnt/{number}")
        lines.append("mount -t tmpfs -o mode=755 tmpfs /root")
        for number, path in enumerate(private):
            lines.append(f"mkdir -p {path} && mount --bind /mnt/{number} {path}")
    command = f'{shlex.quote(sys.executable)} {shlex.quote(str(_SYSTEMCTL))} "$@"'
    return [*lines, f"systemctl() {{ {command}; }}"]


def install() -> str:
    """Commands that install this checkout as /opt/wagi/bin/wagi, which every user can run."""
    wrapper = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m wagi "$@"\n'
    return (
        "mkdir -p /opt/wagi/bin\n"
        f"printf %s {shlex.quote(wrapper)} > /opt/wagi/bin/wagi\nchmod 755 /opt/wagi/bin/wagi"
    )
