"""Checking and converting cases: what is wrong is named before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_cel.dataset_conversion.conversion import (
    Kept,
    finish_dataset,
    read_case,
    store_cases,
)
from nnunet_cel.dataset_conversion.isbi2015 import TERMS
from nnunet_cel.dataset_conversion.source import SourceCase, Terms
from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.volumes import Volume, read_volume, write_volume

NONE = BrainExtraction("none")
SHAPE = (6, 5, 4)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
LESION = (slice(1, 3), slice(1, 3), 2)  # four voxels


def make_case(folder: Path, name: str = "a", **changes: Any) -> SourceCase:
    """Write image, two raters' label maps and T1w image of a case, and return it."""
    rng = np.random.default_rng(sum(name.encode()))
    folder.mkdir(exist_ok=True)
    first, second = np.zeros((2, *SHAPE), np.uint8)
    first[LESION] = second[LESION] = 1
    second[1, 1, 2] = 0
    second[4, 4, 0] = 1
    volumes = {
        "image": rng.normal(100, 10, SHAPE).astype(np.float32),
        "first": first,
        "second": second,
        "t1": np.ones(SHAPE, np.float32),
    }
    files = {key: folder / f"{name}_{key}.nii.gz" for key in volumes}
    for key, voxels in volumes.items():
        write_volume(files[key], Volume(voxels, AFFINE))
    case = SourceCase(name, "test", folder, files["image"], (files["first"],))
    return replace(case, group=name, stratum="test", **changes)


def test_raters_are_combined(tmp_path: Path) -> None:
    """Of 4 and 4 voxels of 6 mm3, 3 in common, the union has 5, the intersection 3."""
    case = make_case(tmp_path)
    assert read_case(case)[1].voxels.sum() == 4
    union = replace(case, labels=(*case.labels, tmp_path / "a_second.nii.gz"))
    intersection = replace(union, combine="intersection")
    assert read_case(union)[1].voxels.sum() == 5
    assert read_case(intersection)[1].voxels.sum() == 3

    ((_, found),), _ = store_cases(tmp_path, [union], NONE)

    assert found.notes["lesion_voxels"] == 5
    assert found.notes["lesion_volume_ml"] == pytest.approx(0.03)
    assert set(found.files) == {case.image, *union.labels}


def test_values_are_translated(tmp_path: Path) -> None:
    """Label 2 becomes what the source says."""
    case = make_case(tmp_path)
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[LESION], voxels[5] = 1, 2
    write_volume(case.labels[0], Volume(voxels, AFFINE))

    for becomes, expected in ((0, voxels == 1), (2, voxels)):
        read = read_case(replace(case, values={0: 0, 1: 1, 2: becomes}))[1].voxels
        np.testing.assert_array_equal(read, expected)


def test_voxels_that_touch_at_a_corner_are_one_lesion(tmp_path: Path) -> None:
    """As in the evaluation; what is too small is left out, kept or refused."""
    case = make_case(tmp_path, min_lesion_voxels=3)
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[[0, 1, 2], [0, 1, 2], [0, 1, 2]] = 1
    write_volume(case.labels[0], Volume(voxels, AFFINE))
    small = replace(case, min_lesion_voxels=4, without_lesion="exclude")
    large = make_case(tmp_path, "large", min_lesion_voxels=4, without_lesion="exclude")

    assert len(store_cases(tmp_path, [case], NONE)[0]) == 1
    kept, excluded = store_cases(tmp_path, [small, large], NONE)
    assert [case.identifier for case, _ in kept] == ["large"]
    assert excluded == {"a": "no lesion of 4 voxels or more"}
    assert store_cases(tmp_path, [replace(small, without_lesion="keep")], NONE)[0]
    with pytest.raises(ValueError, match="None of the 1 has"):
        store_cases(tmp_path, [small], NONE)
    with pytest.raises(ValueError, match="It has no lesion of 4 voxels or more"):
        store_cases(tmp_path, [replace(small, without_lesion="refuse")], NONE)


