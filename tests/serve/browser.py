"""Chromium as tests drive it: chromedriver over HTTP, with what a page logs and asks for."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
DRIVER = shutil.which("chromedriver")
MISSING = "needs chromium and chromedriver: apt-get install chromium chromium-driver"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's name in WebDriver's JSON
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)
ENTER, ESCAPE = "\ue007", "\ue00c"


@dataclass
class Browser:
    """A window of its own."""

    session: str

    def open(self, url: str) -> None:
        self._ask("POST", "url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function's body returns in the page."""
        return self._ask("POST", "execute/sync", {"script": script, "args": arguments})

    def text(self, css: str) -> str:
        """The visible text of the first element, "" where there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css))

    def count(self, css: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", css))

    def click(self, css: str) -> None:
        self._ask("POST", f"element/{self._find(css)}/click", {})

    def type(self, css: str, text: str) -> None:
        """Type into a field, or the path of a file into one of files."""
        self._ask("POST", f"element/{self._find(css)}/value", {"text": text})

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        typed = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        keys = {"type": "key", "id": "keys", "actions": typed}
        self._ask("POST", "actions", {"actions": [keys]})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._ask("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width: int, height: int = 800) -> None:
        """The viewport, in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)

    def prefer(self, **features: str) -> None:
        """The media features that the system asks for: `prefers_color_scheme="dark"`."""
        asked = [{"name": n.replace("_", "-"), "value": v} for n, v in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=asked)

    def picture(self) -> str:
        """What the window shows, as a PNG in base64."""
        return str(self._ask("GET", "screenshot"))

    def errors(self) -> list[str]:
        """Lines of the console since the last call that are warnings or worse."""
        lines = self._ask("POST", "se/log", {"type": "browser"})
        bad = ("SEVERE", "WARNING")
        return [line["message"] for line in lines if line["level"] in bad]

    def asked(self) -> list[str]:
        """Every address that was asked for since the last look."""
        lines = self._ask("POST", "se/log", {"type": "performance"})
        told = [json.loads(line["message"])["message"] for line in lines]
        sent = [each for each in told if each["method"] == "Network.requestWillBeSent"]
        return [each["params"]["request"]["url"] for each in sent]

    def wait(self, true: Callable[[], object], seconds: float = 60) -> None:
        """Wait until something is true; AssertionError with the page's text where it is not."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.text("body")
            time.sleep(0.03)

    def _find(self, css: str) -> str:
        found = self._ask("POST", "element", {"using": "css selector", "value": css})
        return str(found[ELEMENT])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return ask(method, f"{self.session}/{path}", body)


def ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    """The value of a WebDriver command; AssertionError with what the driver says."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["value"]
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(json.load(error)["value"]["message"]) from None


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile in a folder; it ends with its driver."""
    assert CHROMIUM is not None
    assert DRIVER is not None
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        port = _port(driver)
        options = {
            "binary": CHROMIUM,
            "args": [*ARGUMENTS, f"--user-data-dir={folder}"],
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        base = f"http://127.0.0.1:{port}/session"
        opened = ask("POST", base, {"capabilities": {"alwaysMatch": wanted}})
        session = f"{base}/{opened['sessionId']}"
        try:
            yield Browser(session)
        finally:
            ask("DELETE", session)
    finally:
        driver.terminate()
        driver.wait(20)
        assert driver.stdout is not None
        driver.stdout.close()


def _port(driver: subprocess.Popen[str]) -> int:
    """The port that a driver chose, which it tells in a line."""
    assert driver.stdout is not None
    for line in driver.stdout:
        if "successfully on port" in line:
            return int(line.rstrip(".\n ").rpartition(" ")[2])
    raise AssertionError("chromedriver ended before it listened")
