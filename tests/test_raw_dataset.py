"""Tests of writing raw data sets of nnU-Net."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from nnunet_cel.dataset_conversion.raw_dataset import RawCase, write_raw_dataset
from nnunet_cel.volumes import Volume

AFFINE = np.array(
    [[0.0, -1.5, 0.0, 10.0], [1.2, 0.0, 0.0, -4.0], [0.0, 0.0, 2.0, 3.0], [0, 0, 0, 1]]
)


def make_case(number: int, split: str = "train", **changes: Any) -> RawCase:
    """Return a case of two channels with a small lesion."""
    rng = np.random.default_rng(number)
    image = rng.normal(100, 10, (8, 9, 7)).astype(np.float32)
    label = np.zeros(image.shape, dtype=np.uint8)
    label[3:5, 4, 2:4] = 1
    settings: dict[str, Any] = {
        "identifier": f"case_{number:02d}",
        "images": [Volume(image, AFFINE), Volume(image + 1, AFFINE)],
        "label": Volume(label, AFFINE),
        "split": split,
    }
    return RawCase(**{**settings, **changes})


def write(folder: Path, cases: Any = None, **changes: Any) -> Path:
    """Write two training cases and a test case, or ``cases``."""
    if cases is None:
        cases = [make_case(1), make_case(2), make_case(3, "test")]
    settings: dict[str, Any] = {
        "channel_names": ["FLAIR", "T1w"],
        "labels": {"background": 0, "lesion": 1},
    }
    return write_raw_dataset(folder, cases, **{**settings, **changes})


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
    write(place, extra={"licence": "CC0"})

    assert sorted(contents(place)) == [
        "dataset.json",
        *(f"imagesTr/case_{i}_000{c}.nii.gz" for i in ("01", "02") for c in (0, 1)),
        *(f"imagesTs/case_03_000{c}.nii.gz" for c in (0, 1)),
        *(f"labelsTr/case_{i}.nii.gz" for i in ("01", "02")),
        "labelsTs/case_03.nii.gz",
    ]
    assert json.loads((place / "dataset.json").read_text()) == {
        "channel_names": {"0": "FLAIR", "1": "T1w"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "licence": "CC0",
    }


def test_voxels_and_geometry_survive(place: Path) -> None:
    """Reading a case back gives what was written."""
    write(place)

    image = nib.load(place / "imagesTr" / "case_01_0001.nii.gz")
    label = nib.load(place / "labelsTr" / "case_01.nii.gz")
    np.testing.assert_array_equal(
        np.asarray(image.dataobj), make_case(1).images[1].voxels
    )
    drawn = make_case(1).label
    assert drawn is not None
    np.testing.assert_array_equal(np.asarray(label.dataobj), drawn.voxels)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    np.testing.assert_allclose(label.get_qform(), AFFINE, atol=1e-5)
    assert label.get_data_dtype() == np.uint8


def test_nnunet_finds_no_fault(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """nnU-Net's own check of a raw data set passes without a warning."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(place.parent))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nnU-Net's imports are not ours to mend
        from nnunetv2.experiment_planning.verify_dataset_integrity import (
            verify_dataset_integrity,
        )
    write(place)

    verify_dataset_integrity(str(place), num_processes=1)

    printed = "".join(capfd.readouterr())
    assert "verify_dataset_integrity Done" in printed
    assert "warning" not in printed.lower()


def test_same_cases_give_same_bytes(place: Path) -> None:
    """Nothing such as the time gets into the files."""
    first = contents(write(place))

    assert contents(write(place, overwrite=True)) == first


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [False, True])
def test_failure_leaves_nothing(
    place: Path, error: type[BaseException], exists: bool
) -> None:
    """A crash between two cases leaves what was there before, and no other file."""

    def broken() -> Iterator[RawCase]:
        yield make_case(8)
        raise error

    if exists:
        write(place)
    before = contents(place.parent)

    with pytest.raises(error):
        write(place, broken(), overwrite=True)

    assert contents(place.parent) == before
    assert [path.name for path in place.parent.iterdir()] == [place.name] * exists


def test_existing_data_set_is_kept(place: Path) -> None:
    """Without overwrite the second attempt fails and names the cure."""
    before = contents(write(place))

    with pytest.raises(FileExistsError, match="add --overwrite"):
        write(place, [make_case(9)])

    assert contents(place) == before


