"""Tests of finding label maps that belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_cel.evaluation.pairing import (
    find_label_maps,
    pair_cases,
    pair_images,
    raise_together,
)


def fill(folder: Path, *names: str) -> Path:
    """Create empty files in a folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_only_label_maps_are_found(tmp_path: Path) -> None:
    """What nnU-Net writes beside label maps is not taken for one."""
    fill(tmp_path, "b.nii.gz", "a.nrrd", "a.npz", "a.pkl", "dataset.json", "._b.nii.gz")
    (tmp_path / "folder.nii.gz").mkdir()

    found = find_label_maps(tmp_path)

    assert list(found) == ["a", "b"]
    assert found["a"] == tmp_path / "a.nrrd"


def test_two_label_maps_of_a_case_are_refused(tmp_path: Path) -> None:
    """A case cannot be there in two formats."""
    fill(tmp_path, "a.nii.gz", "a.nii")

    with pytest.raises(ValueError, match=r"a\.nii and a\.nii\.gz"):
        find_label_maps(tmp_path)


def test_empty_and_missing_folders_are_refused(tmp_path: Path) -> None:
    """A folder without label maps, and one that is not there, are named."""
    with pytest.raises(ValueError, match="has none"):
        find_label_maps(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        find_label_maps(tmp_path / "nowhere")


def test_all_lonely_files_are_listed(tmp_path: Path) -> None:
    """References without prediction and predictions without reference, all of them."""
    predictions = fill(tmp_path / "p", "a.nii.gz", "x.nii.gz", "y.nii.gz")
    references = fill(tmp_path / "r", "a.nii.gz", "b.nii.gz", "c.nii.gz")

    with pytest.raises(ValueError, match=r"2 of 3 references.*b, c.*2 of 3.*x, y"):
        pair_cases(predictions, references)


def test_subset_allows_fewer_predictions(tmp_path: Path) -> None:
    """Predictions of some cases are enough if that is said, surplus ones never are."""
    predictions = fill(tmp_path / "p", "b.nii")
    references = fill(tmp_path / "r", "a.nii.gz", "b.nii.gz")

    pairs = pair_cases(predictions, references, subset=True)

    assert pairs == {"b": (predictions / "b.nii", references / "b.nii.gz")}
    fill(predictions, "x.nii")
    with pytest.raises(ValueError, match="x"):
        pair_cases(predictions, references, subset=True)


def test_problems_are_raised_together() -> None:
    """One error lists all problems; without any there is none."""
    raise_together([])
    with pytest.raises(ValueError, match=r"^one$"):
        raise_together(["one"])
    with pytest.raises(ValueError, match="2 cases have problems:\n- one\n- two"):
        raise_together(["one", "two"])


def test_images_are_found_by_case_and_channel(tmp_path: Path) -> None:
    """Numbered images and those with the name of the case belong to it, others not."""
    names = ("a_0000.nii.gz", "a_0001.nrrd", "b.mha", "ab_0000.nii.gz", "a_0000.txt")
    fill(tmp_path, *names)

    assert pair_images(tmp_path, ["a", "b"]) == {
        "a": {"0000": tmp_path / "a_0000.nii.gz", "0001": tmp_path / "a_0001.nrrd"},
        "b": {"": tmp_path / "b.mha"},
    }


def test_all_cases_without_image_are_listed(tmp_path: Path) -> None:
    """One message names every case that has none."""
    fill(tmp_path, "a_0000.nii.gz")

    with pytest.raises(ValueError, match="none of b, c"):
        pair_images(tmp_path, ["a", "b", "c"])
    with pytest.raises(FileNotFoundError, match="no folder"):
        pair_images(tmp_path / "missing", ["a"])
