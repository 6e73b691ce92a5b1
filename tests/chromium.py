"""Chromium without a window, driven through pipes: pages are opened, asked and pictured, and their errors collected."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "no Chromium on this machine to open the page in; install it (Debian: apt install chromium)"
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--remote-debugging-pipe",
)  # fmt: skip


class Chromium:
    """A browser with a profile of its own, a camera that shows a test picture, and a microphone that beeps."""

    def __init__(self, profile):
        (read, self._write), (self._read, write) = os.pipe(), os.pipe()
        # Its end of the pipes is to be 3 and 4.
        command = ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash", PROGRAM, *_OPTIONS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"], pass_fds=(read, write),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._number, self._rest, self.heard = 0, b"", []

    def page(self, url, width=1000, height=900, dark=False):
        """Open an address in a new tab of this size."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.ask("Emulation.setEmulatedMedia", features=[scheme])
        page.ask("Page.navigate", url=url)
        page.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
        return page

    def ask(self, method, session=None, timeout_s=60, **parameters):
        """Send a command of the DevTools protocol and return its result."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": parameters}
        asked |= {} if session is None else {"sessionId": session}
        os.write(self._write, json.dumps(asked).encode() + b"\0")
        end_s = time.monotonic() + timeout_s
        while True:
            answer = self._next(end_s, method)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.heard.append(answer)

    def close(self):
        """End it."""
        try:
            self.ask("Browser.close", timeout_s=10)
        finally:
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            os.close(self._write)
            os.close(self._read)

    def _next(self, end_s, method):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0, end_s - time.monotonic()))
            assert ready, f"{method}: no answer from Chromium"
            piece = os.read(self._read, 2**20)
            assert piece, "Chromium ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)


class Page:
    """A tab."""

    def __init__(self, browser, session):
        self._browser, self._session = browser, session

    def ask(self, method, **parameters):
        """Send it a command of the DevTools protocol."""
        return self._browser.ask(method, self._session, **parameters)

    def run(self, code):
        """Return what JavaScript comes to, waiting for a promise."""
        done = self.ask("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True, userGesture=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait_for(self, code, timeout_s=60):
        """Wait until JavaScript comes to something true, and return it."""
        end_s = time.monotonic() + timeout_s
        while True:
            value = self.run(code)
            if value:
                return value
            assert time.monotonic() < end_s, f"not within {timeout_s} s: {code}"
            time.sleep(0.1)

    def picture(self, path):
        """Write a picture of the whole page, and return its width and height in pixels."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        shot = self.ask(
            "Page.captureScreenshot", captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )  # fmt: skip
        path.write_bytes(base64.b64decode(shot["data"]))
        return size["width"], size["height"]

    def cut_off(self):
        """Return what reaches beyond the right or left edge of the window, and of its own box where that clips.

        What lies in a box that scrolls is not cut off.
        """
        return self.run(
            """[...document.querySelectorAll("body *")].filter((element) => {
                for (let outer = element.parentElement; outer; outer = outer.parentElement)
                    if (/auto|scroll/.test(getComputedStyle(outer).overflowX)) return false;
                const box = element.getBoundingClientRect(), style = getComputedStyle(element);
                if (box.width === 0 || element.closest("[hidden], select, svg") || style.opacity === "0") return false;
                const clips = element.scrollWidth > element.clientWidth + 1 && style.overflowX === "hidden";
                return box.right > innerWidth + 1 || box.left < -1 || clips;
            }).map((element) => `${element.tagName}#${element.id}.${element.className}`)"""
        )

    def contrasts(self, least):
        """Return what holds text of less contrast than this to what is behind it (WCAG 2.2, 1.4.3)."""
        return self.run(
            """(() => {
                const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
                    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
                const behind = (element) => {
                    for (; element; element = element.parentElement) {
                        const color = getComputedStyle(element).backgroundColor;
                        if (!color.startsWith("rgba(") || color.endsWith(", 1)")) return color;
                    }
                    return "rgb(255, 255, 255)";
                };
                return [...document.querySelectorAll("body *")].flatMap((element) => {
                    const has = (node) => node.nodeType === 3 && node.textContent.trim();
                    if (![...element.childNodes].some(has) || element.disabled) return [];
                    if (element.closest("svg, [hidden], option")) return [];
                    const both = [getComputedStyle(element).color, behind(element)].map(light).sort((a, b) => b - a);
                    const contrast = (both[0] + 0.05) / (both[1] + 0.05);
                    return contrast < LEAST ? [`${element.tagName}.${element.className}: ${contrast.toFixed(2)}`] : [];
                });
            })()""".replace("LEAST", str(least))
        )

    def errors(self):
        """Return what went wrong on the page, as its console tells: exceptions, refused addresses, lost files."""
        self.run("0")
        told = [event for event in self._browser.heard if event.get("sessionId") == self._session]
        thrown = [
            str(event["params"]["exceptionDetails"]) for event in told if event["method"] == "Runtime.exceptionThrown"
        ]
        logged = [event["params"]["entry"] for event in told if event["method"] == "Log.entryAdded"]
        return thrown + [f"{entry['text']} {entry.get('url', '')}" for entry in logged if entry["level"] == "error"]

    def addresses(self):
        """Return the hosts that the page asked for something."""
        asked = [event for event in self._browser.heard if event.get("sessionId") == self._session]
        return [event["params"]["request"]["url"] for event in asked if event["method"] == "Network.requestWillBeSent"]
