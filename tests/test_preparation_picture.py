"""The picture of a case: planes, outlines and sides."""

from __future__ import annotations

import io

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


@pytest.fixture
def case() -> tuple[Volume, Volume, Prepared]:
    """A brain with a lesion on the right, in thick slices, and what becomes of it."""
    x, y, z = np.indices((40, 50, 16))
    brain = ((x - 20) / 11) ** 2 + ((y - 25) / 14) ** 2 + ((z - 8) / 5) ** 2 < 1
    lesion = np.zeros(brain.shape, np.uint8)
    lesion[25:29, 24:28, 7:10] = 1
    image, label = Volume(np.where(brain, 500.0, 100), AFFINE), Volume(lesion, AFFINE)
    masked = crop(Volume(np.where(brain, 500.0, 0), AFFINE), BOX)
    return image, label, Prepared(masked, crop(label, BOX), brain, 9.0, BOX, [])


def draw(*case) -> np.ndarray:
    """Return the pixels of the picture, shape (H, W, 3)."""
    return matplotlib.image.imread(io.BytesIO(draw_picture("p1", *case)))


def positions(pixels: np.ndarray, color: str) -> np.ndarray:
    """Return row and column of the pixels of a color."""
    return np.argwhere(abs(pixels - to_rgb(color)).max(axis=2) < 0.15)


def test_outlines_of_brain_and_lesion(case) -> None:
    """Both are drawn in the original, the lesion in the prepared image, too."""
    pixels = draw(*case)

    brain, lesion = positions(pixels, BRAIN), positions(pixels, LESION)
    middle = pixels.shape[1] / 2
    assert len(brain) > 1000
    assert brain[brain[:, 0] < 280][:, 1].max() < middle
    assert (lesion[:, 1] > middle).any()
    assert (lesion[:, 1] < middle).any()
    # Slices of 3 mm are not squashed: the brain keeps its height and width.
    rows, columns = np.ptp(positions(pixels[:290, 260:500], BRAIN), axis=0)
    assert rows / columns == pytest.approx(2 * 5 * 3 / (2 * 11), rel=0.12)
    # A lesion on the right side is in the left half of the first panel.
    first = pixels[60:280, :245]
    columns = [positions(first, color)[:, 1].mean() for color in (LESION, BRAIN)]
    assert columns[0] < columns[1] - 10


def test_order_of_the_axes_does_not_matter(case) -> None:
    """The same head, stored upside down and mirrored, gives the same picture."""

    def turned(volume: Volume) -> Volume:
        turn = np.eye(4)[[1, 0, 2, 3]]
        turn[0] = [0, -1, 0, volume.voxels.shape[0] - 1]
        voxels = volume.voxels.transpose(1, 0, 2)[:, ::-1]
        return Volume(voxels, volume.affine @ turn)

    original, label, prepared = case
    other = prepared._replace(
        image=turned(prepared.image),
        label=turned(prepared.label),
        mask=turned(Volume(prepared.mask, AFFINE)).voxels,
    )

    again = draw(turned(original), turned(label), other)

    np.testing.assert_array_equal(draw(*case)[60:], again[60:])


def test_strange_intensities(case) -> None:
    """An empty prepared image and voxels that are not finite can be drawn."""
    original, _, prepared = case
    original.voxels[0, 0, :2] = np.nan, np.inf
    empty = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))

    pixels = draw(original, None, prepared._replace(image=empty, label=None))

    assert len(positions(pixels, BRAIN)) > 1000
