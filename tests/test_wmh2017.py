"""WMH 2017: every layout, scanners and parts, label 2, the T1w image for the brain."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.dataset_conversion.wmh2017 import find_cases

GE3T = [*range(100, 111), 112, 113, 114, 115, 116, 126, 132, 137, 144]


@pytest.mark.parametrize("layout", ["wmh2017", "wmh2017-portal", "wmh2017-yucca"])
def test_training_part_of_ge3t_is_found(tmp_path: Path, layout: str) -> None:
    """The twenty cases of the paper, whatever the folders."""
    cases = find_cases(write_tree(tmp_path / "a b", layout, 22, empty=True))

    assert [case.identifier for case in cases] == [f"WMH2017_GE3T_{i}" for i in GE3T]
    for case in cases:
        assert case.image.parts[-2:] == ("pre", "FLAIR.nii.gz")
        assert case.strip_on == case.image.with_name("T1.nii.gz")
        assert case.labels[0].name == "wmh.nii.gz"
        assert case.mask_names == (case.identifier, case.identifier[-3:])
        assert case.values == {0: 0, 1: 1, 2: 0}


def test_all_scanners_and_parts(tmp_path: Path) -> None:
    """170 cases; the folder with the odd name is found as well, in its variants."""
    tree = write_tree(tmp_path / "source", "wmh2017", 170, empty=True)
    scanners = ["GE3T", "Utrecht", "Singapore", "GE1T5", "Philips"]
    both = ["training", "test"]

    cases = find_cases(tree, scanners=scanners, parts=both, other_pathology="ignore")

    parts = Counter((c.facts["scanner"], c.facts["part"]) for c in cases)
    assert parts == {
        **{(scanner, "training"): 20 for scanner in scanners[:3]},
        **{(scanner, "test"): 30 for scanner in scanners[:3]},
        **{(scanner, "test"): 10 for scanner in scanners[3:]},
    }
    assert len({case.identifier for case in cases}) == 170
    assert len({case.stratum for case in cases}) == 5
    assert all(case.values == {0: 0, 1: 1, 2: 2} for case in cases)
    # Windows drops the dot at the end, users replace the space.
    source = tree / "test" / "Amsterdam" / "Philips_VU .PETMR_01." / "160"
    for name in ("Philips_VU .PETMR_01", "Philips_VU_.PETMR_01_"):
        root = tmp_path / name / "test" / "Amsterdam"
        shutil.copytree(source, root / name / "160")
        (case,) = find_cases(root, scanners=["Philips"], parts=["test"])
        assert case.identifier == "WMH2017_Philips_160"


def test_missing_files_are_named(tmp_path: Path) -> None:
    """Label map, bias-corrected image and T1w image, each with its cure."""
    root = write_tree(tmp_path / "x", "wmh2017", 3, empty=True)
    subject = root / "training" / "Amsterdam" / "GE3T" / "101"

    for kind in ("pre", "orig"):
        (subject / kind / "T1.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"T1w image(.|\n)*/101/(.|\n)*--no-strip"):
        find_cases(root)
    assert [case.strip_on for case in find_cases(root, strip=False)] == [None] * 3

    (subject / "pre" / "FLAIR.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"bias-corrected(.|\n)*/101/.*\n.*allow-raw"):
        find_cases(root, strip=False)
    raw = find_cases(root, strip=False, allow_raw=True)
    assert [case.facts["image"] for case in raw] == ["pre", "orig", "pre"]

    (subject / "wmh.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"label map wmh\.nii\.gz(.|\n)*/101/"):
        find_cases(root, strip=False, allow_raw=True)
    with pytest.raises(ValueError, match="none of the scanners GE1T5 in the training"):
        find_cases(root, scanners=["GE1T5"])
    shutil.copytree(root / "training", root / "copy" / "training")
    with pytest.raises(ValueError, match="Got several of one case"):
        find_cases(root)