def test_all_bad_cases_are_named(tmp_path: Path) -> None:
    """Among good ones, the message names the bad files and what is wrong with each."""
    names = ("good", "nan", "affine", "value", "empty", "missing")
    good, nan, affine, value, empty, missing = cases = [
        make_case(tmp_path, name) for name in names
    ]
    voxels = read_volume(nan.image).voxels
    voxels[0, 0, :3] = np.nan
    write_volume(nan.image, Volume(voxels, AFFINE))
    marks = read_volume(good.labels[0]).voxels
    write_volume(affine.labels[0], Volume(marks, AFFINE + np.eye(4, k=3) * 0.01))
    write_volume(value.labels[0], Volume(marks * 255, AFFINE))
    write_volume(empty.labels[0], Volume(marks * 0, AFFINE))
    missing.labels[0].unlink()

    with pytest.raises(ValueError, match=r"5 cases have problems:\n- ") as error:
        store_cases(tmp_path, cases, NONE)

    for told in (
        "nan_image.nii.gz must have finite voxels. Got 3 that",
        "affine_first.nii.gz must have the affine of the image",
        "value_first.nii.gz must have no values but 0, 1. Got 255 too",
        "empty_first.nii.gz must hold a lesion",
        f"There is no image {missing.labels[0]}",
    ):
        assert told in str(error.value)
    assert "good" not in str(error.value)
    nan.image.write_bytes(good.image.read_bytes())
    same = r"image of its own.*nan_image.* of nan and .* of good"
    with pytest.raises(ValueError, match=same):  # in training and validation
        store_cases(tmp_path, [good, nan], NONE)


def write(
    folder: Path,
    cases: list[SourceCase],
    extraction: BrainExtraction = NONE,
    terms: tuple[Terms, ...] = (TERMS,),
) -> list[Kept]:
    """Write a data set."""
    folder.mkdir(exist_ok=True)
    kept, _ = store_cases(folder, cases, extraction)
    finish_dataset(
        folder,
        kept,
        name="Dataset501_T",
        choices={"seed": 0},
        excluded={"d": "no lesion"},
        terms=terms,
        extraction=extraction,
    )
    return kept


def test_skull_is_removed_but_no_lesion(tmp_path: Path) -> None:
    """Outside the mask the image is zero, unless a rater saw a lesion there.

    NaN may be there, where bias correction leaves them; in the brain they are an error.
    """
    source, masks = tmp_path / "source", tmp_path / "masks"
    case = make_case(source, mask_names=("other",), strip_on=source / "a_t1.nii.gz")
    case = replace(case, labels=(*case.labels, source / "a_second.nii.gz"))
    original, affine = read_volume(case.image)
    original[5] = np.nan
    write_volume(case.image, Volume(original, affine))
    masks.mkdir()
    extraction = BrainExtraction("mask", masks)
    with pytest.raises(ValueError, match="one brain mask for a"):
        store_cases(tmp_path, [case], extraction)
    brain = np.ones(SHAPE, np.uint8)
    write_volume(masks / "other_mask.nii.gz", Volume(brain, AFFINE))
    with pytest.raises(ValueError, match=r"a_image\.nii\.gz must have finite voxels"):
        store_cases(tmp_path, [case], extraction)
    brain[3:] = 0
    write_volume(masks / "other_mask.nii.gz", Volume(brain, AFFINE))

    ((_, found),) = write(tmp_path, [case], extraction)

    image = read_volume(tmp_path / "imagesTr" / "a_0000.nii.gz").voxels
    inside = brain > 0
    inside[4, 4, 0] = True  # a lesion voxel of the second rater
    np.testing.assert_array_equal(image[inside], original[inside])
    assert not image[~inside].any()
    assert found.notes["lesion_voxels_outside_brain_mask"] == 1


def test_record_tells_of_every_case(tmp_path: Path) -> None:
    """Files, lesions and facts; no path where names may be patients' names."""
    source = tmp_path / "source"
    cases = [
        make_case(source, "a", facts={"center": "01"}),
        make_case(source, "b", split="test"),
        make_case(source, "c"),
    ]

    kept = write(tmp_path, cases)

    record = json.loads((tmp_path / "conversion.json").read_text())
    assert list(record) == ["converter", "versions", "choices", "excluded", "cases"]
    assert record["excluded"] == {"d": "no lesion"}
    digests = list(kept[0][1].files.values())
    assert record["cases"]["a"] == {
        "source": "test",
        "files": [
            {"path": "a_image.nii.gz", "sha256": digests[0]},
            {"path": "a_first.nii.gz", "sha256": digests[1]},
        ],
        "lesion_voxels": 4,
        "lesion_volume_ml": 0.024,
        "center": "01",
        "split": "train",
    }
    folds = json.loads((tmp_path / "splits_final.json").read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == ["a", "c"]
    write(tmp_path / "neutral", cases, terms=())
    assert "a_image" not in (tmp_path / "neutral" / "conversion.json").read_text()
