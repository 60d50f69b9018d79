"""Tests of the page in headless Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reports import evaluate, run, write_maps

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)<+script>"


def browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open a page in a new Chromium and return what it printed."""
    return subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--hide-scrollbars", "--enable-logging=stderr", "--v=0"),
            *(f"--user-data-dir={page.parent / 'profile'}", *flags, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three cases with images and probabilities."""
    root = tmp_path_factory.mktemp("report")
    reference = np.zeros((24, 24, 20), dtype=np.uint8)
    reference[8:12, 8:12, 8:12] = reference[16:20, 16:20, 12:16] = 1
    shifts = {"a10": 2, "a9": 0, HOSTILE: 1}
    predictions = {name: np.roll(reference, n, axis=0) for name, n in shifts.items()}
    references = dict.fromkeys(shifts, reference)
    out = evaluate(root, references, predictions, probabilities=True)
    image = (100 + 100 * reference).astype(np.int16)
    images = write_maps(root / "images", dict.fromkeys(shifts, image), "_0000")
    target = root / "my report.html"
    options = ("--images", images, "--title", HOSTILE, "-np", 1)
    assert run("report", out, "-o", target, *options) == 0
    return target


@pytest.mark.parametrize(("size", "dark"), [("500,12000", True), ("1280,6000", False)])
def test_it_looks_right(page: Path, tmp_path: Path, size: str, dark: bool) -> None:
    """Nothing complains, colors follow the reader, and every kind of voxel is seen."""
    flags = [f"--window-size={size}", f"--screenshot={tmp_path / 'page.png'}"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []

    assert "CONSOLE" not in browse(page, *flags).stderr

    with Image.open(tmp_path / "page.png") as image:
        colors = np.asarray(image.convert("RGB"))
    ground = np.median(colors.reshape(-1, 3), axis=0)
    assert (ground < 60).all() if dark else (ground > 200).all()
    red, green, blue = colors.astype(int).transpose(2, 0, 1)
    assert ((red > 150) & (green < 100) & (blue < 100)).any()
    assert ((green > 120) & (red < 80) & (blue < 110)).any()
    assert ((red > 180) & (green > 160) & (blue < 90)).any()


SCRIPT = """
const all = [...document.querySelectorAll('img')];
const click = (element) => { element.click(); return state(); };
const state = () => [
  document.querySelectorAll('details[open]').length,
  getComputedStyle(document.querySelector('.pictures .overlay')).visibility];
const buttons = document.querySelectorAll('#case-table thead button');
return {
  wide: document.documentElement.scrollWidth - innerWidth,
  images: [all.length, all.filter((i) => !i.naturalWidth).length],
  titles: [document.title, document.querySelector('h1').textContent],
  states: [state(), ...['close-all', 'open-all', 'colors'].map(
    (id) => click(document.getElementById(id)))],
  orders: [0, 0, 1, 1].map((i) => { buttons[i].click();
    return [...document.querySelectorAll('#case-table tbody th')].map(
      (cell) => cell.textContent); })};
"""


def test_it_can_be_used(page: Path) -> None:
    """Names stay text, tables sort, cases fold, colors hide, nothing sticks out."""
    copy, answer = page.with_name("asked.html"), "document.createElement('pre')"
    # Our policy lets no other script run, ours for the test neither.
    policy = r'<meta http-equiv="Content-Security-Policy"[^>]*>'
    text = re.sub(policy, "", page.read_text(encoding="utf-8"))
    code = f"const pre = {answer}; pre.id = 'answer'; document.body.append(pre);"
    code += f"pre.textContent = JSON.stringify((() => {{ {SCRIPT} }})());"
    copy.write_text(text.replace("</body>", f"<script>{code}</script></body>"), "utf-8")
    dom = browse(copy, "--dump-dom", "--window-size=500,2000").stdout
    (found,) = re.findall(r'<pre id="answer">(.*?)</pre>', dom, re.S)
    said: dict[str, Any] = json.loads(html.unescape(found))

    assert said["wide"] <= 0
    assert said["images"] == [48 + 6, 0]  # panels and charts
    assert said["titles"] == [HOSTILE, HOSTILE]
    assert [opened for opened, _ in said["states"]] == [3, 0, 3, 3]
    assert [seen for _, seen in said["states"]][2:] == ["visible", "hidden"]
    assert said["orders"] == [
        [HOSTILE, "a9", "a10"],
        ["a10", "a9", HOSTILE],
        ["a10", HOSTILE, "a9"],
        ["a9", HOSTILE, "a10"],
    ]
