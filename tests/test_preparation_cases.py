"""Which files are cases, and their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_cel.preparation.cases import (
    case_name,
    find_images,
    is_single,
    walk_images,
)

DICOM = bytes(128) + b"DICM"


def make(root: Path, *names: str, content: bytes = b"") -> None:
    """Write files below a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def relative(root: Path, images: dict[str, Path]) -> dict[str, str]:
    """Return the paths as text, relative to the root."""
    return {name: path.relative_to(root).as_posix() for name, path in images.items()}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.nii.gz", "a"),
        ("a_0000.nii", "a"),
        ("a_0001.nii", "a_0001"),
        ("a.b.NRRD", "a.b"),
        ("scan 1.mha", "scan 1"),
    ],
)
def test_names(file: str, name: str) -> None:
    """Ending and channel number are not part of the name."""
    assert case_name(Path(file)) == name


def test_flat_folder(tmp_path: Path) -> None:
    """All image files, sorted, and nothing else."""
    make(tmp_path, "b_0000.nii.gz", "a.nrrd", "notes.txt", ".c.nii", "._d.nii.gz")
    make(tmp_path, "__MACOSX/e.nii", "dataset.json")

    assert relative(tmp_path, find_images(tmp_path)) == {
        "a": "a.nrrd",
        "b": "b_0000.nii.gz",
    }


def test_folders_of_folders(tmp_path: Path) -> None:
    """Names of folders become part of the name."""
    make(tmp_path, "p1/T1.nii.gz", "p2/day 1/T1.nii.gz", "p3.nii")

    assert relative(tmp_path, find_images(tmp_path)) == {
        "p1_T1": "p1/T1.nii.gz",
        "p2_day 1_T1": "p2/day 1/T1.nii.gz",
        "p3": "p3.nii",
    }


def test_dicom_series_are_folders(tmp_path: Path) -> None:
    """They are known by ending or first bytes; a DICOMDIR is none."""
    make(tmp_path, "p1/series/IM001", "p1/series/IM002", "DICOMDIR", content=DICOM)
    make(tmp_path, "p2/1.dcm", "p3/readme.txt")

    assert relative(tmp_path, find_images(tmp_path)) == {
        "p1_series": "p1/series",
        "p2": "p2",
    }


def test_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a series is a case of its own, also as the working folder."""
    make(tmp_path, "a.nii.gz", "series/IM001", content=DICOM)

    assert find_images(tmp_path / "a.nii.gz") == {"a": tmp_path / "a.nii.gz"}
    assert find_images(tmp_path / "series") == {"series": tmp_path / "series"}
    monkeypatch.chdir(tmp_path / "series")
    assert find_images(Path()) == {"series": Path()}
    assert is_single(Path())
    assert not is_single(tmp_path)


def test_results_are_not_taken_for_images(tmp_path: Path) -> None:
    """What was prepared before lies beside the images, and is skipped."""
    make(tmp_path, "a.nii.gz", "out/preparation.json", "out/images/a_0000.nii.gz")

    assert list(find_images(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.nii", "a.nii.gz"),
        ("a_0000.nii.gz", "a.mha"),
        ("A.nii", "a.nrrd"),
        ("p_T1.nii", "p/T1.nii"),
    ],
)
def test_names_must_differ(tmp_path: Path, first: str, second: str) -> None:
    """Two cases of one name are refused, and both are named."""
    make(tmp_path, first, second)

    with pytest.raises(ValueError, match="Rename or remove") as error:
        find_images(tmp_path)

    assert str(tmp_path / first) in str(error.value)
    assert str(tmp_path / second) in str(error.value)


def test_a_label_map_beside_an_image_is_no_case(tmp_path: Path) -> None:
    """A folder in the folder may hold one image, because the other may be its label."""
    make(tmp_path, "p1/image.nii.gz", "p1/label.nii.gz")

    with pytest.raises(ValueError, match=r"Got image\.nii\.gz and label\.nii\.gz"):
        find_images(tmp_path)


def test_series_and_files_do_not_mix(tmp_path: Path) -> None:
    """A series that lies beside its converted image is refused."""
    make(tmp_path, "p1/1.dcm", "p1/T1.nii.gz")

    with pytest.raises(ValueError, match=r"Got both, for example T1\.nii\.gz"):
        find_images(tmp_path)


def test_nothing_found(tmp_path: Path) -> None:
    """A wrong path and a folder without images have different messages."""
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        find_images(tmp_path / "missing")
    with pytest.raises(ValueError, match="Got none"):
        find_images(tmp_path)


def test_walk_gives_both_names(tmp_path: Path) -> None:
    """The name of the file, and that with the folders."""
    make(tmp_path, "p1/T1_0000.nii.gz")

    found = list(walk_images(tmp_path))

    assert found == [(tmp_path / "p1/T1_0000.nii.gz", "T1", "p1_T1")]
