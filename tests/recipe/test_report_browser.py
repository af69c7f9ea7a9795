"""The report in headless Chromium, on a phone and a desktop: no overflow, errors or network."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import HANG
from tests.recipe.report_fixture import make_experiment, write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars
    --disable-background-networking --disable-component-update --disable-sync
    --remote-debugging-pipe""".split()
# Whatever reaches beyond the window, except inside boxes that scroll by themselves.
OVERFLOW = """(() => {
  const wide = document.documentElement.clientWidth;
  const beyond = [...document.querySelectorAll("main *")].filter(e =>
    !e.closest(".scroll, pre, svg") && e.getBoundingClientRect().right > wide + 0.5);
  return {document: document.documentElement.scrollWidth - wide,
          beyond: beyond.map(e => e.outerHTML.slice(0, 90))};
})()"""
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll("main *:not(svg *)")]
  .filter(e => e.textContent.trim()).map(e => parseFloat(getComputedStyle(e).fontSize)))"""
SVG_TEXT = """(() => {
  const out = [];
  for (const svg of document.querySelectorAll("figure svg")) {
    const box = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const r = text.getBoundingClientRect();
      if (r.left < box.left - 1 || r.right > box.right + 1 ||
          r.top < box.top - 1 || r.bottom > box.bottom + 1)
        out.push(svg.getAttribute("aria-label") + ": " + text.textContent);
    }
  }
  return out;
})()"""


class Browser:
    """Chromium driven over its debugging pipe: JSON messages that end in a zero byte."""

    def __init__(self, profile: Path) -> None:
        there, self._write = os.pipe()
        self._read, back = os.pipe()
        # Chromium reads from descriptor 3 and writes to descriptor 4.
        command = ["bash", "-c", f'exec "$@" 3<&{there} 4>&{back}', "bash", str(CHROMIUM), *FLAGS]
        command += [f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(there, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(there)
        os.close(back)
        self._number = 0
        self._buffer = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events on the way are kept."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def open(self, url: str, width: int, dark: bool = False) -> None:
        """Load a page in a window of the given width and wait until it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._receive())

    def evaluate(self, expression: str) -> Any:
        """Give the value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"]["value"]

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def problems(self) -> list[dict[str, Any]]:
        """Give the errors of the console since the page was opened."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [e for e in self.events if e.get("method") in kinds]

    def requests(self) -> list[str]:
        """Give what was asked for since the page was opened."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [e["params"]["request"]["url"] for e in sent]

    def close(self) -> None:
        """End the browser."""
        self._session = None
        try:
            self.call("Browser.close")
            self._process.wait(timeout=HANG)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._write)
            os.close(self._read)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read, 1 << 16)
            assert chunk, "Chromium ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start one Chromium with an empty profile."""
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(
    scope="module", params=[("test",), ("o", "e", "h")], ids=["one list", "three lists"]
)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of the made-up experiment."""
    paths = make_experiment(tmp_path_factory.mktemp("experiment"), lists=request.param)
    write_report(paths)
    return paths["exp"] / "report.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_page_fits_the_window(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page.as_uri(), width, dark)
    measured = browser.evaluate(OVERFLOW)
    assert measured["document"] <= 0, measured
    assert not measured["beyond"]
    assert browser.evaluate(SMALLEST_TEXT) >= 16
    assert browser.evaluate(SVG_TEXT) == []
    assert browser.problems() == []
    assert [u for u in browser.requests() if not u.startswith("data:")] == [page.as_uri()]
    shot = (
        Path(os.environ.get("REPORT_SCREENSHOTS", page.parent))
        / f"report_{width}_{'dark' if dark else 'light'}.png"
    )
    browser.screenshot(shot)
    assert shot.stat().st_size > 20_000
