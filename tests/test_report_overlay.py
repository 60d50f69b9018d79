"""Overlays: the colors of Figure 7, on the right slice."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import nibabel
import numpy as np
import pytest

from nnunet_cel.report.overlay import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    TRUE_POSITIVE,
    color_overlay,
    dice,
    load_volume,
    save_overlays,
    slice_to_show,
)


def test_colors() -> None:
    """Four voxels, one of each kind."""
    image = np.full((1, 4), 5.0)
    prediction = np.array([[1, 1, 0, 0]])
    reference = np.array([[1, 0, 1, 0]])

    picture = color_overlay(image, prediction, reference)

    assert tuple(picture[0, 0]) == TRUE_POSITIVE
    assert tuple(picture[0, 1]) == FALSE_POSITIVE
    assert tuple(picture[0, 2]) == FALSE_NEGATIVE
    assert tuple(picture[0, 3]) == (1, 1, 1)


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


def test_picture_has_a_panel_for_every_model(tmp_path: Path) -> None:
    """Red, green and yellow all appear in the saved picture."""
    image = np.random.default_rng(0).uniform(1, 2, (20, 24, 5))
    reference = np.zeros(image.shape)
    reference[4:9, 4:9, 2] = 1
    shifted = np.roll(reference, 2, axis=0)
    file = tmp_path / "case.png"

    save_overlays(
        file,
        image=image,
        reference=reference,
        predictions={"right": reference, "off": shifted},
    )

    pixels = matplotlib.image.imread(file)[..., :3].reshape(-1, 3)
    for color in (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE):
        assert (np.abs(pixels - color).max(axis=1) < 0.02).sum() > 50
