"""The picture of a case: planes, outlines and sides."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from nnunet_cel.preparation.picture import BRAIN, LESION, save_picture
from nnunet_cel.resampling import crop
from nnunet_cel.volumes import Volume

BOX = (slice(8, 32), slice(10, 40), slice(3, 13))


@pytest.fixture
def case() -> dict[str, object]:
    """A brain with a lesion on the right, in thick slices."""
    x, y, z = np.indices((40, 50, 16))
    brain = ((x - 20) / 11) ** 2 + ((y - 25) / 14) ** 2 + ((z - 8) / 5) ** 2 < 1
    lesion = np.zeros(brain.shape, np.uint8)
    lesion[25:29, 24:28, 7:10] = 1
    image = Volume(np.where(brain, 500.0, 100.0), np.diag([1.0, 1, 3, 1]))
    masked = Volume(np.where(brain, image.voxels, 0), image.affine)
    label = Volume(lesion, image.affine)
    return {
        "original": image,
        "mask": brain,
        "prepared": crop(masked, BOX),
        "label": label,
        "prepared_label": crop(label, BOX),
    }


def positions(file: Path, color: str) -> np.ndarray:
    """Return row and column of the pixels of a color."""
    pixels = matplotlib.image.imread(file)[..., :3]
    return np.argwhere(abs(pixels - to_rgb(color)).max(axis=2) < 0.15)


def test_outlines_of_brain_and_lesion(tmp_path: Path, case) -> None:
    """Both are drawn in the original, the lesion in the prepared image, too."""
    file = tmp_path / "p1.png"

    save_picture(file, title="p1", **case)

    brain, lesion = positions(file, BRAIN), positions(file, LESION)
    width = matplotlib.image.imread(file).shape[1]
    assert len(brain) > 1000
    assert brain[:, 1].max() < width
    upper = brain[brain[:, 0] < 280]
    assert upper[:, 1].max() < width / 2
    assert (lesion[:, 1] > width / 2).any()
    assert (lesion[:, 1] < width / 2).any()


def test_right_is_on_the_left(tmp_path: Path, case) -> None:
    """A lesion on the right side is in the left half of the first panel."""
    file = tmp_path / "p1.png"

    save_picture(file, title="p1", **case)

    first = (slice(60, 280), slice(0, 245))
    width = matplotlib.image.imread(file)[first].shape[1]
    columns = {
        color: [c for r, c in positions(file, color) if 60 < r < 280 and c < width]
        for color in (BRAIN, LESION)
    }
    assert np.mean(columns[LESION]) < np.mean(columns[BRAIN]) - 10


def test_voxels_have_their_size(tmp_path: Path, case) -> None:
    """Slices of 3 mm are not squashed: the brain keeps its height and width."""
    file = tmp_path / "p1.png"

    save_picture(file, title="p1", **{**case, "label": None, "prepared_label": None})

    found = positions(file, BRAIN)
    panel = found[(found[:, 0] < 290) & (found[:, 1] > 260) & (found[:, 1] < 500)]
    rows, columns = np.ptp(panel, axis=0)
    assert rows / columns == pytest.approx(2 * 5 * 3 / (2 * 11), rel=0.12)


def test_order_of_the_axes_does_not_matter(tmp_path: Path, case) -> None:
    """The same head, stored upside down and mirrored, gives the same picture."""

    def turned(volume: Volume) -> Volume:
        affine = volume.affine @ np.array(
            [
                [0, -1, 0, volume.voxels.shape[0] - 1],
                [1, 0, 0, 0],
                [0, 0, 1, 0],
                [0, 0, 0, 1],
            ]
        )
        return Volume(volume.voxels.transpose(1, 0, 2)[:, ::-1], affine)

    other = {
        name: turned(value) if isinstance(value, Volume) else value
        for name, value in case.items()
    }
    other["mask"] = case["mask"].transpose(1, 0, 2)[:, ::-1]
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, arguments in zip(files, (case, other), strict=True):
        save_picture(file, title="p1", **arguments)

    first, second = (matplotlib.image.imread(file)[60:] for file in files)
    np.testing.assert_array_equal(first, second)


def test_same_bytes_twice(tmp_path: Path, case) -> None:
    """A picture depends on nothing but the case."""
    for name in ("a.png", "b.png"):
        save_picture(tmp_path / name, title="p1", **case)

    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("title", ["$x_1", "病人_1", "a" * 80])
def test_any_title(tmp_path: Path, case, title: str) -> None:
    """Names that are no formulas and no Latin do not stop the picture."""
    save_picture(tmp_path / "p.png", title=title, **case)

    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_strange_intensities(tmp_path: Path, case) -> None:
    """An empty prepared image and voxels that are not finite can be drawn."""
    voxels = case["original"].voxels.copy()
    voxels[0, 0, 0], voxels[1, 1, 1] = np.nan, np.inf
    empty = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4))
    strange = {"original": Volume(voxels, np.diag([1.0, 1, 3, 1])), "prepared": empty}

    save_picture(tmp_path / "p.png", title="p", mask=case["mask"], **strange)

    assert len(positions(tmp_path / "p.png", BRAIN)) > 1000
