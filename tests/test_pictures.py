"""Slices with outlines: sides, sizes, colors, and the pictures of Figure 7."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from nnunet_cel.pictures import (
    AGREEMENT_COLORS,
    PANEL,
    Outline,
    Panel,
    cut_slice,
    draw_background,
    draw_outlines,
    draw_sheet,
    save_overlays,
    to_gray,
)
from nnunet_cel.volumes import Volume, write_volume

RED = "#ff0000"


def make(mask: np.ndarray, **more: Any) -> Panel:
    """Return a panel of 24 x 48 voxels of 2 x 1 mm with one outline."""
    look = {"fill": 1.0, **more.pop("look", {})}
    outlines = [Outline(mask, RED, **look)]
    gray = np.full((24, 48), 128, dtype=np.uint8)
    defaults: dict[str, Any] = {"size": (2.0, 1.0), "edge": 48.0, "sides": ("", "")}
    return Panel("name", gray, outlines=outlines, **(defaults | more))


def opacity(panel: Panel) -> np.ndarray:
    """Return how much of the outlines covers each pixel, from 0 to 255."""
    return np.asarray(draw_outlines(panel))[..., 3]


@pytest.mark.parametrize(
    ("axis", "first"), [(2, (1, 2, 0)), (1, (1, 0, 3)), (0, (0, 2, 3))]
)
def test_right_and_front_are_on_the_left(axis: int, first: tuple[int, ...]) -> None:
    """The upper left voxel is right and in front, right and on top, front and top."""
    voxels = np.arange(24).reshape(2, 3, 4)

    assert cut_slice(voxels, axis, 0)[0, 0] == voxels[first]


def test_voxels_have_their_size() -> None:
    """Voxels of 2 x 1 mm cover 10 x 5 pixels of a panel of 48 mm."""
    mask = np.zeros((24, 48), dtype=bool)
    mask[3, 40] = True

    rows, columns = np.nonzero(opacity(make(mask)))

    assert (rows.min(), rows.max()) == (30, 39)
    assert (columns.min(), columns.max()) == (200, 204)


def test_beyond_the_slice_is_black() -> None:
    """The middle of the square is where it is asked for, also at the border."""
    mask = np.zeros((24, 48), dtype=bool)
    mask[0, 0] = True
    panel = make(mask, middle=(0.0, 0.0))

    gray = np.asarray(draw_background(panel))[..., 0]
    rows, columns = np.nonzero(opacity(panel))

    assert (rows.min(), columns.min()) == (PANEL // 2, PANEL // 2)
    assert not gray[: PANEL // 2 - 20].any()
    assert not gray[30 : PANEL - 30, : PANEL // 2 - 20].any()  # above the bar
    assert (gray[PANEL // 2 + 20 :, PANEL // 2 + 20 :] == 128).all()


def test_looks_of_outlines() -> None:
    """A line surrounds the fill; dashes leave gaps in it, a hatch lies inside."""
    mask = np.zeros((24, 48), dtype=bool)
    mask[6:18, 12:36] = True

    line = opacity(make(mask, look={"fill": 0}))
    dashed = opacity(make(mask, look={"fill": 0, "dashed": True}))
    hatched = opacity(make(mask, look={"fill": 0.2, "hatched": True}))[65:175, 65:175]

    assert (line == 255).sum() == 4 * 120 - 4
    assert 0.4 < (dashed == 255).sum() / (line == 255).sum() < 0.6
    assert set(np.unique(hatched)) == {51, 229}


def test_marks() -> None:
    """Bar, frame and letters are drawn on the background, not on the outlines."""
    nothing = np.zeros((24, 48), dtype=bool)
    marked = make(nothing, frame=(12.0, 12.0, 24.0), sides=("R", "L"))
    changed = (np.asarray(draw_background(marked)) != 128).any(axis=2)

    assert changed[60, 60:181].all()
    assert changed[60:181, 180].all()
    assert changed[PANEL - 10, 10:61].all()
    assert changed[:20, :20].any()
    assert changed[:20, -20:].any()
    assert not opacity(marked).any()


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1000), (-1024, 3000), (0.0, 1e-3), (5, 5)]
)
def test_any_range_of_intensities(low: float, high: float) -> None:
    """Black is the smallest or 0, white the largest; a flat image is no error."""
    image = np.linspace(low, high, 1000).reshape(10, 10, 10).astype(np.float32)
    image[0, 0, :2] = np.nan, np.inf

    gray = to_gray(image)

    assert gray.max() == 255
    assert gray[0, 0, 0] == round(max(0, -low) / (high - min(low, 0)) * 255 - 0.5)
    assert not to_gray(np.zeros((2, 2, 2))).any()
    skin = np.array([100.0, 50, 1000])  # bright skin does not make the brain dark
    assert to_gray(skin, skin < 1000)[1] > 120 > to_gray(skin)[1]


def test_sheets() -> None:
    """Panels in rows, whatever the title."""
    panel = make(np.ones((24, 48), dtype=bool))
    rows = [[panel, panel], [panel]]

    content = draw_sheet(rows, title="$病_1" * 99, facts="1 ml", legend={"lesion": RED})

    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image)
    red = (pixels == ImageColor.getrgb(RED)).all(axis=2)
    assert red[40:270].sum() == 2 * PANEL * 230
    assert 0 < red[570:].sum() < PANEL


def test_overlays_have_a_panel_for_every_model(tmp_path: Path) -> None:
    """5 x 5 voxels of 10 pixels; shifted by two, 2 of 5 rows are wrong on each side."""
    reference = np.zeros((24, 24, 5))
    reference[4:9, 4:9, 2] = reference[4, 4, 1] = 1
    volumes = {"i": reference + 1, "r": reference, "off": np.roll(reference, 2, axis=0)}
    files = {name: tmp_path / f"{name}.nii.gz" for name in volumes}
    for name, voxels in volumes.items():
        axes = np.diag([-1.0, -1, 1, 1])  # which are turned to RAS
        write_volume(files[name], Volume(voxels.astype(np.uint8), axes))

    save_overlays(
        tmp_path / "case.png",
        image=files["i"],
        reference=files["r"],
        predictions={"right": files["r"], "off": files["off"]},
    )

    with Image.open(tmp_path / "case.png") as picture:
        pixels = np.asarray(picture)[34:274]  # the panels, without the legend
    colors = [ImageColor.getrgb(color) for color in AGREEMENT_COLORS.values()]
    shown = [(pixels == color).all(axis=2) for color in colors]
    assert [mask.sum() for mask in shown] == [(25 + 15) * 100, 1000, 1000]
    red = shown[0].any(axis=0)
    first = np.flatnonzero(red)[0] - (8 + 240 + 8)
    assert first == 40  # index 4 is right, and so on the left
