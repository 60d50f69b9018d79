"""Slices with outlines: sides, sizes, colors, and the pictures of Figure 7."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image, ImageColor

from nnunet_cel.pictures import (
    AGREEMENT_COLORS,
    PANEL,
    Outline,
    Panel,
    cut_slice,
    dice,
    draw_background,
    draw_outlines,
    draw_panel,
    draw_sheet,
    load_volume,
    save_overlays,
    slice_to_show,
    to_gray,
)

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
    assert not gray[:, : PANEL // 2 - 20].any()
    assert (gray[PANEL // 2 + 20 :, PANEL // 2 + 20 :] == 128).all()


def test_looks_of_outlines() -> None:
    """A line surrounds the fill; dashes leave gaps in it, a hatch lies inside."""
    mask = np.zeros((24, 48), dtype=bool)
    mask[6:18, 12:36] = True

    line = opacity(make(mask, look={"fill": 0}))
    dashed = opacity(make(mask, look={"fill": 0, "dashed": True}))
    hatched = opacity(make(mask, look={"fill": 0.2, "line": False, "hatched": True}))

    assert (line == 255).sum() == 4 * 120 - 4
    assert 0.4 < (dashed == 255).sum() / (line == 255).sum() < 0.6
    assert set(np.unique(hatched)) == {0, 51, 229}


def test_a_panel_is_its_outlines_over_its_background() -> None:
    """Half of red over gray."""
    panel = make(np.ones((24, 48), dtype=bool), look={"fill": 0.5, "line": False})

    color = np.asarray(draw_panel(panel))[120, 120].astype(int)

    assert abs(color - (191, 64, 64)).max() <= 1


def test_marks() -> None:
    """Bar, frame and letters are drawn on the background, not on the outlines."""
    nothing = np.zeros((24, 48), dtype=bool)
    plain = np.asarray(draw_background(make(nothing)))
    marked = make(nothing, scale=10, frame=(12.0, 12.0, 24.0), sides=("R", "L"))
    changed = (np.asarray(draw_background(marked)) != plain).any(axis=2)

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


def test_white_is_what_is_bright_inside() -> None:
    """Bright skin does not make the brain dark."""
    image = np.array([[[100.0, 50.0, 1000.0]]])

    assert to_gray(image, np.array([[[1, 1, 0]]])).ravel().tolist()[1] > 120
    assert to_gray(image).ravel().tolist()[1] < 20


@pytest.mark.parametrize("title", ["p1", "$x_1", "病人_1", "a" * 300])
def test_sheets(title: str) -> None:
    """Panels in rows; the same bytes each time, whatever the title."""
    panel = make(np.ones((24, 48), dtype=bool))
    rows = [[panel, panel], [panel]]

    content = draw_sheet(rows, title=title, facts="1 ml", legend={"lesion": RED})

    assert content == draw_sheet(
        rows, title=title, facts="1 ml", legend={"lesion": RED}
    )
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image)
    red = (pixels == ImageColor.getrgb(RED)).all(axis=2)
    assert red[40:270].sum() == 2 * PANEL * 230
    assert 0 < red[570:].sum() < PANEL


def test_dice_by_hand() -> None:
    """Two of three predicted voxels are right, one of three is missed: 4 / 6."""
    prediction = np.array([1, 1, 1, 0, 0])
    reference = np.array([1, 1, 0, 1, 0])

    assert dice(prediction, reference) == pytest.approx(4 / 6)
    assert dice(prediction * 0, reference) == 0
    assert np.isnan(dice(prediction * 0, reference * 0))


def test_slice_with_the_largest_lesion() -> None:
    """The slice with most lesion voxels; the middle one without any."""
    reference = np.zeros((4, 4, 9))
    assert slice_to_show(reference) == 4

    reference[0, 0, 2] = reference[:2, 0, 7] = 1
    assert slice_to_show(reference) == 7


def test_volumes_are_turned_to_ras(tmp_path: Path) -> None:
    """Axes that run the other way are reversed."""
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    file = tmp_path / "lps.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1, -1, 1, 1])), file)

    np.testing.assert_array_equal(load_volume(file), voxels[::-1, ::-1])


def test_overlays_have_a_panel_for_every_model(tmp_path: Path) -> None:
    """5 x 5 voxels of 10 pixels; shifted by two, 2 of 5 rows are wrong on each side."""
    image = np.random.default_rng(0).uniform(1, 2, (24, 24, 5))
    reference = np.zeros(image.shape)
    reference[4:9, 4:9, 2] = 1
    shifted = np.roll(reference, 2, axis=0)
    predictions = {"right": reference, "off": shifted}

    save_overlays(
        tmp_path / "case.png", image=image, reference=reference, predictions=predictions
    )

    with Image.open(tmp_path / "case.png") as picture:
        pixels = np.asarray(picture)[34:274]  # the panels, without the legend
    for kind, voxels in {"tp": 25 + 15, "fp": 10, "fn": 10}.items():
        color = ImageColor.getrgb(AGREEMENT_COLORS[kind])
        assert (pixels == color).all(axis=2).sum() == voxels * 100
