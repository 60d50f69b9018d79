"""WMH 2017: every layout, scanners and parts, label 2, the T1w image for the brain."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.dataset_conversion.wmh2017 import find_cases

GE3T = [*range(100, 111), 112, 113, 114, 115, 116, 126, 132, 137, 144]


def make_tree(folder: Path, layout: str = "wmh2017", n: int = 22) -> Path:
    """Write a tree of tiny scans; the first 20 are the training part of GE3T."""
    return write_tree(folder, layout, n)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 170 scans as distributed; not to be changed."""
    return make_tree(tmp_path_factory.mktemp("wmh") / "source", n=170)


@pytest.mark.parametrize("layout", ["wmh2017", "wmh2017-portal", "wmh2017-yucca"])
def test_training_part_of_ge3t_is_found(tmp_path: Path, layout: str) -> None:
    """The twenty cases of the paper, whatever the folders."""
    cases = find_cases(make_tree(tmp_path / "a b", layout))

    assert [case.identifier for case in cases] == [f"WMH2017_GE3T_{i}" for i in GE3T]
    for case in cases:
        assert case.image.parts[-2:] == ("pre", "FLAIR.nii.gz")
        assert case.strip_on == case.image.with_name("T1.nii.gz")
        assert case.labels[0].name == "wmh.nii.gz"
        assert case.mask_names == (case.identifier, case.identifier[-3:])


def test_all_scanners_and_parts(tree: Path) -> None:
    """170 cases; the folder with the odd name is found as well."""
    scanners = ["GE3T", "Utrecht", "Singapore", "GE1T5", "Philips"]

    cases = find_cases(tree, scanners=scanners, parts=["training", "test"])

    assert Counter((c.facts["scanner"], c.facts["part"]) for c in cases) == {
        ("GE3T", "training"): 20,
        ("Utrecht", "training"): 20,
        ("Singapore", "training"): 20,
        ("GE3T", "test"): 30,
        ("Utrecht", "test"): 30,
        ("Singapore", "test"): 30,
        ("GE1T5", "test"): 10,
        ("Philips", "test"): 10,
    }
    assert len({case.identifier for case in cases}) == 170
    assert len({case.stratum for case in cases}) == 5


def test_odd_folder_name_in_its_variants(tree: Path, tmp_path: Path) -> None:
    """Windows drops the dot at the end, users replace the space."""
    source = tree / "test" / "Amsterdam" / "Philips_VU .PETMR_01." / "160"
    for name in ("Philips_VU .PETMR_01", "Philips_VU_.PETMR_01_"):
        root = tmp_path / name / "test" / "Amsterdam"
        shutil.copytree(source, root / name / "160")
        (case,) = find_cases(root, scanners=["Philips"], parts=["test"])
        assert case.identifier == "WMH2017_Philips_160"


@pytest.mark.parametrize(
    ("choice", "values"),
    [("background", {0: 0, 1: 1, 2: 0}), ("ignore", {0: 0, 1: 1, 2: 2})],
)
def test_other_pathology_is_never_lesion(
    tree: Path, choice: str, values: dict[int, int]
) -> None:
    """Label 2 becomes background, or what nnU-Net ignores."""
    cases = find_cases(tree, other_pathology=choice)  # type: ignore[arg-type]  # of list

    assert all(case.values == values for case in cases)


def test_missing_files_are_named(tmp_path: Path) -> None:
    """Label map, bias-corrected image and T1w image, each with its cure."""
    root = make_tree(tmp_path / "x", n=3)
    subject = root / "training" / "Amsterdam" / "GE3T" / "101"

    for kind in ("pre", "orig"):
        (subject / kind / "T1.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"T1w image(.|\n)*/101/(.|\n)*--no-strip"):
        find_cases(root)
    assert [case.strip_on for case in find_cases(root, strip=False)] == [None] * 3

    (subject / "pre" / "FLAIR.nii.gz").unlink()
    with pytest.raises(
        ValueError, match=r"bias-corrected(.|\n)*/101/.*--allow-raw|101"
    ):
        find_cases(root, strip=False)
    raw = find_cases(root, strip=False, allow_raw=True)
    assert [case.facts["image"] for case in raw] == ["pre", "orig", "pre"]

    (subject / "wmh.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"label map wmh\.nii\.gz(.|\n)*/101/"):
        find_cases(root, strip=False, allow_raw=True)


def test_nothing_of_the_scanner_is_an_error(tmp_path: Path) -> None:
    """The message says which scanners and parts were looked for."""
    root = make_tree(tmp_path / "x", n=1)

    with pytest.raises(ValueError, match="none of the scanners GE1T5 in the training"):
        find_cases(root, scanners=["GE1T5"])


def test_copies_are_refused(tmp_path: Path) -> None:
    """The same subject in two places."""
    root = make_tree(tmp_path / "x", n=1)
    shutil.copytree(root / "training", root / "copy" / "training")

    with pytest.raises(ValueError, match="Got several of one case"):
        find_cases(root)
