"""ISBI 2015: every layout gives the same cases, raters and time points are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.dataset_conversion.isbi2015 import find_cases

LAST = ["01_04", "02_04", "03_05", "04_04", "05_04"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """All 21 scans as distributed, as empty files."""
    return write_tree(tmp_path / "source", "isbi2015", 21, empty=True)


@pytest.mark.parametrize("layout", ["isbi2015", "isbi2015-flat"])
def test_last_time_point_of_each_subject_is_found(tmp_path: Path, layout: str) -> None:
    """The five cases of the paper, whatever the folders."""
    cases = find_cases(write_tree(tmp_path / "a b", layout, 21, empty=True))

    assert [case.identifier for case in cases] == [f"ISBI2015_{name}" for name in LAST]
    for case, name in zip(cases, LAST, strict=True):
        assert case.image.name.startswith(f"training{name}_flair_pp.nii")
        assert [label.name.split(".")[0] for label in case.labels] == [
            f"training{name}_mask1"
        ]


def test_all_time_points_of_a_subject_are_one_group(tree: Path) -> None:
    """21 cases of five patients; the root may lie deep in the source."""
    cases = find_cases(tree, all_timepoints=True)

    assert len(cases) == 21
    groups = sorted({case.group for case in cases})
    assert groups == [f"ISBI2015_0{i}" for i in range(1, 6)]
    assert all(case.identifier.startswith(case.group) for case in cases)
    (case,) = find_cases(tree / "training" / "training03")
    assert case.identifier == "ISBI2015_03_05"


def test_rater_is_chosen(tree: Path) -> None:
    """One rater's mask, or both and how they are combined."""
    for rater, masks, combine in (
        ("2", ["mask2"], "union"),
        ("union", ["mask1", "mask2"], "union"),
        ("intersection", ["mask1", "mask2"], "intersection"),
    ):
        case = find_cases(tree, rater=rater)[0]  # type: ignore[arg-type]  # of the list
        assert [label.stem.rsplit("_")[-1] for label in case.labels] == masks
        assert case.combine == combine


def test_last_time_point_with_a_mask_is_taken(tree: Path) -> None:
    """A later image without a mask does not count; all that have none are named."""
    for mask in tree.rglob("training02_04_mask*"):
        mask.unlink()
    names = [case.identifier for case in find_cases(tree)]
    assert len(names) == 5
    assert "ISBI2015_02_03" in names

    for pattern in ("training02_*_mask*", "training03_05_mask2*"):
        for mask in tree.rglob(pattern):
            mask.unlink()
    missing = r"mask of rater 1 and 2.*\n.*02_04_flair_pp\.nii\n.*03_05_flair_pp\.nii\n"
    with pytest.raises(ValueError, match=missing):
        find_cases(tree, rater="union")
