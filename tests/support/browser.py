"""A real Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.toolchains import CACHE, missing, tool

_KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " ")}


class Page:
    """A browser page. All methods wait for completion."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse):
        self._loop = loop
        self._socket = socket
        self._last = 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol; return its result."""
        return self._loop.run_until_complete(self._send(method, parameters))

    async def _send(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(timeout=30)).data)
            if message.get("id") == self._last:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def open(self, url: str) -> None:
        self.send("Page.navigate", url=url)
        self.wait("document.readyState == 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Evaluate an expression in the page; if it is a promise, return its result."""
        result = self.send(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 10.0) -> None:
        """Wait until an expression is true."""
        deadline = self._loop.time() + seconds
        while not self.evaluate(condition):
            assert self._loop.time() < deadline, self.evaluate("document.body.innerText")
            self._loop.run_until_complete(asyncio.sleep(0.02))

    def press(self, key: str) -> None:
        """Press and release a key."""
        code, text = _KEYS[key]
        common = {"key": text or key, "code": key, "windowsVirtualKeyCode": code}
        typed = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **typed)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def tab_to(self, condition: str, limit: int = 100) -> None:
        """Press Tab until the focused element ``e`` satisfies an expression."""
        for _ in range(limit):
            self.press("Tab")
            if self.evaluate(f"(e => {condition})(document.activeElement)"):
                return
        raise AssertionError(f"no element with {condition} within {limit} tab stops")

    def prefer(self, scheme: str) -> None:
        """Emulate a preference for the color scheme ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def allow_clipboard(self) -> None:
        """Let pages read and write the clipboard."""
        permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        self.send("Browser.grantPermissions", permissions=permissions)

    def accessibility_problems(self) -> list[str]:
        """Check the current state of the page with all rules of axe-core; return its findings."""
        if not self.evaluate("typeof axe == 'object'"):
            self.evaluate(_axe_core() + "; 0")
        found = self.evaluate(
            "axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(result =>"
            " result.violations.map(rule => rule.id + ': '"
            " + rule.nodes.map(node => node.html + ' ' + node.failureSummary).join('; ')))"
        )
        assert isinstance(found, list)
        return found

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def resize(self, width: int, height: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def screenshot(self, path: Path) -> None:
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


def _axe_core() -> str:
    """Return the script of axe-core, which checks accessibility; npm installs it once."""
    package = Path(__file__).parent / "axe/package.json"
    folder = CACHE / f"axe-{hashlib.sha256(package.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        CACHE.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            shutil.copy(package, scratch)
            command = [tool("npm"), "install", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=scratch, check=True, timeout=600)
            with suppress(OSError):  # another process was faster
                Path(scratch, "node_modules/axe-core").rename(folder)
    return (folder / "axe.min.js").read_text()


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Run Chromium with an empty profile; yield a blank page."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        missing("chromium is not installed")
    process = subprocess.Popen(
        [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    loop = asyncio.new_event_loop()
    try:
        assert process.stderr is not None
        address = ""
        for line in process.stderr:
            if found := re.search(r"DevTools listening on ws://([^/]+)/", line):
                address = found[1]
                break
        assert address, "chromium did not start"
        session, socket = loop.run_until_complete(_connect(address))
        yield Page(loop, socket)
        loop.run_until_complete(session.close())
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        loop.close()


async def _connect(
    address: str,
) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"http://{address}/json/list") as response:
        pages = [page for page in await response.json() if page["type"] == "page"]
    socket = await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
    return session, socket
