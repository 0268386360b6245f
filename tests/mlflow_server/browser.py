"""One headless Chromium, driven by its own DevTools protocol: go to a page, wait for what it draws, read it."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
import urllib.request
from json import loads
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests import needs

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--window-size=1600,1200", "--remote-debugging-port=0"),
)


class Browser:
    """A page of a browser with a fresh profile in `folder`; from one thread, within a `with`."""

    def __init__(self, folder: Path) -> None:
        self._command = [needs.program("chromium"), *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._port_file = folder / "profile" / "DevToolsActivePort"
        self._loop = asyncio.new_event_loop()
        self._number = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 300
        while not self._port_file.exists() or "\n" not in self._port_file.read_text():
            assert self._process.poll() is None and time.monotonic() < end, "chromium did not start"
            time.sleep(0.1)
        port = self._port_file.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            pages = [page for page in loads(answer.read()) if page["type"] == "page"]
        self._loop.run_until_complete(self._connect(pages[0]["webSocketDebuggerUrl"]))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._session.close())
        self._loop.close()
        self._process.terminate()
        self._process.wait(30)

    def visit(self, url: str, until: str, timeout_s: float = 300) -> str:
        """Go to `url`, wait until the JavaScript `until` holds, and give the text that a reader then sees."""
        self._call("Page.navigate", url="about:blank")  # a change of the part after # alone would load nothing
        self._call("Page.navigate", url=url)
        return self.wait(until, timeout_s)

    def wait(self, until: str, timeout_s: float = 300) -> str:
        """Wait until the JavaScript `until` holds; the text that a reader then sees."""
        end = time.monotonic() + timeout_s
        while not self.evaluate(f"Boolean({until})"):
            assert time.monotonic() < end, f"not within {timeout_s:g} s: {until}\n{self.text()[:3000]}"
            time.sleep(0.2)
        return self.text()

    def write(self, field: str, text: str, *, and_enter: bool = False) -> None:
        """Click into the element that the JavaScript `field` gives, write, and press Enter if asked."""
        x, y = self.evaluate(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])({field}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self._call("Input.insertText", text=text)
        if and_enter:
            enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            self._call("Input.dispatchKeyEvent", type="keyDown", **enter)
            self._call("Input.dispatchKeyEvent", type="keyUp", **enter)

    def text(self) -> str:
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page; None where it raised."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **params: Any) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(self._ask(method, params), 60))

    async def _connect(self, address: str) -> None:
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(address, max_msg_size=0)

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