def test_overwrite_replaces_all(place: Path) -> None:
    """No file of the old data set is left, beside the new one neither."""
    write(place)

    write(place, [make_case(9)], overwrite=True)

    assert {path.name for path in (place / "labelsTr").iterdir()} == {"case_09.nii.gz"}
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_old_data_set_comes_back_when_renaming_fails(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the new data set cannot take its place, the old one is put back."""
    before = contents(write(place))
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(PermissionError):
        write(place, [make_case(9)], overwrite=True)

    assert contents(place) == before
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_cases_are_taken_one_by_one(place: Path) -> None:
    """A case is on the disk before the next one is asked for."""

    def cases() -> Iterator[RawCase]:
        yield make_case(1)
        assert len(list(place.parent.glob(".*/labelsTr/case_01.nii.gz"))) == 1
        yield make_case(2)

    write(place, cases())


def test_several_processes_write_the_same(place: Path, tmp_path: Path) -> None:
    """Functions that read cases run in processes, and the bytes are the same."""
    readers = [partial(make_case, number) for number in (1, 2, 3)]

    many = write(tmp_path / "Dataset502_Many", readers, processes=2)

    assert contents(many) == contents(write(place, readers))


def test_notes_are_part_of_the_data_set(place: Path) -> None:
    """What is known about the conversion and each case stands in conversion.json."""
    cases = [make_case(2, notes={"rater": 1}), make_case(1, "test")]

    write(place, [*cases, make_case(3)], conversion={"converter": "by hand"})

    assert json.loads((place / "conversion.json").read_text()) == {
        "converter": "by hand",
        "cases": {
            "case_01": {"split": "test"},
            "case_02": {"split": "train", "rater": 1},
            "case_03": {"split": "train"},
        },
    }


def test_label_map_gets_exactly_the_affine_of_the_image(place: Path) -> None:
    """A difference in the last digits is not carried into the data set."""
    almost = AFFINE + 5e-4
    almost[3] = AFFINE[3]

    label = Volume(ONES.astype(np.uint8), almost)
    write(place, [make_case(1, label=label)])

    image = nib.load(place / "imagesTr" / "case_01_0000.nii.gz")
    written = nib.load(place / "labelsTr" / "case_01.nii.gz")
    assert image.affine.tobytes() == written.affine.tobytes()
    assert not np.array_equal(written.affine, almost)


def test_splits_are_written(place: Path) -> None:
    """The folds stand where nnU-Net's planner copies them from."""
    folds = [{"train": ["case_01"], "val": ["case_02"]}]

    write(place, splits=folds)

    assert json.loads((place / "splits_final.json").read_text()) == folds


def test_regions_keep_their_values(place: Path) -> None:
    """Labels may be regions, sets of values."""
    labels = {"background": 0, "whole": [1, 2], "core": 2}

    write(place, labels=labels, extra={"regions_class_order": [1, 2]})

    assert json.loads((place / "dataset.json").read_text())["labels"] == labels


SHAPE = (8, 9, 7)
NAN = np.full(SHAPE, np.nan, dtype=np.float32)
ONES = np.ones(SHAPE, dtype=np.float32)
MOVED = AFFINE + np.diag([0, 0, 0.5, 0])
GOOD = Volume(ONES, AFFINE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identifier": "a/b"}, "identifier.*letters, digits.*Got 'a/b'"),
        ({"identifier": ".hidden"}, "identifier.*Got '.hidden'"),
        ({"identifier": "CASE_01"}, "must differ.*'CASE_01' and 'case_01'"),
        ({"identifier": "case_01"}, "must differ.*case_01_0000.nii.gz: rename one"),
        ({"images": [GOOD]}, r"one image for each channel.*Got 1"),
        ({"images": [Volume(NAN, AFFINE)] * 2}, "finite voxels. Got 504"),
        ({"images": [Volume(ONES[..., None], AFFINE)] * 2}, "three axes"),
        ({"images": [GOOD, Volume(ONES[1:], AFFINE)]}, "T1w.*shape"),
        ({"images": [GOOD, Volume(ONES, MOVED)]}, "T1w.*affine"),
        ({"label": Volume(ONES[1:], AFFINE)}, "label map.*shape of the image"),
        ({"label": Volume(ONES, MOVED)}, "label map.*affine of the image"),
        ({"label": Volume(2 * ONES, AFFINE)}, "no values but 0, 1. Got 2 too"),
        ({"label": Volume(0.5 * ONES, AFFINE)}, "Got 0.5 too"),
        ({"label": None}, "must have a label map"),
        ({"split": "val"}, "split.*Got 'val'"),
    ],
)
def test_wrong_case_is_refused(
    place: Path, changes: dict[str, Any], message: str
) -> None:
    """The error names the case, the rule and what it got; nothing is written."""
    with pytest.raises(ValueError, match=message):
        write(place, [make_case(1), make_case(2, **changes)])

    assert list(place.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": "FLAIR"}, "channel names must be a list"),
        ({"labels": {"lesion": 1}}, "'background' with the value 0"),
        ({"labels": {"background": 0, "lesion": 2}}, "without a gap"),
        ({"file_ending": ".png"}, "file ending"),
        ({"extra": {"labels": {}}}, "Got labels"),
        ({"cases": []}, "at least one training case"),
        ({"splits": [{"train": ["case_01"]}]}, "'train' and 'val'"),
        ({"splits": [{"train": ["case_01"], "val": ["case_03"]}]}, "Got case_03"),
        ({"splits": [{"train": ["case_01"], "val": ["case_01"]}]}, "same case"),
    ],
)
def test_wrong_settings_are_refused(
    place: Path, changes: dict[str, Any], message: str
) -> None:
    """Settings that nnU-Net cannot work with are refused, and nothing is written."""
    with pytest.raises(ValueError, match=message):
        write(place, **changes)

    assert not place.parent.exists() or list(place.parent.iterdir()) == []


def test_folder_must_have_a_number(tmp_path: Path) -> None:
    """nnU-Net finds data sets by their number."""
    with pytest.raises(ValueError, match=r"such as Dataset501_WMH\. Got 'lesions'"):
        write(tmp_path / "lesions")
