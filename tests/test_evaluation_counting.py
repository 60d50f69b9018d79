"""Tests of counting lesions without a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnunet_cel.evaluation.counting import count_lesions
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.volumes import Volume, write_volume

PAPER = load_protocol("paper")
AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Label maps with lesions of 4 and 3 voxels and a speck, and without lesions."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    voxels = np.zeros((3, 8, 6), dtype=np.uint8)
    voxels[0, 0:3, 0] = voxels[1, 4:8, 4] = voxels[2, 0, 5] = 1
    write_volume(folder / "A_01.nii.gz", Volume(voxels, AFFINE))
    write_volume(folder / "B_02.nii.gz", Volume(voxels * 0, AFFINE))
    return folder


def write_image(folder: Path, name: str, scale: float) -> None:
    """Write an image whose intensity grows along y."""
    folder.mkdir(exist_ok=True)
    voxels = scale * np.broadcast_to(np.arange(8.0)[:, None], (3, 8, 6))
    write_volume(folder / name, Volume(voxels.astype(np.float32), AFFINE))


def test_lesions_and_volumes_by_hand(predictions: Path) -> None:
    """The largest lesion comes first, the speck is dropped, voxels have 2 mm3."""
    lesions, cases = count_lesions(predictions, PAPER)

    assert lesions[["case", "lesion", "voxels"]].to_numpy().tolist() == [
        ["A_01", 1, 4],
        ["A_01", 2, 3],
    ]
    assert list(lesions["volume_mm3"]) == [8, 6]
    assert list(lesions["centroid_y_mm"]) == [5.5, 1]
    assert list(lesions["centroid_x_mm"]) == [2, 0]
    assert cases.to_numpy().tolist() == [
        ["A_01", 2, 0.014, 1, 0.002],
        ["B_02", 0, 0, 0, 0],
    ]
    assert list(cases) == ["case", "lesions", "volume_ml", "dropped", "dropped_ml"]


def test_intensities_of_all_channels(predictions: Path, tmp_path: Path) -> None:
    """Each channel has a column with the mean over the lesion; no number will do."""
    for case in ("A_01", "B_02"):
        write_image(tmp_path / "a", f"{case}_0000.nii.gz", 1)
        write_image(tmp_path / "a", f"{case}_0001.nii.gz", 10)
        write_image(tmp_path / "b", f"{case}.nii", 1)

    lesions, _ = count_lesions(predictions, PAPER, images=tmp_path / "a")

    assert list(lesions["intensity_0000"]) == [5.5, 1]
    assert list(lesions["intensity_0001"]) == [55, 10]
    lesions, _ = count_lesions(predictions, PAPER, images=tmp_path / "b")
    assert list(lesions["intensity"]) == [5.5, 1]


def test_all_bad_cases_are_listed(predictions: Path, tmp_path: Path) -> None:
    """A damaged label map and an image on another grid are told together."""
    images = tmp_path / "images"
    images.mkdir()
    other = Volume(np.zeros((2, 2, 2), np.float32), AFFINE)
    write_volume(images / "A_01_0000.nii.gz", other)
    write_image(images, "B_02_0000.nii.gz", 1)
    (predictions / "B_02.nii.gz").write_bytes(b"no image")

    with pytest.raises(ValueError, match="2 cases have problems") as caught:
        count_lesions(predictions, PAPER, images=images)
    assert "A_01_0000" in str(caught.value)
    assert "B_02.nii.gz cannot be read" in str(caught.value)


def test_label_can_be_chosen(predictions: Path) -> None:
    """Another lesion label counts other voxels."""
    _, cases = count_lesions(predictions, PAPER, label=3)

    assert list(cases["lesions"]) == [0, 0]
