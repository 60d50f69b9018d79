"""MSSEG 2016: every layout, names of cases, the empty consensus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.dataset_conversion.msseg2016 import find_cases


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """All 53 scans as distributed, as empty files; 15 are of the training part."""
    return write_tree(tmp_path / "source", "msseg2016", 53, empty=True)


def test_all_cases_of_the_release_have_names_of_their_own(tree: Path) -> None:
    """53 names, although patient numbers begin anew in each center and part."""
    cases = find_cases(tree)

    names = {case.identifier for case in cases}
    assert len(names) == 53
    assert {"MSSEG2016_Tr_C01_P01", "MSSEG2016_Te_C01_P01"} < names
    parts = Counter(case.facts["part"] for case in cases)
    assert parts == {"Training": 15, "Testing": 38}
    assert {case.image.name for case in cases} == {"FLAIR_preprocessed.nii.gz"}
    for case in cases:
        (label,) = case.labels
        assert label.name == "Consensus.nii.gz"
        assert label.parent.parent == case.image.parent.parent
        assert case.without_lesion == "exclude"
    kept = find_cases(tree / "MSSEG-Training" / "Training", keep_empty=True)
    assert [case.without_lesion for case in kept] == ["keep"] * 15


@pytest.mark.parametrize("layout", ["msseg2016-old", "msseg2016-old-masks"])
def test_old_training_set(tmp_path: Path, layout: str) -> None:
    """Preprocessed images pair with label maps of another tree; no initials remain."""
    cases = find_cases(write_tree(tmp_path, layout, 15, empty=True))

    assert len(cases) == 15
    assert cases[0].identifier == "MSSEG2016_Tr_C01_P016"
    assert {case.image.name.split(".")[0] for case in cases} == {"FLAIR_preprocessed"}
    for case in cases:
        assert case.image.parent.name == case.labels[0].parent.name
        assert case.image.parent != case.labels[0].parent
        assert "SACH" not in case.identifier


def test_other_layouts(tmp_path: Path) -> None:
    """Folders in small letters; the test set of 2016, which is unprocessed."""
    lower = find_cases(
        write_tree(tmp_path / "a", "msseg2016-lowercase", 17, empty=True)
    )
    assert lower[-1].identifier == "MSSEG2016_Tr_C08_P05"
    assert lower[0].identifier == "MSSEG2016_Te_C01_P01"

    root = write_tree(tmp_path / "b", "msseg2016-old-test", 3, empty=True)
    with pytest.raises(ValueError, match=r"a preprocessed FLAIR(.|\n)*--allow-raw"):
        find_cases(root)
    cases = find_cases(root, allow_raw=True)
    assert cases[0].identifier == "MSSEG2016_Te_C01_P045"
    assert {case.image.name for case in cases} == {"3DFLAIR.nii.gz"}
    assert {case.facts["image"] for case in cases} == {"unprocessed"}


def test_what_is_no_release_is_refused(tree: Path, tmp_path: Path) -> None:
    """Images without consensus, two copies, two releases with other names, nothing."""
    patient = tree / "MSSEG-Training/Training/Center_01/Patient_01"
    (patient / "Preprocessed_Data" / "FLAIR_preprocessed.nii").touch()
    with pytest.raises(ValueError, match="Got several of one case"):
        find_cases(tree)
    (patient / "Preprocessed_Data" / "FLAIR_preprocessed.nii").unlink()
    write_tree(tree / "old", "msseg2016-old", 1, empty=True)
    with pytest.raises(ValueError, match="both the current and the old layout"):
        find_cases(tree)
    (patient / "Masks" / "Consensus.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"a consensus.*:\n  .*Center_01/Patient_01/"):
        find_cases(tree / "MSSEG-Training")
    with pytest.raises(ValueError, match="holds no such file"):
        find_cases(patient / "Masks")
