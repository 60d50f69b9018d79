"""The brain is where it is, whatever the grid of the image."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.preparation.bet import bet_mask
from nnunet_cel.volumes import Volume

pytest.importorskip("brainextractor", reason="the extra `bet`")

BRAIN = (63, 78, 60)  # half axes in mm
CENTER = (4.0, -18.0, 21.0)  # mm, so that the grids begin anywhere


def make_head(shape, affine) -> tuple[Volume, np.ndarray]:
    """Return a head and its brain: ellipsoids of brain, dark skull and bright scalp."""
    indices = np.moveaxis(np.indices(shape), 0, -1)
    position = indices @ affine[:3, :3].T + affine[:3, 3] - CENTER
    image = np.random.default_rng(7).normal(0, 8, shape)

    def ellipsoid(more: float) -> np.ndarray:
        return ((position / (np.array(BRAIN) + more)) ** 2).sum(axis=-1) < 1

    for more, intensity in ((13, 900), (7, 60), (2, 150), (0, 700), (-15, 850)):
        inside = ellipsoid(more)
        image[inside] = intensity + image[inside] % 16
    return Volume(abs(image).astype(np.float32), affine), ellipsoid(0)


def centered(shape, directions, spacing) -> np.ndarray:
    """Return the affine of a grid around the center of the head."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = CENTER - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def check(mask: np.ndarray, brain: np.ndarray, affine: np.ndarray) -> None:
    """Check overlap and, in voxels of 1 mm, place of a mask."""
    dice = 2 * (mask & brain).sum() / (mask.sum() + brain.sum())
    centers = [np.argwhere(m).mean(axis=0) @ affine[:3, :3].T for m in (mask, brain)]
    assert dice >= 0.97
    assert abs(centers[0] - centers[1]).max() < 0.5


@pytest.mark.slow
def test_brain_is_found(capfd: pytest.CaptureFixture[str]) -> None:
    """The mask of a head of 1 mm overlaps the brain, is not shifted, and is silent."""
    shape = (160, 190, 155)
    image, brain = make_head(shape, centered(shape, np.eye(3), (1, 1, 1)))

    check(bet_mask(image), brain, image.affine)
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_grid_does_not_matter() -> None:
    """Nor in a tilted, flipped, permuted head of thick slices that cut the brain."""
    a = np.deg2rad(15)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    shape = (200, 160, 38)
    directions = tilt[:, [1, 0, 2]] * [-1, 1, -1]
    image, brain = make_head(shape, centered(shape, directions, (1, 1, 3)))

    check(bet_mask(image), brain, image.affine)


@pytest.mark.parametrize("value", [0, 100])
def test_there_must_be_a_head(value: int) -> None:
    """An image without any differences is refused."""
    image = Volume(np.full((30, 30, 30), value, np.int16), np.eye(4))

    with pytest.raises(ValueError, match="must get an image of a head"):
        bet_mask(image)
