"""A headless Chromium, spoken to over its debugging pipe: real mouse, wheel, touch and keys."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
    "--window-size=1000,1400",
]


class Browser:
    """``with Browser(profile) as browser``: one page, its errors and requests collected."""

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._count = 0
        self._left = b""

    def __enter__(self) -> "Browser":
        inward, self._to = os.pipe()
        self._from, outward = os.pipe()
        shell = f'exec "$0" "$@" 3<&{inward} 4>&{outward}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, CHROMIUM, *FLAGS, f"--user-data-dir={self.profile}"],
            pass_fds=(inward, outward),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(inward)
        os.close(outward)
        self._session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError):
            os.close(self._to)
            os.close(self._from)
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, method: str, **parameters: Any) -> dict:
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self) -> dict:
        while b"\0" not in self._left:
            more = os.read(self._from, 1 << 20)
            if not more:
                raise RuntimeError("the browser ended")
            self._left += more
        one, self._left = self._left.split(b"\0", 1)
        message = json.loads(one)
        event, about = message.get("method"), message.get("params", {})
        if event == "Runtime.exceptionThrown":
            self.errors.append(about["exceptionDetails"]["exception"].get("description", ""))
        elif event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        return message

    def open(self, page: Path, ready: str) -> None:
        """Load a file and wait until the expression ``ready`` holds there and all is drawn."""
        self.send("Page.navigate", url=page.as_uri())
        there = (
            f"location.href === {json.dumps(page.as_uri())} && document.readyState === 'complete'"
        )
        self.value(
            "new Promise(done => { const look = () => "
            f"{there} && {ready} ? done() : setTimeout(look, 20); look(); }})"
        )
        self.settle()

    def settle(self) -> None:
        """Wait until what has changed is drawn."""
        self.value(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
        )

    def value(self, expression: str) -> Any:
        reported = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in reported:
            raise RuntimeError(reported["exceptionDetails"])
        return reported["result"].get("value")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start: tuple[float, float], by: tuple[float, float]) -> None:
        x, y = start
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        for step in (0.25, 0.5, 0.75, 1.0):
            self.mouse("mouseMoved", x + step * by[0], y + step * by[1], button="left", buttons=1)
        self.mouse("mouseReleased", x + by[0], y + by[1], button="left")

    def touch_drag(self, start: tuple[float, float], by: tuple[float, float]) -> None:
        def event(kind: str, points: list[dict]) -> None:
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=points)

        x, y = start
        event("touchStart", [{"x": x, "y": y}])
        for step in (0.25, 0.5, 0.75, 1.0):
            event("touchMove", [{"x": x + step * by[0], "y": y + step * by[1]}])
        event("touchEnd", [])

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key)

    def dark(self, on: bool) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.send("Emulation.setEmulatedMedia", features=[feature])
        self.settle()

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))
        return path
