"""A real Apache httpd with mod_cgi."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.nginx import free_port
from tests.support.toolchains import missing, tool

MODULES = Path("/usr/lib/apache2/modules")
_CONFIG = """
ServerRoot "{folder}"
DefaultRuntimeDir "{folder}"
PidFile httpd.pid
ErrorLog error.log
ServerName localhost
Listen 127.0.0.1:{port}
LoadModule mpm_prefork_module "{modules}/mod_mpm_prefork.so"
LoadModule authz_core_module "{modules}/mod_authz_core.so"
LoadModule alias_module "{modules}/mod_alias.so"
LoadModule cgi_module "{modules}/mod_cgi.so"
StartServers 8
MaxRequestWorkers 64
KeepAliveTimeout 60
ScriptAliasMatch "^" "{folder}/script"
"""


@contextmanager
def apache(script: str) -> Iterator[int]:
    """Run Apache httpd as a user without privileges.

    Args:
        script: A shell script that answers every request as a CGI program.

    Yields:
        The port on 127.0.0.1.
    """
    program = tool("apache2")
    if not (MODULES / "mod_cgi.so").exists():
        missing(f"{MODULES}/mod_cgi.so does not exist: install the Debian package apache2-bin")
    port = free_port()
    # Not in pytest's folder, which other users cannot access.
    with tempfile.TemporaryDirectory(prefix="wagi-apache-") as name:
        folder = Path(name)
        (folder / "script").write_text(f"#!/bin/sh\n{script}")
        (folder / "script").chmod(0o755)
        config = folder / "httpd.conf"
        config.write_text(_CONFIG.format(folder=folder, port=port, modules=MODULES))
        user: dict[str, Any] = {}
        if os.getuid() == 0:  # httpd refuses to run as root
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            shutil.chown(folder, nobody.pw_uid, nobody.pw_gid)
        process = subprocess.Popen(
            [program, "-f", str(config), "-D", "FOREGROUND"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **user,
        )
        try:
            _wait_for(port, process, folder / "error.log")
            yield port
        finally:
            process.terminate()
            process.communicate(timeout=10)


def _wait_for(port: int, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                _, message = process.communicate()
                raise AssertionError(message + (log.read_text() if log.exists() else "")) from None
            assert time.monotonic() < deadline, "httpd does not accept connections"
            time.sleep(0.05)
        else:
            return
