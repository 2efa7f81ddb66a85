"""Chromium, if it is installed, as far as tests need it: over its DevTools, with what it tells.

`apt-get install chromium` installs it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import websocket

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --remote-debugging-port=0 "
    "--remote-allow-origins=* about:blank"
).split()
SECONDS = 60


def program() -> str:
    """The path of Chromium; skips the test where there is none."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    if not any(found):
        pytest.skip("no chromium: pages were not opened in a browser")
    return next(path for path in found if path)


class Browser:
    """One tab.

    Attributes:
        asked: addresses that the page of the last visit asked for.
        said: what it wrote to its console as warnings or errors.
    """

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp()
        command = [program(), *FLAGS, f"--user-data-dir={self.folder}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **quiet)
        self.count = 0
        self.asked: list[str] = []
        self.said: list[str] = []
        self.socket = websocket.create_connection(self._address(), timeout=SECONDS)
        opened = self.send("Target.createTarget", url="about:blank")
        attached = self.send("Target.attachToTarget", targetId=opened["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for part in ("Page", "Network", "Log", "Runtime"):
            self.send(f"{part}.enable")

    session: str | None = None

    def _address(self) -> str:
        """Where the browser listens, which it writes to a file."""
        file = Path(self.folder) / "DevToolsActivePort"
        end = time.monotonic() + SECONDS
        while not (file.exists() and file.read_text().count("\n")):
            assert time.monotonic() < end, "chromium did not start"
            time.sleep(0.05)
        port, path = file.read_text().split()
        return f"ws://127.0.0.1:{port}{path}"

    def send(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Sends a command; returns its result, and remembers what the page does meanwhile."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": arguments}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        return self._until(lambda found: found.get("id") == self.count)["result"]

    def _until(self, wanted: Any) -> dict[str, Any]:
        while True:
            found = json.loads(self.socket.recv())
            self._remember(found.get("method"), found.get("params", {}))
            if wanted(found):
                return found

    def _remember(self, method: str | None, about: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(about["request"]["url"])
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("warning", "error"):
            self.said.append(about["entry"]["text"])
        elif method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and about["type"] in ("warning", "error")
        ):
            self.said.append(json.dumps(about))

    def visit(self, page: Path, width: int) -> None:
        """Opens a file in a window of that width (pixels), and waits until it is there."""
        self.asked, self.said = [], []
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Page.navigate", url=page.as_uri())
        self._until(lambda found: found.get("method") == "Page.loadEventFired")

    def outside(self) -> list[str]:
        """The addresses that it asked for which are no files."""
        return [address for address in self.asked if not re.match(r"file:|data:", address)]

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives on the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def close(self) -> None:
        """Ends the browser."""
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
