"""A real browser for tests of pages: Debian's Chromium, talked to over pipes in its own protocol, without a package."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAME = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_LIMIT_S = 60.0


class Browser:
    """One Chromium with one page, and what went wrong in that page."""

    def __init__(self) -> None:
        """Start it; its profile is a folder of its own."""
        assert NAME is not None
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (ours_in, theirs_out), (theirs_in, ours_out) = ([_high(end) for end in os.pipe()] for _ in range(2))
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        options += ["--autoplay-policy=no-user-gesture-required", f"--user-data-dir={self._profile.name}"]
        options += ["--remote-debugging-pipe", "about:blank"]
        # The protocol wants commands at 3 and answers at 4; the shell puts them there.
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out} {theirs_in}<&- {theirs_out}>&-'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, NAME, *options],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out, self._rest, self._ids = ours_in, ours_out, b"", itertools.count(1)
        self._session: str | None = None
        self._loaded = False
        self.errors: list[str] = []
        page = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def open(self, page: Path, width: int, is_dark: bool = False) -> None:
        """Show a page from disk at a width in pixels; errors of pages before are forgotten."""
        self.errors.clear()
        self._loaded = False
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=scheme)
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.ask("Page.navigate", url=page.resolve().as_uri())
        until_s = time.monotonic() + _LIMIT_S
        while not self._loaded:
            self._hear(self._next(until_s))

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page; a promise is waited for."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def cut_off(self) -> list[str]:
        """Return what of the page reaches beyond its right edge, but for what scrolls in a box of its own."""
        found: list[str] = self.run(_CUT_OFF)
        return found

    def picture(self, file: Path) -> None:
        """Write a picture of the whole page."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        file.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End it."""
        os.close(self._out)
        os.close(self._in)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to a command of the protocol."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until_s = time.monotonic() + _LIMIT_S
        while (answer := self._next(until_s)).get("id") != number:
            self._hear(answer)
        assert "error" not in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result

    def _hear(self, event: dict[str, Any]) -> None:
        told, method = event.get("params", {}), event.get("method")
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            self.errors.append(str(told["args"]))

    def _next(self, until_s: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until_s - time.monotonic()))
            more = os.read(self._in, 1 << 16) if ready else b""
            assert more, "the browser says nothing"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        return told


def _high(descriptor: int) -> int:
    """Return the same pipe under a number that is not 3 or 4."""
    other = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 20)
    os.close(descriptor)
    return other


_CUT_OFF = """
  (() => {
    const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    const edge = document.documentElement.clientWidth + 1;
    return [...document.body.querySelectorAll("*")]
      .filter((e) => e.getBoundingClientRect().right > edge && e.getClientRects().length && !scrolls(e.parentElement))
      .map((e) => e.outerHTML.slice(0, 120));
  })()
"""

__all__ = ["NAME", "Browser"]
