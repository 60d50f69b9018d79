"""Tests of drawing views of lesions."""

from __future__ import annotations

import base64
import io
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from nnunet_cel.report.agreement import FN, FP, TP
from nnunet_cel.report.lesion_pictures import (
    describe_lesion,
    draw_png,
    draw_svg,
    panel_context,
)
from nnunet_cel.report.lesion_views import LesionView, Panel

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def panel(rng: np.random.Generator) -> Panel:
    """A panel of 24 x 48 voxels with random agreement."""
    return Panel(
        title="axial, z = 1 mm",
        gray=rng.integers(0, 255, (24, 48), dtype=np.uint8),
        agreement=rng.integers(0, 4, (24, 48), dtype=np.uint8),
        size=(2.0, 1.0),
        sides=("R", "L"),
        edge=48.0,
    )


def view(panel: Panel) -> LesionView:
    """Return a view with the same panel everywhere."""
    return LesionView({}, (panel, panel, panel), panel)


def area(path: str) -> float:
    """Return the area of rectangles ``Mx yh.v.h.z``."""
    numbers = re.findall(r"M[-\d.]+ [-\d.]+h([-\d.]+)v([-\d.]+)h[-\d.]+z", path)
    return sum(float(width) * float(height) for width, height in numbers)


def length(path: str) -> float:
    """Return the length of lines ``Mx yh.`` and ``Mx yv.``."""
    return sum(float(number) for number in re.findall(r"[hv]([-\d.]+)", path))


def test_paths_cover_the_voxels(panel: Panel) -> None:
    """Every kind has the area of its voxels, and the outline of its borders."""
    kinds = {kind["name"]: kind for kind in panel_context(panel)["kinds"]}

    for name, value in (("tp", TP), ("fp", FP), ("fn", FN)):
        mask = np.pad(panel.agreement == value, 1).astype(int)
        assert area(kinds[name]["fill"]) == mask.sum() * 2.0
        across = abs(np.diff(mask, axis=0)).sum() * 1.0
        down = abs(np.diff(mask, axis=1)).sum() * 2.0
        assert length(kinds[name]["outline"]) == across + down


def test_kinds_that_are_not_there_have_no_path(panel: Panel) -> None:
    """A panel with false positives only draws nothing else."""
    panel.agreement[:] = FP

    assert [kind["name"] for kind in panel_context(panel)["kinds"]] == ["fp"]


def test_the_image_is_in_the_page(panel: Panel) -> None:
    """Gray values travel as JPEG of the right proportions; black needs none."""
    address = panel_context(panel)["image"]
    content = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))

    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (112, 112)
        assert image.mode == "L"
    panel.gray[:] = 0
    assert panel_context(panel)["image"] is None


def test_svg_files_are_whole_and_safe(panel: Panel) -> None:
    """A file parses as XML, names its panels and keeps a tag in a title as text."""
    title = "<script>alert(1)</script>"
    svg = draw_svg([panel_context(panel)] * 4, title)
    root = ElementTree.fromstring(svg)

    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts.count("axial, z = 1 mm") == 4
    assert title in texts
    assert not list(root.iter(f"{SVG}script"))
    assert len(list(root.iter(f"{SVG}image"))) == 4


def test_png_files_have_the_colors(panel: Panel) -> None:
    """Red, green and yellow are where the voxels are; outside the lesions is gray."""
    panel.gray[:] = 128
    panel.agreement[:] = 0
    panel.agreement[6:18, 4:12] = TP
    panel.agreement[6:18, 20:28] = FP
    panel.agreement[6:18, 36:44] = FN

    with Image.open(io.BytesIO(draw_png(view(panel), "title"))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)[34:274, 8:248]

    red, green, blue = (pixels[120, x] for x in (40, 121, 200))
    assert red[0] > red[1] + 50
    assert red[0] > red[2] + 50
    assert green[1] > green[0]
    assert min(blue[:2]) > blue[2] + 20
    assert len(set(pixels[120, 80])) == 1


def test_pictures_are_the_same_bytes_twice(panel: Panel) -> None:
    """Nothing of a picture depends on time or chance."""
    contexts = [panel_context(panel)] * 4

    assert draw_png(view(panel), "a") == draw_png(view(panel), "a")
    assert draw_svg(contexts, "a") == draw_svg([panel_context(panel)] * 4, "a")


def test_lesions_are_described_with_what_is_known() -> None:
    """Probabilities are told where there are any."""
    row = {"volume_mm3": 12.4, "voxels": 6}
    known = {"max_probability": 0.876, "mean_probability": 0.5}

    assert describe_lesion(row) == "12 mm³, 6 voxels"
    assert describe_lesion(row | {"max_probability": math.nan}) == "12 mm³, 6 voxels"
    assert describe_lesion(row | known).endswith("probability up to 0.88 (mean 0.50)")
