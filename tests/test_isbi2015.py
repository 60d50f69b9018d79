"""ISBI 2015: every layout gives the same cases, raters and time points are chosen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.dataset_conversion.isbi2015 import find_cases

LAYOUTS = ["isbi2015", "isbi2015-hoisted", "isbi2015-timepoints", "isbi2015-flat"]
LAST = ["01_04", "02_04", "03_05", "04_04", "05_04"]


def make_tree(folder: Path, layout: str = "isbi2015", n: int = 21) -> Path:
    """Write a tree of tiny scans."""
    return write_tree(folder, layout, n)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 21 scans as distributed; not to be changed."""
    return make_tree(tmp_path_factory.mktemp("isbi") / "source")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_last_time_point_of_each_subject_is_found(tmp_path: Path, layout: str) -> None:
    """The five cases of the paper, whatever the folders."""
    cases = find_cases(make_tree(tmp_path / "a b", layout))

    assert [case.identifier for case in cases] == [f"ISBI2015_{name}" for name in LAST]
    for case, name in zip(cases, LAST, strict=True):
        assert case.image.name.startswith(f"training{name}_flair_pp.nii")
        assert [label.name.split(".")[0] for label in case.labels] == [
            f"training{name}_mask1"
        ]


def test_any_folder_of_the_source_may_be_named(tree: Path) -> None:
    """The root may lie deep in the source."""
    cases = find_cases(tree / "training" / "training03")

    assert [case.identifier for case in cases] == ["ISBI2015_03_05"]


def test_all_time_points_of_a_subject_are_one_group(tree: Path) -> None:
    """21 cases of five patients."""
    cases = find_cases(tree, all_timepoints=True)

    assert len(cases) == 21
    assert sorted({case.group for case in cases}) == [
        f"ISBI2015_0{i}" for i in range(1, 6)
    ]
    assert all(case.identifier.startswith(case.group) for case in cases)


@pytest.mark.parametrize(
    ("rater", "masks", "combine"),
    [
        ("1", ["mask1"], "union"),
        ("2", ["mask2"], "union"),
        ("union", ["mask1", "mask2"], "union"),
        ("intersection", ["mask1", "mask2"], "intersection"),
    ],
)
def test_rater_is_chosen(
    tree: Path, rater: str, masks: list[str], combine: str
) -> None:
    """One rater's mask, or both and how they are combined."""
    case = find_cases(tree, rater=rater)[0]  # type: ignore[arg-type]  # of the list

    assert [label.stem.rsplit("_")[-1] for label in case.labels] == masks
    assert case.combine == combine


def test_last_time_point_with_a_mask_is_taken(tree: Path, tmp_path: Path) -> None:
    """A later image without a mask does not count."""
    copy = Path(shutil.copytree(tree, tmp_path / "copy"))
    for mask in copy.rglob("training02_04_mask*"):
        mask.unlink()

    names = [case.identifier for case in find_cases(copy)]

    assert "ISBI2015_02_03" in names
    assert len(names) == 5


def test_missing_masks_are_all_named(tree: Path, tmp_path: Path) -> None:
    """Subjects without any mask, and a time point without the chosen rater's."""
    copy = Path(shutil.copytree(tree, tmp_path / "copy"))
    for mask in [
        *copy.rglob("training02_*_mask*"),
        *copy.rglob("training03_05_mask2*"),
    ]:
        mask.unlink()

    with pytest.raises(
        ValueError, match=r"mask of rater 1 and 2(.|\n)*for 2:"
    ) as error:
        find_cases(copy, rater="union")

    assert "training02_04_flair_pp.nii\n" in str(error.value)
    assert "training03_05_flair_pp.nii\n" in str(error.value)


def test_duplicates_are_named(tree: Path, tmp_path: Path) -> None:
    """Two copies of a scan are refused."""
    copy = Path(shutil.copytree(tree, tmp_path / "copy"))
    image = next(copy.rglob("training02_04_flair_pp.nii"))
    shutil.copy(image, copy / image.name)

    with pytest.raises(ValueError, match="one file for each case among the FLAIR"):
        find_cases(copy)


def test_other_folder_is_refused(tmp_path: Path) -> None:
    """The message says what is looked for."""
    with pytest.raises(ValueError, match=r"training01_01_flair_pp\.nii.*holds none"):
        find_cases(tmp_path)
