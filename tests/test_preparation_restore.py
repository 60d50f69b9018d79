"""Label maps come back to where the lesion was outlined."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nnunet_cel.phantom.layouts import write_dicom
from nnunet_cel.preparation import command, restore
from nnunet_cel.volumes import Volume, read_label_map, read_volume, write_volume

SHAPE = (70, 62, 24)
AFFINE = np.eye(4)  # of coronal slices of 3 mm, tilted and stored backwards
AXES = Rotation.from_euler("xz", [17, -9], degrees=True).as_matrix()
AFFINE[:3, :3] = AXES[:, [0, 2, 1]] * [-1.2, 1.2, 3]
AFFINE[:3, 3] = (31, -44, 12)
AFFINE = AFFINE.astype(np.float32).astype(float)  # as a file keeps it


def make_case() -> tuple[Volume, Volume, Volume]:
    """Return a head, its brain mask, and two lesions of some voxels across."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = x**2 + y**2 + z**2 < 0.6
    label = np.zeros(SHAPE, np.uint8)
    i, j, k = np.indices(SHAPE)
    label[(i - 30) ** 2 + (j - 25) ** 2 + 9 * (k - 12) ** 2 < 7**2] = 1
    label[(i - 45) ** 2 + (j - 40) ** 2 + 6 * (k - 11) ** 2 < 3**2] = 2
    image = np.where(mask, 500, 200).astype(np.int16)
    return Volume(image, AFFINE), Volume(mask, AFFINE), Volume(label, AFFINE)


def run(*arguments: object, of: Any = restore) -> int:
    """Run the command, or another one, in this process."""
    parser = argparse.ArgumentParser()
    of.add_arguments(parser)
    return of.run(parser.parse_args([*map(str, arguments)]))


def prepare(*arguments: object) -> None:
    """Run the command that prepares images."""
    run(*arguments, "--no-progress", "-np", 1, of=command)


