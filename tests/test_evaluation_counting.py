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
    found = count_lesions(predictions, PAPER)

    assert found.lesions[["case", "lesion", "voxels"]].to_numpy().tolist() == [
        ["A_01", 1, 4],
        ["A_01", 2, 3],
    ]
    assert list(found.lesions["volume_mm3"]) == [8, 6]
    assert list(found.lesions["centroid_y_mm"]) == [5.5, 1]
    assert list(found.lesions["centroid_x_mm"]) == [2, 0]
    assert found.cases.to_dict("records") == [
        {
            "case": "A_01",
            "lesions": 2,
            "volume_ml": 0.014,
            "dropped": 1,
            "dropped_ml": 0.002,
        },
        {"case": "B_02", "lesions": 0, "volume_ml": 0, "dropped": 0, "dropped_ml": 0},
    ]


def test_intensities_of_all_channels(predictions: Path, tmp_path: Path) -> None:
    """Each channel has a column with the mean over the lesion."""
    images = tmp_path / "images"
    for case in ("A_01", "B_02"):
        write_image(images, f"{case}_0000.nii.gz", 1)
        write_image(images, f"{case}_0001.nii.gz", 10)

    lesions = count_lesions(predictions, PAPER, images=images).lesions

    assert list(lesions["intensity_0000"]) == [5.5, 1]
    assert list(lesions["intensity_0001"]) == [55, 10]


def test_images_without_channel_number(predictions: Path, tmp_path: Path) -> None:
    """Images named like their case will do."""
    for case in ("A_01", "B_02"):
        write_image(tmp_path / "images", f"{case}.nii", 1)

    lesions = count_lesions(predictions, PAPER, images=tmp_path / "images").lesions

    assert list(lesions["intensity"]) == [5.5, 1]


def test_missing_images_are_listed(predictions: Path, tmp_path: Path) -> None:
    """All cases without an image are named."""
    images = tmp_path / "images"
    images.mkdir()

    with pytest.raises(ValueError, match="none of A_01, B_02"):
        count_lesions(predictions, PAPER, images=images)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        count_lesions(predictions, PAPER, images=tmp_path / "nowhere")


def test_all_bad_cases_are_listed(predictions: Path, tmp_path: Path) -> None:
    """A damaged label map and an image on another grid are told together."""
    images = tmp_path / "images"
    write_image(images, "A_01_0000.nii.gz", 1)
    write_volume(
        images / "A_01_0000.nii.gz", Volume(np.zeros((2, 2, 2), np.float32), AFFINE)
    )
    write_image(images, "B_02_0000.nii.gz", 1)
    (predictions / "B_02.nii.gz").write_bytes(b"no image")

    with pytest.raises(ValueError, match="2 cases have problems") as caught:
        count_lesions(predictions, PAPER, images=images)
    assert "A_01_0000" in str(caught.value)
    assert "B_02.nii.gz cannot be read" in str(caught.value)


def test_processes_give_the_same(predictions: Path) -> None:
    """Two processes find what one does."""
    alone = count_lesions(predictions, PAPER)
    together = count_lesions(predictions, PAPER, processes=2)

    assert alone.lesions.equals(together.lesions)
    assert alone.cases.equals(together.cases)


def test_label_can_be_chosen(predictions: Path) -> None:
    """Another lesion label counts other voxels."""
    found = count_lesions(predictions, PAPER, label=3)

    assert list(found.cases["lesions"]) == [0, 0]
