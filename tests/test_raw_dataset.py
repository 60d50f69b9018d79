"""Raw data sets of nnU-Net: layout, header, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_cel.dataset_conversion.raw_dataset import (
    RawCase,
    dataset_folder,
    rename_case,
    write_case,
    write_raw_dataset,
)
from nnunet_cel.volumes import Volume, read_volume

AFFINE = np.array(
    [[0.0, -1.5, 0.0, 10.0], [1.2, 0.0, 0.0, -4.0], [0.0, 0.0, 2.0, 3.0], [0, 0, 0, 1]]
)


def make_case(number: int, split: Any = "train") -> RawCase:
    """Return a case with a small lesion."""
    rng = np.random.default_rng(number)
    image = rng.normal(100, 10, (8, 9, 7)).astype(np.float32)
    label = np.zeros(image.shape, dtype=np.uint8)
    label[3:5, 4, 2:4] = 1
    name = f"case_{number:02d}"
    return RawCase(name, Volume(image, AFFINE), Volume(label, AFFINE), split)


def write(folder: Path, cases: Any = None, *, overwrite: bool = False) -> Path:
    """Write two training cases and a test case, or ``cases``."""
    if cases is None:
        cases = [make_case(1), make_case(2), make_case(3, "test")]
    extra = {"licence": "CC0"}
    return write_raw_dataset(
        folder, cases, channel="FLAIR", extra=extra, overwrite=overwrite
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the data set is to be."""
    return tmp_path / "raw" / "Dataset501_Test"


def test_layout_is_that_of_nnunet(place: Path) -> None:
    """Images, labels and the header lie where nnU-Net looks for them."""
    write(place)

    assert sorted(contents(place)) == [
        "dataset.json",
        *(f"imagesTr/case_{i}_0000.nii.gz" for i in ("01", "02")),
        "imagesTs/case_03_0000.nii.gz",
        *(f"labelsTr/case_{i}.nii.gz" for i in ("01", "02")),
        "labelsTs/case_03.nii.gz",
    ]
    assert json.loads((place / "dataset.json").read_text()) == {
        "channel_names": {"0": "FLAIR"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "licence": "CC0",
    }
    case = make_case(1)
    for file, volume in (("images", case.image), ("labels", case.label)):
        (stored, *_) = sorted((place / f"{file}Tr").iterdir())
        written = read_volume(stored)
        np.testing.assert_array_equal(written.voxels, volume.voxels)
        np.testing.assert_allclose(written.affine, AFFINE, atol=1e-6)
        assert written.voxels.dtype == volume.voxels.dtype


def test_same_cases_give_same_bytes(place: Path) -> None:
    """Nothing such as the time gets into the files, and nothing old stays."""
    first = contents(write(place))

    with pytest.raises(FileExistsError, match="add --overwrite"):
        write(place, [make_case(9)])
    assert contents(place) == first
    write(place, [make_case(9)], overwrite=True)
    assert contents(write(place, overwrite=True)) == first
    assert [path.name for path in place.parent.iterdir()] == [place.name]


@pytest.mark.parametrize("exists", [False, True])
def test_failure_leaves_nothing(place: Path, exists: bool) -> None:
    """Ctrl-C between two cases leaves what was there before, and no other file."""

    def broken() -> Iterator[RawCase]:
        yield make_case(8)
        # A case is on the disk before the next one is asked for.
        assert len(list(place.parent.glob(".*/labelsTr/case_08.nii.gz"))) == 1
        raise KeyboardInterrupt

    if exists:
        write(place)
    before = contents(place.parent)

    with pytest.raises(KeyboardInterrupt):
        write(place, broken(), overwrite=True)
    with pytest.raises(ValueError, match="at least one training case"):
        write(place, [make_case(1, "test")], overwrite=True)

    assert contents(place.parent) == before
    assert [path.name for path in place.parent.iterdir()] == [place.name] * exists


def test_case_gets_its_name_later(tmp_path: Path) -> None:
    """Image and label map go to their part; no case takes the place of another."""
    write_case(tmp_path, make_case(1))
    write_case(tmp_path, make_case(2))
    before = contents(tmp_path)

    rename_case(tmp_path, "case_01", "CEL_001", "test")

    assert contents(tmp_path) == {
        "imagesTs/CEL_001_0000.nii.gz": before["imagesTr/case_01_0000.nii.gz"],
        "labelsTs/CEL_001.nii.gz": before["labelsTr/case_01.nii.gz"],
        "imagesTr/case_02_0000.nii.gz": before["imagesTr/case_02_0000.nii.gz"],
        "labelsTr/case_02.nii.gz": before["labelsTr/case_02.nii.gz"],
    }
    with pytest.raises(ValueError, match="second case CEL_001"):
        rename_case(tmp_path, "case_02", "CEL_001", "test")


@pytest.mark.parametrize(
    ("number", "name", "message"),
    [
        (1000, "A", "from 1 to 999"),
        (1, "a/b", "letters, digits"),
        (2, "B", "must belong to one data set only"),
    ],
)
def test_folder_is_found_by_its_number(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    name: str,
    message: str,
) -> None:
    """One data set for each number, in nnU-Net's folder unless another is named."""
    (tmp_path / "Dataset002_A").mkdir()

    assert dataset_folder(tmp_path, 2, "A") == tmp_path / "Dataset002_A"
    with pytest.raises(ValueError, match=message):
        dataset_folder(tmp_path, number, name)
    monkeypatch.setenv("nnUNet_raw", "raw")
    assert dataset_folder(None, 7, "X") == Path("raw/Dataset007_X")
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(ValueError, match="nnUNet_raw"):
        dataset_folder(None, 7, "X")
