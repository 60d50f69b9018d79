"""The picture of a case: planes, outlines and sides."""

from __future__ import annotations

import io
from typing import NamedTuple

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nnunet_cel.preparation.picture import BRAIN, LESION, draw_picture
from nnunet_cel.preparation.pipeline import Prepared
from nnunet_cel.resampling import crop
from nnunet_cel.volumes import Volume

BOX = (slice(8, 32), slice(10, 40), slice(3, 13))
AFFINE = np.diag([1.0, 1, 3, 1])


class Case(NamedTuple):
    """What is drawn."""

    original: Volume
    label: Volume | None
    prepared: Prepared


@pytest.fixture
def case() -> Case:
    """A brain with a lesion on the right, in thick slices."""
    x, y, z = np.indices((40, 50, 16))
    brain = ((x - 20) / 11) ** 2 + ((y - 25) / 14) ** 2 + ((z - 8) / 5) ** 2 < 1
    lesion = np.zeros(brain.shape, np.uint8)
    lesion[25:29, 24:28, 7:10] = 1
    image, label = Volume(np.where(brain, 500.0, 100), AFFINE), Volume(lesion, AFFINE)
    masked = crop(Volume(np.where(brain, 500.0, 0), AFFINE), BOX)
    return Case(image, label, Prepared(masked, crop(label, BOX), brain, BOX, []))


def draw(case: Case) -> np.ndarray:
    """Return the pixels of the picture, shape (H, W, 3)."""
    return matplotlib.image.imread(io.BytesIO(draw_picture("p1", *case)))


def positions(pixels: np.ndarray, color: str) -> np.ndarray:
    """Return row and column of the pixels of a color."""
    return np.argwhere(abs(pixels - to_rgb(color)).max(axis=2) < 0.15)


def test_outlines_of_brain_and_lesion(case: Case) -> None:
    """Both are drawn in the original, the lesion in the prepared image, too."""
    pixels = draw(case)

    brain, lesion = positions(pixels, BRAIN), positions(pixels, LESION)
    middle = pixels.shape[1] / 2
    assert len(brain) > 1000
    assert brain[brain[:, 0] < 280][:, 1].max() < middle
    assert (lesion[:, 1] > middle).any()
    assert (lesion[:, 1] < middle).any()
    # a lesion on the right side is in the left half of the first panel
    first = pixels[60:280, :245]
    columns = [positions(first, color)[:, 1].mean() for color in (LESION, BRAIN)]
    assert columns[0] < columns[1] - 10


def test_voxels_have_their_size(case: Case) -> None:
    """Slices of 3 mm are not squashed: the brain keeps its height and width."""
    pixels = draw(case._replace(label=None))

    rows, columns = np.ptp(positions(pixels[:290, 260:500], BRAIN), axis=0)
    assert rows / columns == pytest.approx(2 * 5 * 3 / (2 * 11), rel=0.12)


def test_order_of_the_axes_does_not_matter(case: Case) -> None:
    """The same head, stored upside down and mirrored, gives the same picture."""

    def turned(volume: Volume) -> Volume:
        turn = np.eye(4)[[1, 0, 2, 3]]
        turn[0] = [0, -1, 0, volume.voxels.shape[0] - 1]
        voxels = volume.voxels.transpose(1, 0, 2)[:, ::-1]
        return Volume(voxels, volume.affine @ turn)

    prepared = case.prepared._replace(
        image=turned(case.prepared.image),
        label=turned(case.prepared.label),
        mask=turned(Volume(case.prepared.mask, AFFINE)).voxels,
    )
    other = Case(turned(case.original), turned(case.label), prepared)

    first, second = (draw(one)[60:] for one in (case, other))
    np.testing.assert_array_equal(first, second)


def test_strange_intensities(case: Case) -> None:
    """An empty prepared image and voxels that are not finite can be drawn."""
    voxels = case.original.voxels.copy()
    voxels[0, 0, 0], voxels[1, 1, 1] = np.nan, np.inf
    empty = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))
    prepared = case.prepared._replace(image=empty, label=None)
    strange = Case(Volume(voxels, AFFINE), None, prepared)

    assert len(positions(draw(strange), BRAIN)) > 1000
    np.testing.assert_array_equal(draw(strange), draw(strange))
