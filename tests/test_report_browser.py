"""Tests of the page in headless Chromium, spoken to through two pipes."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnunet_cel.evaluation.dataset import evaluate_folders, write_evaluation
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.report.build import write_report
from nnunet_cel.volumes import Volume, write_volume

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
# Chromium reads commands from file 3 and writes answers to file 4.
LAUNCH = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 60  # seconds
COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)<+script>"


class Browser:
    """Chromium with one tab, and what it said so far."""

    def __init__(self, profile: Path) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", LAUNCH, str(commands), str(answers)),
                *(str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}"),
            ],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def open_tab(self) -> None:
        """Open the tab that all commands are for."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser, by force if it does not answer."""
        os.close(self._write)  # at which Chromium ends by itself
        os.close(self._read)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command of the DevTools protocol and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, page: Path, *, width: int, dark: bool = False) -> None:
        """Open a page in a window of a width and wait until it is loaded."""
        self.events.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=page.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._receive())

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self) -> np.ndarray:
        """Return the colors of the whole page, shape (H, W, 3)."""
        height = self.run("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": self.run("innerWidth"), "height": height}
        result = self.call(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip=clip | {"scale": 1},
        )
        with Image.open(io.BytesIO(base64.b64decode(result["data"]))) as image:
            return np.asarray(image.convert("RGB"))

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Errors, warnings and dialogs of the page."""
        return [
            event
            for event in self.events
            if event.get("method") in (*COMPLAINTS, "Page.javascriptDialogOpening")
        ]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, f"Chromium has said nothing for {PATIENCE} s"
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with an empty profile."""
    browser = Browser(tmp_path_factory.mktemp("profile"))
    try:
        browser.open_tab()
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three cases with images and probabilities."""
    root = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2, 2, 1])
    for folder in ("p", "r", "images", "out"):
        (root / folder).mkdir()
    for i, case in enumerate(("a10", "a9", HOSTILE)):
        reference = np.zeros((40, 44, 36), dtype=np.uint8)
        reference[8:12, 8:12, 8:12] = reference[25:30, 25:30, 20:25] = 1
        prediction = np.roll(reference, (2, 0, 1)[i], axis=0)
        image = rng.integers(80, 160, reference.shape) + 100 * reference
        image[:3] = 0
        for folder, voxels in (("p", prediction), ("r", reference)):
            write_volume(root / folder / f"{case}.nii.gz", Volume(voxels, affine))
        soft = np.stack([1 - 0.9 * prediction, 0.9 * prediction]).transpose(0, 3, 2, 1)
        np.savez(root / "p" / f"{case}.npz", probabilities=soft)
        volume = Volume(image.astype(np.int16), affine)
        write_volume(root / "images" / f"{case}_0000.nii.gz", volume)
    evaluation = evaluate_folders(
        root / "p", root / "r", load_protocol(), probabilities=True
    )
    write_evaluation(evaluation, root / "out")
    target = root / "my report.html"
    write_report(root / "out", target, images=root / "images", title=HOSTILE)
    return target


@pytest.mark.parametrize(
    ("width", "dark"),
    [(390, True), (820, False), (1280, True)],
)
def test_it_looks_right(browser: Browser, page: Path, width: int, dark: bool) -> None:
    """At any width nothing complains or sticks out, and colors follow the reader."""
    browser.open(page, width=width, dark=dark)
    colors = browser.screenshot()

    assert browser.complaints == []
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert len(colors) > 2000
    ground = np.median(colors.reshape(-1, 3), axis=0)
    assert (ground < 60).all() if dark else (ground > 200).all()
    # True positive, false positive and false negative can be seen.
    red, green, blue = colors.astype(int).transpose(2, 0, 1)
    assert ((red > 150) & (green < 100) & (blue < 100)).any()
    assert ((green > 120) & (red < 80) & (blue < 110)).any()
    assert ((red > 180) & (green > 160) & (blue < 90)).any()


def test_every_picture_is_shown(browser: Browser, page: Path) -> None:
    """Images are decoded, names are text, and the page is the only file read."""
    browser.call("Network.enable")
    browser.open(page, width=1280)
    wanted = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    browser.call("Network.disable")

    assert [url for url in wanted if not url.startswith("data:")] == [page.as_uri()]

    count, broken = browser.run(
        "(() => { const all = [...document.querySelectorAll('img')];"
        "return [all.length, all.filter((i) => !i.naturalWidth).length]; })()"
    )
    assert (count, broken) == (48 + 6, 0)  # panels and charts
    assert browser.run("document.title") == HOSTILE
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.run("document.querySelectorAll('script').length") == 1
    assert browser.run("document.querySelector('h1').textContent") == HOSTILE


def test_the_table_can_be_sorted(browser: Browser, page: Path) -> None:
    """A click on a heading sorts by it, a second one the other way round."""
    browser.open(page, width=1280)

    def names(heading: int) -> list[str]:
        browser.run(
            f"document.querySelectorAll('#case-table thead button')[{heading}].click()"
        )
        rows: list[str] = browser.run(
            "[...document.querySelectorAll('#case-table tbody th')]"
            ".map((cell) => cell.textContent)"
        )
        return rows

    assert names(0) == [HOSTILE, "a9", "a10"]
    assert names(0) == ["a10", "a9", HOSTILE]
    assert names(1) == ["a10", HOSTILE, "a9"]
    assert names(1) == ["a9", HOSTILE, "a10"]
    sort = "document.querySelector('#case-table [aria-sort]')"
    assert browser.run(f"{sort}.getAttribute('aria-sort')") == "descending"


def test_cases_and_colors_can_be_switched(browser: Browser, page: Path) -> None:
    """Buttons fold all cases, a link opens one, and the box hides the colors."""
    browser.open(page, width=1280)
    opened = "document.querySelectorAll('details[open]').length"
    overlay = (
        "getComputedStyle(document.querySelector('.pictures .overlay')).visibility"
    )

    assert browser.run(opened) == 3
    browser.run("document.getElementById('close-all').click()")
    assert browser.run(opened) == 0
    browser.run("document.querySelector('#case-table tbody a').click()")
    browser.run("new Promise(requestAnimationFrame)")
    assert browser.run(opened) == 1
    browser.run("document.getElementById('open-all').click()")
    assert browser.run(opened) == 3
    assert browser.run(overlay) == "visible"
    browser.run("document.getElementById('colors').click()")
    assert browser.run(overlay) == "hidden"
    assert browser.complaints == []


def test_it_can_be_printed(browser: Browser, page: Path) -> None:
    """Printing on A4 gives a few pages on which nothing is cut off at the side."""
    browser.open(page, width=1280, dark=True)
    pdf = base64.b64decode(
        browser.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"]
    )

    pages = pdf.count(b"/Type /Page\n") or pdf.count(b"/Type /Page ")
    assert 4 <= pages <= 12
    browser.call("Emulation.setEmulatedMedia", media="print")
    # A4 less its margins of 14 mm, at 96 pixels to the inch
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=688,
        height=900,
        deviceScaleFactor=1,
        mobile=False,
    )
    wide = browser.run(
        "[...document.querySelectorAll('table')]"
        ".filter((t) => t.getBoundingClientRect().right > 689).length"
    )
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert wide == 0
    assert ground == "rgb(255, 255, 255)"
