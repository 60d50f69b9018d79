"""Label maps come back to where the lesion was outlined."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_cel.preparation import command, restore
from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.preparation.pipeline import Settings
from nnunet_cel.volumes import Volume, read_label_map, read_volume, write_volume

SHAPE = (70, 62, 24)


def oblique() -> np.ndarray:
    """Return the affine of coronal slices of 3 mm, tilted and stored backwards."""
    a, b = np.deg2rad((17, -9))
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ tilt)[:, [0, 2, 1]] * [-1.2, 1.2, 3]
    affine[:3, 3] = (31, -44, 12)
    # as a file keeps it
    return affine.astype(np.float32).astype(float)


AFFINE = oblique()


def make_case() -> tuple[Volume, np.ndarray, Volume]:
    """Return a head, its brain mask, and two lesions of some voxels across."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = x**2 + y**2 + z**2 < 0.6
    label = np.zeros(SHAPE, np.uint8)
    i, j, k = np.indices(SHAPE)
    label[(i - 30) ** 2 + (j - 25) ** 2 + 9 * (k - 12) ** 2 < 7**2] = 1
    label[(i - 45) ** 2 + (j - 40) ** 2 + 6 * (k - 11) ** 2 < 3**2] = 2
    image = np.where(mask, 500, 200).astype(np.int16)
    return Volume(image, AFFINE), mask, Volume(label, AFFINE)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice coefficient of two masks."""
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def run(*arguments: object) -> int:
    """Run the command in this process."""
    parser = argparse.ArgumentParser()
    restore.add_arguments(parser)
    return restore.run(parser.parse_args([*map(str, arguments)]))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A root with ``scans`` and ``outlines``, and ``prepared`` at 1 mm."""
    image, mask, label = make_case()
    for folder, volume in (("scans", image), ("masks", Volume(mask, AFFINE))):
        (tmp_path / folder).mkdir()
        write_volume(tmp_path / folder / "p1.nii.gz", volume)
    (tmp_path / "outlines").mkdir()
    write_volume(tmp_path / "outlines/p1.nii.gz", label)
    prepare(tmp_path, "prepared", (1.0, 1.0, 1.0))
    return tmp_path


def prepare(root: Path, out: str, spacing: tuple[float, float, float] | None) -> None:
    """Prepare the image with its label map and the given brain mask."""
    command.prepare_images(
        root / "scans",
        root / out,
        Settings(BrainExtraction("mask", root / "masks"), spacing=spacing),
        labels=root / "outlines",
    )


