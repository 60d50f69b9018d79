"""A clinic's folders, BIDS data sets and tables: what pairs, what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from nnunet_cel.dataset_conversion.clinic_files import (
    find_bids_scans,
    find_folder_pairs,
    find_scans,
    read_scan_table,
    read_table,
)
from nnunet_cel.phantom.source_subject import make_tiny_subject
from nnunet_cel.phantom.source_tree import write_source_tree


def make_tree(folder: Path, layout: str, n: int = 4) -> Path:
    """Write a tree of tiny scans."""
    return write_source_tree(folder, layout, n, partial(make_tiny_subject, "cel"))


def touch(root: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders_of_images_and_labels_pair_by_themselves(tmp_path: Path) -> None:
    """The channel number of nnU-Net is no part of the name."""
    scans = find_folder_pairs(make_tree(tmp_path / "x", "cel-pairs", 2))

    assert [scan.subject for scan in scans] == ["Doe_Jane", "Roe_Joe"]
    for scan in scans:
        assert scan.image.name == f"{scan.subject}_0000.nii.gz"
        assert scan.label.name == f"{scan.subject}.nii.gz"
        assert scan.label.parent.name == "labelsTr"


def test_several_pairs_of_folders(tmp_path: Path) -> None:
    """Folders with the same word behind images and labels belong together."""
    touch(tmp_path, "imagesA/p.nii.gz", "labelsA/p.nii.gz")
    touch(tmp_path, "deep/images/p.mha", "deep/labels/p.nrrd")

    scans = find_folder_pairs(tmp_path)

    assert [(s.subject, s.session, s.image.suffix) for s in scans] == [
        ("p", "", ".mha"),
        ("p", "A", ".gz"),
    ]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{subject}/T1_gado.nii.gz", "{subject}/lesions.nii.gz"),
        ("*/T1_gado.nii.gz", "*/lesions.nii.gz"),
        ("**/{subject}/*gado.nii*", "**/{subject}/les*.nii.gz"),
    ],
)
def test_two_patterns_describe_a_folder_for_each_subject(
    tmp_path: Path, images: str, labels: str
) -> None:
    """The subject is what stands for {subject}, or for the only star."""
    scans = find_scans(make_tree(tmp_path / "a [b]", "cel-subjects", 3), images, labels)

    assert [scan.subject for scan in scans] == ["Bloggs_Erika", "Doe_Jane", "Roe_Joe"]
    assert {scan.image.name for scan in scans} == {"T1_gado.nii.gz"}
    assert all(scan.image.parent == scan.label.parent for scan in scans)


def test_pattern_with_session(tmp_path: Path) -> None:
    """A subject that stands twice must be the same both times."""
    for visit in ("1", "2"):
        touch(tmp_path, f"p/{visit}/p_gd.nii", f"p/{visit}/p_mask.nii")
    touch(tmp_path, "p/3/q_gd.nii")

    scans = find_scans(
        tmp_path,
        "{subject}/{session}/{subject}_gd.nii",
        "{subject}/{session}/{subject}_mask.nii",
    )

    assert [(scan.subject, scan.session) for scan in scans] == [("p", "1"), ("p", "2")]


def test_pattern_without_subject_is_refused(tmp_path: Path) -> None:
    """With two stars nobody knows which of them is the patient."""
    with pytest.raises(ValueError, match=r"patient's name stands.*Got '\*/\*\.nii'"):
        find_scans(tmp_path, "*/*.nii", "*/l.nii")


def test_images_without_label_map_are_named(tmp_path: Path) -> None:
    """All of them."""
    touch(tmp_path, "a/i.nii", "b/i.nii", "c/i.nii", "b/l.nii")

    with pytest.raises(ValueError, match=r"for 2:\n  .*a/i\.nii\n  .*c/i\.nii"):
        find_scans(tmp_path, "*/i.nii", "*/l.nii")


def test_nothing_found_names_the_options(tmp_path: Path) -> None:
    """The message shows how to describe the files."""
    with pytest.raises(ValueError, match=r"--images '\{subject\}/T1_gado"):
        find_folder_pairs(tmp_path)


def test_bids_sessions_and_diagnoses(tmp_path: Path) -> None:
    """Images with contrast agent pair with lesion masks; participants are read."""
    scans = find_bids_scans(make_tree(tmp_path / "x", "cel-bids", 6))

    assert [(scan.subject, scan.session) for scan in scans] == [
        ("BloggsErika", ""),
        ("DoeJane", ""),
        ("MusterMax", ""),
        ("RoeJoe", "01"),
        ("RoeJoe", "02"),
        ("RossiMario", ""),
    ]
    assert all("_ce-gadolinium_T1w" in scan.image.name for scan in scans)
    assert all("derivatives" in scan.label.parts for scan in scans)
    diagnoses = {scan.subject: scan.row["diagnosis"] for scan in scans}
    assert diagnoses["RossiMario"] == "NMOSD"
    assert diagnoses["DoeJane"] == "MS"


def test_bids_brain_masks_are_no_lesions(tmp_path: Path) -> None:
    """Other derivatives of the same image are left alone."""
    root = make_tree(tmp_path / "x", "cel-bids", 1)
    touch(root, "derivatives/bet/sub-DoeJane/anat/sub-DoeJane_desc-brain_mask.nii.gz")

    assert len(find_bids_scans(root)) == 1


@pytest.mark.parametrize("layout", ["cel-csv", "cel-dicom"])
def test_table_of_scans(tmp_path: Path, layout: str) -> None:
    """Paths are relative to the table; a second row of a patient is a second scan."""
    scans = read_scan_table(make_tree(tmp_path / "a b", layout) / "cases.csv")

    assert [(scan.subject, scan.session) for scan in scans] == [
        ("Doe_Jane", ""),
        ("Roe_Joe", ""),
        ("Roe_Joe", "2"),
        ("Bloggs_Erika", ""),
    ]
    assert all(scan.image.exists() and scan.label.is_file() for scan in scans)
    assert all(scan.image.is_dir() == (layout == "cel-dicom") for scan in scans)
    assert scans[0].row["diagnosis"] == "MS"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_spreadsheets_are_read(tmp_path: Path, separator: str) -> None:
    """With byte order mark, any separator, capitals, quotes, blanks and empty lines."""
    file = tmp_path / "t.csv"
    rows = [["Subject", " Image "], ['"Doe, Jane"', " a.nii "], ["", ""], ["x", "y"]]
    text = "\r\n".join(separator.join(row) for row in rows)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())

    assert read_table(file, required=("subject", "image")) == [
        {"subject": "Doe, Jane", "image": "a.nii"},
        {"subject": "x", "image": "y"},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Got none: name them"),
        (b"subject,picture\nx,y\n", r"columns subject, image.*Got subject, picture"),
        (b"subject,image,image\n", "each once"),
        (b"subject,image\n\nx,\n", "Row 2.*not empty"),
        (b"subject,image\nx,y,z\n", "Row 2.*Got x, y, z"),
        (b"subject,image\nx,\xff\xfe\n", "cannot be read"),
        (b'subject,image\n"x,y\n', "Row 2.*Got x,y"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file, and the line where there is one."""
    file = tmp_path / "t.csv"
    file.write_bytes(content)

    with pytest.raises(ValueError, match=message) as error:
        read_table(file, required=("subject", "image"))

    assert str(file) in str(error.value)


def test_absent_files_of_a_table_are_all_named(tmp_path: Path) -> None:
    """Image and label map, each with its path."""
    file = tmp_path / "t.csv"
    file.write_text("subject,image,label\nx,a.nii,b.nii\n")

    with pytest.raises(ValueError, match=r"2 do not:\n  .*a\.nii\n  .*b\.nii"):
        read_scan_table(file)
