"""Checking and converting cases: what is wrong is named before anything is written."""

from __future__ import annotations

import json
import re
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
from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.volumes import Volume, read_volume, write_volume

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
    settings: dict[str, Any] = {
        "identifier": name,
        "source": "test",
        "root": folder,
        "image": files["image"],
        "labels": (files["first"],),
        "group": name,
        "stratum": "test",
    }
    return SourceCase(**{**settings, **changes})


def both(case: SourceCase) -> tuple[Path, Path]:
    """Return the label maps of both raters."""
    (first,) = case.labels
    return first, first.with_name(first.name.replace("first", "second"))


def test_raters_are_combined(tmp_path: Path) -> None:
    """Of 4 and 4 voxels, 3 in common, the union has 5 and the intersection 3."""
    case = make_case(tmp_path)
    assert read_case(case)[1].voxels.sum() == 4
    for combine, voxels in (("union", 5), ("intersection", 3)):
        both_raters = replace(case, labels=both(case), combine=combine)
        assert read_case(both_raters)[1].voxels.sum() == voxels


def test_values_are_translated(tmp_path: Path) -> None:
    """Label 2 becomes what the source says."""
    case = make_case(tmp_path)
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[LESION], voxels[5] = 1, 2
    write_volume(case.labels[0], Volume(voxels, AFFINE))

    background = read_case(replace(case, values={0: 0, 1: 1, 2: 0}))[1].voxels
    ignored = read_case(replace(case, values={0: 0, 1: 1, 2: 2}))[1].voxels

    assert np.unique(background).tolist() == [0, 1]
    np.testing.assert_array_equal(ignored, voxels)


def test_inspection_counts_lesions(tmp_path: Path) -> None:
    """Five voxels of 6 mm3 in two lesions, the larger of four voxels."""
    case = make_case(tmp_path)
    case = replace(case, labels=both(case))

    ((_, found),), _ = store_cases(tmp_path, [case])

    assert found.notes["lesion_voxels"] == 5
    assert found.notes["lesion_volume_ml"] == pytest.approx(0.03)
    assert set(found.files) == {case.image, *case.labels}
    assert all(len(digest) == 64 for digest in found.files.values())


def test_voxels_that_touch_at_a_corner_are_one_lesion(tmp_path: Path) -> None:
    """Connectivity is 26, as in the evaluation."""
    case = make_case(tmp_path, min_lesion_voxels=3, without_lesion="refuse")
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[[0, 1, 2], [0, 1, 2], [0, 1, 2]] = 1
    write_volume(case.labels[0], Volume(voxels, AFFINE))

    store_cases(tmp_path, [case])
    with pytest.raises(ValueError, match="no lesion of 4 voxels or more"):
        store_cases(tmp_path, [replace(case, min_lesion_voxels=4)])


def damage(case: SourceCase, what: str) -> None:
    """Damage a file of a case."""
    image, (label, *_) = case.image, case.labels
    voxels, affine = read_volume(image)
    marks = read_volume(label).voxels
    if what == "nan":
        voxels[0, 0, :3] = np.nan
        write_volume(image, Volume(voxels, affine))
    elif what == "affine":
        write_volume(label, Volume(marks, affine + np.eye(4, k=3) * 0.01))
    elif what == "255":
        write_volume(label, Volume(marks * 255, affine))
    elif what == "empty":
        write_volume(label, Volume(marks * 0, affine))
    else:
        label.unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", "bad_image.nii.gz must have finite voxels. Got 3 that"),
        ("affine", "bad_first.nii.gz must have the affine of the image"),
        ("255", "bad_first.nii.gz must have no values but 0, 1. Got 255 too"),
        ("empty", "bad_first.nii.gz must hold a lesion"),
        ("missing", "There is no image"),
    ],
)
def test_bad_case_is_named(tmp_path: Path, what: str, message: str) -> None:
    """Among good cases, the message names the bad file and what is wrong with it."""
    good, bad, worse = (make_case(tmp_path, name) for name in ("good", "bad", "worse"))
    damage(bad, what)
    damage(worse, "empty")

    with pytest.raises(ValueError, match=re.escape(message)) as error:
        store_cases(tmp_path, [good, bad, worse])

    assert str(error.value).startswith("2 cases have problems:\n- ")
    assert "bad_" in str(error.value)
    assert "worse_" in str(error.value)
    assert "good_" not in str(error.value)


