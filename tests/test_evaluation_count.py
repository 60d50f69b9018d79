"""Tests of counting lesions without a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, write_volume

AFFINE = np.diag([1.0, 2.0, 1.0, 1.0])


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Label maps with lesions of 4 and 3 voxels and a speck, and without lesions."""
    voxels = np.zeros((3, 8, 6), dtype=np.uint8)
    voxels[0, 0:3, 0] = voxels[1, 4:8, 4] = voxels[2, 0, 5] = 1
    folder = tmp_path / "predictions"
    folder.mkdir()
    write_volume(folder / "A_01.nii.gz", Volume(voxels, AFFINE))
    write_volume(folder / "B_02.nii.gz", Volume(voxels * 0, AFFINE))
    return folder


def write_image(folder: Path, name: str, scale: float) -> None:
    """Write an image whose intensity grows along y."""
    folder.mkdir(exist_ok=True)
    voxels = scale * np.broadcast_to(np.arange(8.0)[:, None], (3, 8, 6))
    write_volume(folder / name, Volume(voxels.astype(np.float32), AFFINE))


def count(predictions: Path, *options: object) -> int:
    """Write both tables beside the predictions."""
    folder = predictions.parent
    files = ("-o", folder / "lesions.csv", "--cases", folder / "cases.csv", "-np", 1)
    return cli.main(list(map(str, ["lesions", predictions, *files, *options])))


def test_lesions_and_volumes_by_hand(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The largest lesion comes first, the speck is dropped, voxels have 2 mm3."""
    assert count(predictions) == 0

    assert "\nA_01        2 0.014\nB_02        0 0.000" in capsys.readouterr().out
    lesions = pd.read_csv(tmp_path / "lesions.csv")
    columns = ["case", "lesion", "voxels", "volume_mm3", "centroid_x_mm"]
    assert lesions[columns].to_numpy().tolist() == [
        ["A_01", 1, 4, 8, 1],
        ["A_01", 2, 3, 6, 0],
    ]
    assert list(lesions["centroid_y_mm"]) == [11, 2]
    text = "case,lesions,volume_ml,dropped,dropped_ml\nA_01,2,0.014,1,0.002\n"
    assert (tmp_path / "cases.csv").read_text() == f"{text}B_02,0,0,0,0\n"
    assert count(predictions) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert count(predictions, "--overwrite", "--label", 3) == 0
    assert list(pd.read_csv(tmp_path / "cases.csv")["lesions"]) == [0, 0]
    assert pd.read_csv(tmp_path / "lesions.csv").empty
    assert count(predictions, "--overwrite", "--cases", tmp_path / "lesions.csv") == 1
    assert "different files" in capsys.readouterr().err


def test_intensities_of_all_channels(predictions: Path, tmp_path: Path) -> None:
    """Each channel has a column with the mean over the lesion; no number will do."""
    for case in ("A_01", "B_02"):
        write_image(tmp_path / "a", f"{case}_0000.nii.gz", 1)
        write_image(tmp_path / "a", f"{case}_0001.nii.gz", 10)
        write_image(tmp_path / "b", f"{case}.nii", 1)

    for folder, columns in (
        ("a", {"intensity_0000": [5.5, 1], "intensity_0001": [55, 10]}),
        ("b", {"intensity": [5.5, 1]}),
    ):
        assert count(predictions, "--images", tmp_path / folder, "--overwrite") == 0
        lesions = pd.read_csv(tmp_path / "lesions.csv")
        assert lesions.filter(like="intensity").to_dict("list") == columns


def test_all_bad_images_are_listed(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged label map and an image on another grid are told together."""
    write_image(tmp_path / "images", "B_02_0000.nii.gz", 1)
    image = Volume(np.zeros((2, 2, 2), np.float32), AFFINE)
    write_volume(tmp_path / "images" / "A_01_0000.nii.gz", image)
    (predictions / "B_02.nii.gz").write_bytes(b"no image")

    assert count(predictions, "--images", tmp_path / "images") == 1
    message = capsys.readouterr().err
    assert "2 cases have problems" in message
    assert message.index("A_01_0000") < message.index("B_02.nii.gz cannot be read")
    assert not (tmp_path / "lesions.csv").exists()