@pytest.fixture(autouse=True)
def _prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with ``scans`` and ``outlines``, and ``prepared`` at 1 mm."""
    monkeypatch.chdir(tmp_path)
    for folder, volume in zip(("scans", "masks", "outlines"), make_case(), strict=True):
        Path(folder).mkdir()
        write_volume(f"{folder}/p1.nii.gz", volume)
    prepare("scans", "prepared", "--labels", "outlines", "--brain-mask", "masks")


def test_round_trip(capsys: pytest.CaptureFixture[str]) -> None:
    """A label goes to 1 mm and back, by the image or by the record of its transform.

    With the image's own voxels the label map comes back as it was.
    """
    status = run("prepared/labels", "scans", "-o", "back")

    assert status == 0
    assert capsys.readouterr().out.endswith("Restored 1 label map to back\n")
    back, label = read_label_map("back/p1.nii.gz"), make_case()[2]
    np.testing.assert_array_equal(back.affine, AFFINE)
    for value in (1, 2):
        one, two = back.voxels == value, label.voxels == value
        assert 2 * (one & two).sum() / (one.sum() + two.sum()) >= 0.95

    records = ("prepared", "prepared/transforms", "prepared/transforms/p1.json")
    for original in ("scans/p1.nii.gz", *records):
        run("prepared/labels/p1.nii.gz", original, "-o", "one.nii.gz", "--overwrite")
        assert Path("one.nii.gz").read_bytes() == Path("back/p1.nii.gz").read_bytes()

    options = ("--labels", "outlines", "--no-strip", "--keep-spacing")
    prepare("scans", "native", *options)
    run("native/labels", "scans", "-o", "same")
    same = read_label_map("same/p1.nii.gz")
    np.testing.assert_array_equal(same.voxels, label.voxels)


def test_dicom_series_there_and_back() -> None:
    """A folder of slices is a case, and its labels are returned to its voxels."""
    Path("dicom").mkdir()
    series = Path("dicom/patient 7")
    write_dicom(series, Volume(np.ones((5, 6, 8)), AFFINE), "Doe_Jane")
    prepare("dicom", "out", "--no-strip", "--keep-spacing")
    prepared = read_volume("out/images/patient 7_0000.nii.gz")
    assert prepared.spacing == pytest.approx((1.2, 1.2, 3), abs=1e-4)
    label = np.zeros(prepared.voxels.shape, np.uint8)
    label[2:5, 3, 1:3] = 1
    flipped = prepared.affine @ np.diag([-1, 1, 1, 1])
    flipped[:3, 3] += (len(label) - 1) * prepared.affine[:3, 0]
    write_volume("label.nii.gz", Volume(label[::-1], flipped))

    run("label.nii.gz", series)

    back = read_label_map("label_restored.nii.gz")
    np.testing.assert_array_equal(back.voxels, label)
    np.testing.assert_allclose(back.affine, read_volume(series).affine, atol=1e-6)


def test_prediction_folder_of_nnunet() -> None:
    """Its JSON files are no label maps; those without an original are all named."""
    folder = Path("prepared/labels").rename("predictions")
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
        (folder / name).write_text("{}")

    run(folder, "prepared", "-o", "back")

    names = {path.name for path in Path("back").iterdir()}
    assert names == {"p1.nii.gz", "restoration.json"}
    for name in ("p2", "p3"):
        write_volume(f"predictions/{name}.nii.gz", make_case()[2])
    with pytest.raises(ValueError, match=r"Got none for\n.*p2\.nii.*\n.*p3\.nii"):
        run(folder, "scans", "-o", "other")
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("original", "message"),
    [
        ("scans", r"p1\.nii\.gz must lie where its original"),
        ("prepared", r"p1\.nii\.gz must be on the grid of the prepared image"),
    ],
)
def test_label_map_of_another_place(original: str, message: str) -> None:
    """Grids without a common part of the world, or of another image, are refused."""
    away = AFFINE.copy()
    away[0, 3] += 500
    write_volume("p1.nii.gz", make_case()[2]._replace(affine=away))

    with pytest.raises(ValueError, match=message):
        run("p1.nii.gz", original)

    assert not Path("p1_restored.nii.gz").exists()


def test_nothing_is_overwritten_unasked() -> None:
    """What is alike is replaced on request; a folder needs a name, a file an ending."""
    labels = "prepared/labels"
    file = (f"{labels}/p1.nii.gz", "scans")
    run(*file, "-o", "a.nii.gz")
    run(labels, "scans", "-o", "back")
    for arguments in ((*file, "-o", "a.nii.gz"), (labels, "scans", "-o", "back")):
        with pytest.raises((FileExistsError, ValueError), match="--overwrite"):
            run(*arguments)
        assert run(*arguments, "--overwrite") == 0
    for folder in ("scans", "prepared"):
        with pytest.raises((FileExistsError, ValueError), match=r"[Cc]hoose another"):
            run(labels, "scans", "-o", folder, "--overwrite")
    with pytest.raises(ValueError, match="none that is read"):
        run(*file, "-o", file[0], "--overwrite")
    with pytest.raises(ValueError, match=r"ends in \.nii\.gz or \.nii, and"):
        run(*file, "-o", "back", "--overwrite")
    with pytest.raises(ValueError, match="add -o OUT"):
        run(labels, "scans")


def test_linking_table_tells_whose_prediction_it_is() -> None:
    """Cases with neutral names come back under the names of the scans."""
    Path("prepared/labels").rename("predictions")
    label = Path("predictions/p1.nii.gz").rename("predictions/CEL_007.nii.gz")
    Path("linking.csv").write_text(
        "case,split,subject,source\nCEL_007,test,p,p1\n,,q,q1\n"
    )
    arguments = ("predictions", "scans", "-o", "out", "--linking-table", "linking.csv")

    run(*arguments)

    assert Path("out/p1.nii.gz").is_file()
    label.rename("predictions/CEL_008.nii.gz")
    with pytest.raises(ValueError, match=r"linking\.csv.*no line for CEL_008"):
        run(*arguments, "--overwrite")


@pytest.mark.parametrize("content", ['{"original": {"shape": [1, 2]}}', "[1", "[]"])
def test_other_json_files_are_no_transform(content: str) -> None:
    """The message says to name the original image itself."""
    Path("other.json").write_text(content)

    with pytest.raises(ValueError, match=r"other\.json must be a transform"):
        run("prepared/labels/p1.nii.gz", "other.json")