def test_same_image_twice_is_refused(tmp_path: Path) -> None:
    """It could be in training and validation."""
    cases = [make_case(tmp_path, name) for name in "ab"]
    cases[1].image.write_bytes(cases[0].image.read_bytes())

    with pytest.raises(
        ValueError, match=r"image of its own.*b_image.* of b and .* of a"
    ):
        store_cases(tmp_path, cases)


def test_cases_without_lesion_are_left_out_kept_or_refused(tmp_path: Path) -> None:
    """What becomes of them is the source's choice."""
    small = make_case(tmp_path, "small", min_lesion_voxels=5, without_lesion="exclude")
    whole = make_case(tmp_path, "kept", min_lesion_voxels=5, without_lesion="keep")
    large = make_case(tmp_path, "large", min_lesion_voxels=4, without_lesion="exclude")
    cases = [small, whole, large]

    kept, excluded = store_cases(tmp_path, cases)

    assert [case.identifier for case, _ in kept] == ["kept", "large"]
    assert excluded == {"small": "no lesion of 5 voxels or more"}
    with pytest.raises(ValueError, match="None of the 1 has"):
        store_cases(tmp_path, [small])


def write(folder: Path, cases: list[SourceCase], **changes: Any) -> list[Kept]:
    """Write a data set."""
    folder.mkdir(exist_ok=True)
    kept, _ = store_cases(folder, cases, extraction=changes.get("extraction"))
    settings: dict[str, Any] = {
        "name": "Dataset501_T",
        "choices": {"seed": 0},
        "excluded": {},
        "terms": [TERMS],
    }
    finish_dataset(folder, kept, **{**settings, **changes})
    return kept


def test_skull_is_removed_but_no_lesion(tmp_path: Path) -> None:
    """Outside the mask the image is zero, unless a rater saw a lesion there."""
    source, masks = tmp_path / "source", tmp_path / "masks"
    case = make_case(source)
    case = replace(
        case, strip_on=source / "a_t1.nii.gz", mask_names=("other",), labels=both(case)
    )
    brain = np.zeros(SHAPE, np.uint8)
    brain[:3] = 1
    masks.mkdir()
    write_volume(masks / "other_mask.nii.gz", Volume(brain, AFFINE))

    write(tmp_path, [case], extraction=BrainExtraction("mask", masks))

    image = read_volume(tmp_path / "imagesTr" / "a_0000.nii.gz").voxels
    original = read_volume(case.image).voxels
    inside = brain > 0
    inside[4, 4, 0] = True  # a lesion voxel of the second rater
    np.testing.assert_array_equal(image[inside], original[inside])
    assert not image[~inside].any()


def test_nan_outside_the_brain_is_removed_with_the_skull(tmp_path: Path) -> None:
    """Bias correction leaves such voxels; in the brain they are an error."""
    source, masks = tmp_path / "source", tmp_path / "masks"
    case = replace(make_case(source), strip_on=source / "a_t1.nii.gz")
    voxels, affine = read_volume(case.image)
    voxels[5] = np.nan
    write_volume(case.image, Volume(voxels, affine))
    masks.mkdir()
    extraction = BrainExtraction("mask", masks)
    with pytest.raises(ValueError, match="one brain mask for a"):
        store_cases(tmp_path, [case], extraction=extraction)
    brain = np.ones(SHAPE, np.uint8)
    write_volume(masks / "a.nii.gz", Volume(brain, AFFINE))
    with pytest.raises(ValueError, match=r"a_image\.nii\.gz must have finite voxels"):
        store_cases(tmp_path, [case], extraction=extraction)
    brain[5] = 0
    write_volume(masks / "a.nii.gz", Volume(brain, AFFINE))

    write(tmp_path, [case], extraction=extraction)

    assert not read_volume(tmp_path / "imagesTr" / "a_0000.nii.gz").voxels[5].any()


def test_record_tells_of_every_case(tmp_path: Path) -> None:
    """Files, lesions and facts; no path where names may be patients' names."""
    source = tmp_path / "source"
    cases = [
        make_case(source, "a", facts={"center": "01"}),
        make_case(source, "b", split="test"),
        make_case(source, "c"),
    ]

    kept = write(tmp_path, cases, excluded={"d": "no lesion"})

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
    write(tmp_path / "neutral", cases, terms=[])
    assert "a_image" not in (tmp_path / "neutral" / "conversion.json").read_text()
