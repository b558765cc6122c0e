"""docs/nginx.md, followed by root on a copy of this machine."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.machine import install, run_on_copy
from tests.support.server import ROOT
from tests.support.shell import BLOCK

PAGE = (ROOT / "docs/nginx.md").read_text()
COMMAND = re.compile(r"^# ((?:.*\\\n)*.*)\n((?:[^#].*\n)*)", re.MULTILINE)
INSTALLED = ("apt-get install -y ", "python3 -m venv /opt/wagi", "/opt/wagi/bin/pip install wagi")
"""What is installed already: the packages by continuous integration, wagi as this checkout."""


def test_the_site_of_the_page_is_the_example() -> None:
    (site,) = (text for _, name, text in BLOCK.findall(PAGE) if name.startswith("/etc/nginx/"))
    assert site == (ROOT / "deploy/proxies/nginx.conf").read_text()


def test_every_step_works(tmp_path: Path) -> None:
    """The files and commands of the page in their order, then what other users can do."""
    # For a pipe, curl would print its progress as well.
    lines = [install(), "echo silent > /srv/.curlrc; export CURL_HOME=/srv"]
    outputs = []
    for number, (language, name, text) in enumerate(BLOCK.findall(PAGE)):
        if name:
            file = tmp_path / str(number)
            file.write_text(text)
            lines.append(f"mkdir -p {Path(name).parent} && cp {file} {name} && chmod 644 {name}")
        elif language == "console":
            for command, output in COMMAND.findall(text):
                if not command.startswith(INSTALLED):
                    lines.append(f"echo '# {command}'; {command}")
                    outputs.append((command, output))
    lines += [
        "stat -c 'socket: %U:%G %a' /run/wagi/wagi.sock",
        "setpriv --reuid=65534 --regid=65534 --clear-groups"
        " curl -sS --unix-socket /run/wagi/wagi.sock http://localhost/hello || echo refused: $?",
        """sed -i 's/Hello, world/Hallo, Welt!/' /srv/wagi/hello.wat""",
        "systemctl reload wagi",
        "for _ in $(seq 100); do curl -sSk https://localhost/hello | grep Hallo && break;"
        " sleep 0.1; done",
        "curl -sSI http://localhost/hello?a=b",
        "ps -o user= -C nginx | sort -u",
    ]
    found = run_on_copy(tmp_path, "\n".join(lines))
    for command, output in outputs:
        if output:
            assert f"# {command}\n{output}" in found
    assert [output for _, output in outputs if output] == ["Hello, world!\n"]
    assert "socket: wagi:www-data 660\n" in found
    assert "refused: 7\n" in found
    assert "Hallo, Welt!" in found
    assert "\nLocation: https://localhost/hello?a=b" in found.replace("\r", "")
    assert found.endswith("root\nwww-data\n")
