"""MSSEG 2016: every layout, names of cases, the empty consensus."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.dataset_conversion.msseg2016 import SOURCE, find_cases


def make_tree(folder: Path, layout: str = "msseg2016", n: int = 17) -> Path:
    """Write a tree of tiny scans; 15 are of the training part."""
    return write_tree(folder, layout, n)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 53 scans as distributed; not to be changed."""
    return make_tree(tmp_path_factory.mktemp("msseg") / "source", n=53)


def test_all_cases_of_the_release_have_names_of_their_own(tree: Path) -> None:
    """53 names, although patient numbers begin anew in each center and part."""
    cases = find_cases(tree)

    names = [case.identifier for case in cases]
    assert len(set(names)) == 53
    assert {"MSSEG2016_Tr_C01_P01", "MSSEG2016_Te_C01_P01", "MSSEG2016_Te_C03_P08"} < {
        *names
    }
    assert Counter(case.facts["part"] for case in cases) == {
        "Training": 15,
        "Testing": 38,
    }
    assert {case.image.name for case in cases} == {"FLAIR_preprocessed.nii.gz"}
    for case in cases:
        (label,) = case.labels
        assert label.name == "Consensus.nii.gz"
        assert label.parent.parent == case.image.parent.parent
        assert case.without_lesion == "exclude"


@pytest.mark.parametrize("part", ["MSSEG-Training/Training", "MSSEG-Testing"])
def test_any_folder_of_the_source_may_be_named(tree: Path, part: str) -> None:
    """Also the one that is called Training."""
    assert len(find_cases(tree / part)) == (15 if "Training" in part else 38)


@pytest.mark.parametrize("layout", ["msseg2016-lowercase"])
def test_lower_case_gives_the_same_names(tmp_path: Path, layout: str) -> None:
    """Some users renamed the folders."""
    names = [case.identifier for case in find_cases(make_tree(tmp_path / "x", layout))]

    assert names[-1] == "MSSEG2016_Tr_C08_P05"
    assert names[0] == "MSSEG2016_Te_C01_P01"


@pytest.mark.parametrize("layout", ["msseg2016-old", "msseg2016-old-masks"])
def test_old_training_set(tmp_path: Path, layout: str) -> None:
    """Preprocessed images pair with label maps of another tree; no initials remain."""
    cases = find_cases(make_tree(tmp_path / "x", layout, 15))

    assert len(cases) == 15
    assert cases[0].identifier == "MSSEG2016_Tr_C01_P016"
    assert {case.image.name.split(".")[0] for case in cases} == {"FLAIR_preprocessed"}
    for case in cases:
        assert case.image.parent.name == case.labels[0].parent.name
        assert case.image.parent != case.labels[0].parent
        assert "SACH" not in case.identifier


def test_unprocessed_images_are_taken_only_on_request(tmp_path: Path) -> None:
    """The old test set has nothing else."""
    root = make_tree(tmp_path / "x", "msseg2016-old-test", 3)

    with pytest.raises(ValueError, match=r"a preprocessed FLAIR(.|\n)*--allow-raw"):
        find_cases(root)
    cases = find_cases(root, allow_raw=True)

    assert cases[0].identifier == "MSSEG2016_Te_C01_P045"
    assert {case.image.name for case in cases} == {"3DFLAIR.nii.gz"}
    assert {case.facts["image"] for case in cases} == {"unprocessed"}


def test_missing_consensus_is_named(tmp_path: Path) -> None:
    """All images without one are listed."""
    root = make_tree(tmp_path / "x", n=3)
    for number in (1, 3):
        patient = root / f"MSSEG-Training/Training/Center_01/Patient_{number:02d}"
        (patient / "Masks" / "Consensus.nii.gz").unlink()

    with pytest.raises(
        ValueError, match=r"consensus(.|\n)*for 2:(.|\n)*_01/(.|\n)*_03"
    ):
        find_cases(root)


def test_two_copies_are_refused(tmp_path: Path) -> None:
    """Compressed and not compressed side by side."""
    root = make_tree(tmp_path / "x", n=1)
    image = next(root.rglob("FLAIR_preprocessed.nii.gz"))
    shutil.copy(image, image.with_suffix(""))

    with pytest.raises(ValueError, match="Got several of one case"):
        find_cases(root)


def test_two_releases_are_refused(tmp_path: Path) -> None:
    """The same patients have other names in the old release, and would be twice."""
    make_tree(tmp_path / "x" / "new", n=1)
    make_tree(tmp_path / "x" / "old", "msseg2016-old", 1)

    with pytest.raises(ValueError, match="both the current and the old layout"):
        find_cases(tmp_path / "x")
    with pytest.raises(ValueError, match="holds no such file"):
        find_cases(next(tmp_path.rglob("Masks")))


def test_empty_consensus_can_be_kept(tree: Path) -> None:
    """Then the cases are not left out later."""
    assert {case.without_lesion for case in find_cases(tree, keep_empty=True)} == {
        "keep"
    }


def test_whole_release_has_exactly_one_empty_consensus(tree: Path) -> None:
    """None or two are refused; of 52 cases nothing is known."""
    names = [case.identifier for case in find_cases(tree)]

    SOURCE.check(names, names[:1])
    SOURCE.check(names[1:], [])
    with pytest.raises(ValueError, match="Got none: the files"):
        SOURCE.check(names, [])
    with pytest.raises(ValueError, match=rf"Got 2 \({names[0]}, {names[1]}\)"):
        SOURCE.check(names, names[:2])