def test_round_trip(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A label goes to 1 mm and back, and nearly all voxels are the same."""
    status = run(
        *(prepared / "prepared/labels", prepared / "scans", "-o", prepared / "back")
    )

    assert status == 0
    back = read_label_map(prepared / "back/p1.nii.gz")
    _, _, label = make_case()
    np.testing.assert_array_equal(back.affine, AFFINE)
    for value in (1, 2):
        assert dice(back.voxels == value, label.voxels == value) >= 0.95
    assert capsys.readouterr().out == f"Restored 1 label map to {prepared / 'back'}\n"


def test_round_trip_without_resampling(prepared: Path) -> None:
    """With the image's own voxels the label map comes back as it was."""
    prepare(prepared, "native", None)

    run(prepared / "native/labels", prepared / "scans", "-o", prepared / "back")

    back = read_label_map(prepared / "back/p1.nii.gz")
    np.testing.assert_array_equal(back.voxels, make_case()[2].voxels)


@pytest.mark.parametrize(
    "original", ["scans", "scans/p1.nii.gz", "prepared", "prepared/transforms"]
)
def test_original_or_its_record(prepared: Path, original: str) -> None:
    """The image and the record of its transform give the same file, bit for bit."""
    label = prepared / "prepared/labels/p1.nii.gz"
    run(label, prepared / "prepared/transforms/p1.json", "-o", prepared / "a.nii.gz")

    run(label, prepared / original, "-o", prepared / "b.nii.gz")

    assert (prepared / "a.nii.gz").read_bytes() == (prepared / "b.nii.gz").read_bytes()


def test_dicom_series_is_an_original(prepared: Path) -> None:
    """A label map on the voxels of a series is returned to them."""
    series = prepared / "series"
    series.mkdir()
    volume = sitk.GetImageFromArray(np.zeros((5, 8, 7), np.int16))
    volume.SetSpacing((1, 1, 3))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(5):
        one = volume[:, :, index]
        for key, value in {
            "0008|0060": "MR",
            "0008|0018": f"1.2.3.{index + 1}",
            "0020|000d": "1.2",
            "0020|000e": "1.2.3",
            "0020|0013": str(index),
            "0020|0032": f"-10\\20\\{3 * index}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|0030": "1\\1",
        }.items():
            one.SetMetaData(key, value)
        writer.SetFileName(str(series / f"{index}.dcm"))
        writer.Execute(one)
    affine = read_volume(series).affine
    label = np.zeros((7, 8, 5), np.uint8)
    label[2:5, 3, 1:3] = 1
    flipped = affine @ np.diag([-1, 1, 1, 1])
    flipped[:3, 3] += 6 * affine[:3, 0]
    write_volume(prepared / "label.nii.gz", Volume(label[::-1], flipped))

    run(prepared / "label.nii.gz", series)

    back = read_label_map(prepared / "label_restored.nii.gz")
    np.testing.assert_array_equal(back.voxels, label)
    np.testing.assert_allclose(back.affine, affine, atol=1e-6)


def test_prediction_folder_of_nnunet(prepared: Path) -> None:
    """Its JSON files are not label maps, and the folder of `prepare` is an original."""
    folder = prepared / "predictions"
    (prepared / "prepared/labels").rename(folder)
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
        (folder / name).write_text("{}")

    run(folder, prepared / "prepared", "-o", prepared / "back")

    assert (prepared / "back" / "p1.nii.gz").is_file()
    assert len(list((prepared / "back").iterdir())) == 2  # and the record


def test_originals_are_missing(prepared: Path) -> None:
    """All label maps without an original are named, and nothing is written."""
    folder = prepared / "prepared/labels"
    label = read_label_map(folder / "p1.nii.gz")
    for name in ("p2", "p3"):
        write_volume(folder / f"{name}.nii.gz", label)

    with pytest.raises(ValueError, match=r"2 of 3 have none:\n.*p2\.nii.*\n.*p3\.nii"):
        run(folder, prepared / "scans", "-o", prepared / "back")

    assert not (prepared / "back").exists()


def test_label_map_of_another_place(prepared: Path) -> None:
    """Grids without a common part of the world are an error."""
    away = AFFINE.copy()
    away[0, 3] += 500
    write_volume(prepared / "p1.nii.gz", make_case()[2]._replace(affine=away))

    with pytest.raises(ValueError, match=r"p1\.nii\.gz must lie where its original"):
        run(prepared / "p1.nii.gz", prepared / "scans")

    assert not (prepared / "p1_restored.nii.gz").exists()


def test_nothing_is_overwritten_unasked(prepared: Path) -> None:
    """Files and folders are replaced on request, and only by what is alike."""
    labels = prepared / "prepared/labels"
    file = (labels / "p1.nii.gz", prepared / "scans")
    for arguments, out in (
        ((*file, "-o", prepared / "a.nii.gz"), prepared / "a.nii.gz"),
        ((labels, prepared / "scans", "-o", prepared / "back"), prepared / "back"),
    ):
        run(*arguments)
        with pytest.raises(FileExistsError, match="--overwrite"):
            run(*arguments)
        run(*arguments, "--overwrite")
        assert out.exists()
    for folder in ("scans", "prepared"):
        with pytest.raises((FileExistsError, ValueError), match=r"[Cc]hoose another"):
            run(labels, prepared / "scans", "-o", prepared / folder, "--overwrite")
    with pytest.raises(ValueError, match="must not take the place of"):
        run(*file, "-o", file[0], "--overwrite")


def test_where_to_write(prepared: Path) -> None:
    """A folder needs a name, a file an ending."""
    labels = prepared / "prepared/labels"
    with pytest.raises(ValueError, match="add -o OUT"):
        run(labels, prepared / "scans")
    with pytest.raises(ValueError, match=r"ends in \.nii\.gz or \.nii\. Got"):
        run(labels / "p1.nii.gz", prepared / "scans", "-o", prepared / "back")


def test_linking_table_tells_whose_prediction_it_is(prepared: Path) -> None:
    """Cases with neutral names come back under the names of the scans."""
    (prepared / "predictions").mkdir()
    label = (prepared / "prepared/labels/p1.nii.gz").read_bytes()
    (prepared / "predictions/CEL_007.nii.gz").write_bytes(label)
    table = prepared / "linking.csv"
    table.write_text("case,split,subject,source\nCEL_007,test,p,p1\n,,q,q1\n")
    arguments = (prepared / "predictions", prepared / "scans", "-o", prepared / "out")

    run(*arguments, "--linking-table", table)

    assert {path.name for path in (prepared / "out").iterdir()} == {
        "p1.nii.gz",
        "restoration.json",
    }
    (prepared / "predictions/CEL_008.nii.gz").write_bytes(label)
    with pytest.raises(ValueError, match=r"linking\.csv.*no line for CEL_008"):
        run(*arguments, "--linking-table", table, "--overwrite")
