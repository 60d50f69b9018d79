"""Which files are cases, which belong together, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.files import to_csv
from nnunet_cel.scans import (
    case_name,
    find_described_scans,
    find_images,
    find_label_maps,
    is_single,
    pair_cases,
    pair_images,
    read_table,
    walk_images,
)

DICOM = bytes(128) + b"DICM"


def make_tree(folder: Path, layout: str, n: int = 4) -> Path:
    """Write a tree of tiny scans."""
    return write_tree(folder, layout, n)


def touch(root: Path, *names: str, content: bytes = b"") -> Path:
    """Write files below a folder, empty ones as a rule."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_folders_of_images_and_labels_pair_by_themselves(tmp_path: Path) -> None:
    """The channel number is no part of the name; more such folders are sessions."""
    touch(tmp_path / "a", "imagesTr/p_0000.nii.gz", "labelsTr/p.nii.gz")
    (scan,) = find_described_scans(tmp_path / "a")
    assert (scan.subject, scan.session) == ("p", "")
    assert scan.image.name == "p_0000.nii.gz"
    assert scan.label.parent.name == "labelsTr"

    touch(tmp_path / "b", "imagesA/p.nii.gz", "labelsA/p.nii.gz")
    touch(tmp_path / "b", "deep/images/p.mha", "deep/labels/p.nrrd")
    scans = find_described_scans(tmp_path / "b")
    assert [(s.subject, s.session, s.image.suffix) for s in scans] == [
        ("p", "", ".mha"),
        ("p", "A", ".gz"),
    ]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{subject}/T1_gado.nii.gz", "{subject}/lesions.nii.gz"),
        ("*/T1_gado.nii.gz", "*/lesions.nii.gz"),
        ("**/{subject}/*gado.nii*", "**/{subject}/les?ons.nii.gz"),
    ],
)
def test_two_patterns_describe_a_folder_for_each_subject(
    tmp_path: Path, images: str, labels: str
) -> None:
    """The subject is what stands for {subject}, or for the only star."""
    root = make_tree(tmp_path / "a [b]", "cel-subjects", 3)

    scans = find_described_scans(root, images, labels)

    assert [scan.subject for scan in scans] == ["Bloggs_Erika", "Doe_Jane", "Roe_Joe"]
    assert {scan.image.name for scan in scans} == {"T1_gado.nii.gz"}
    assert all(scan.image.parent == scan.label.parent for scan in scans)


def test_pattern_with_session(tmp_path: Path) -> None:
    """A subject that stands twice must be the same both times."""
    for visit in ("1", "2"):
        touch(tmp_path, f"p/{visit}/p_gd.nii", f"p/{visit}/p_mask.nii")
    touch(tmp_path, "p/3/q_gd.nii")
    pattern = "{subject}/{session}/{subject}_"

    scans = find_described_scans(tmp_path, f"{pattern}gd.nii", f"{pattern}mask.nii")

    assert [scan.name for scan in scans] == ["p_1", "p_2"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("*/*.nii", "*/l.nii"), r"patient's name stands.*Got '\*/\*\.nii'"),
        (("*/i.nii", None), "Got only --images"),
        (("*/i.nii", "*/l.nii"), r"label map.*\n  .*/a/i\.nii\n  .*/c/i\.nii\nAdd"),
        (("*/x.nii", "*/l.nii"), r"--images '\{subject\}/T1_gado"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(
    tmp_path: Path, patterns: tuple[str, str | None], message: str
) -> None:
    """Two stars, one pattern alone, images without label map, nothing at all."""
    touch(tmp_path, "a/i.nii", "b/i.nii", "c/i.nii", "b/l.nii")

    with pytest.raises(ValueError, match=message):
        find_described_scans(tmp_path, *patterns)


def test_bids_sessions_and_diagnoses(tmp_path: Path) -> None:
    """Images with contrast agent pair with lesion masks, not with brain masks."""
    root = make_tree(tmp_path / "x", "cel-bids", 6)
    touch(root, "derivatives/bet/sub-DoeJane/anat/sub-DoeJane_desc-brain_mask.nii.gz")

    scans = find_described_scans(root)

    assert [(scan.subject, scan.session, scan.row["diagnosis"]) for scan in scans] == [
        ("BloggsErika", "", "MS"),
        ("DoeJane", "", "MS"),
        ("MusterMax", "", "MS"),
        ("RoeJoe", "01", "MS"),
        ("RoeJoe", "02", "MS"),
        ("RossiMario", "", "NMOSD"),
    ]
    assert all("_ce-gadolinium_T1w" in scan.image.name for scan in scans)
    assert all("derivatives" in scan.label.parts for scan in scans)


@pytest.mark.parametrize("layout", ["cel-csv", "cel-dicom"])
def test_table_of_scans(tmp_path: Path, layout: str) -> None:
    """Paths are relative to the table; a second row of a patient is a second scan."""
    table = make_tree(tmp_path / "a b", layout) / "cases.csv"

    scans = find_described_scans(table)

    assert [(scan.subject, scan.session) for scan in scans] == [
        ("Doe_Jane", ""),
        ("Roe_Joe", ""),
        ("Roe_Joe", "2"),
        ("Bloggs_Erika", ""),
    ]
    assert all(scan.image.exists() and scan.label.is_file() for scan in scans)
    assert all(scan.image.is_dir() == (layout == "cel-dicom") for scan in scans)
    assert scans[0].row["diagnosis"] == "MS"
    scans[0].label.unlink()
    with pytest.raises(ValueError, match=r"Absent are:\n  .*\nPaths"):
        find_described_scans(table)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("A b,\na-B,2", "patients must differ.* Got A b and a-B"),
        ("a,b_c\na_b,c", "scans must differ.* Got a_b_c and a_b_c"),
    ],
)
def test_names_that_are_alike_are_refused(
    tmp_path: Path, rows: str, message: str
) -> None:
    """The same patient must not be in training and test, nor a scan be replaced."""
    table = touch(tmp_path, "i.nii") / "t.csv"
    text = "\n".join(f"i.nii,i.nii,{row}" for row in rows.splitlines())
    table.write_text(f"image,label,subject,session\n{text}\n")

    with pytest.raises(ValueError, match=message):
        find_described_scans(table)


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


def test_cells_that_a_spreadsheet_would_run_come_back(tmp_path: Path) -> None:
    """What `prepare` and `convert cel` write is what they read."""
    file = tmp_path / "a.csv"
    file.write_text(to_csv([["subject", "source"], ["=1+1", "-x"], ["@a", "'b"]]))

    assert read_table(file, required=("subject", "source")) == [
        {"subject": "=1+1", "source": "-x"},
        {"subject": "@a", "source": "'b"},
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


@pytest.mark.parametrize(
    ("file", "name"),
    [("a.nii.gz", "a"), ("a_0000.nii", "a"), ("a_0001.nii", "a_0001"), ("b.NRRD", "b")],
)
def test_names(file: str, name: str) -> None:
    """Ending and channel number are not part of the name."""
    assert case_name(Path(file)) == name


def test_images_of_folders(tmp_path: Path) -> None:
    """Names of folders become part of the name; what was prepared is left out."""
    touch(tmp_path, "p1/T1.nii.gz", "p2/day 1/T1_0000.nii.gz", "p3.nii")
    touch(tmp_path, "notes.txt", ".c.nii", "__MACOSX/e.nii", "p1/.d/x.nii")
    touch(tmp_path, "out/preparation.json", "out/images/a_0000.nii.gz")
    touch(tmp_path, "s/series/IM001", "s/series/IM002", "DICOMDIR", content=DICOM)
    touch(tmp_path, "t/1.dcm", "u/readme.txt")

    found = find_images(tmp_path)

    assert list(found) == ["p1_T1", "p2_day 1_T1", "p3", "s_series", "t"]
    assert found["s_series"] == tmp_path / "s/series"
    walked = {name: joined for _, name, joined in walk_images(tmp_path / "p2")}
    assert walked == {"T1": "day 1_T1"}


def test_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a series is a case of its own, also as the working folder."""
    touch(tmp_path, "a.nii.gz", "series/IM001", content=DICOM)

    assert find_images(tmp_path / "a.nii.gz") == {"a": tmp_path / "a.nii.gz"}
    assert find_images(tmp_path / "series") == {"series": tmp_path / "series"}
    monkeypatch.chdir(tmp_path / "series")
    assert find_images(Path()) == {"series": Path()}
    assert is_single(Path())
    assert not is_single(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.nii", "a.nii.gz"), r"a\.nii\n.*a\.nii\.gz\nRename or remove"),
        (("A.nii", "a_0000.mha"), "Rename or remove"),
        (("p_T1.nii", "p/T1.nii"), r"T1\.nii\n.*T1\.nii\nRename or remove"),
        # The other one may be its label map.
        (("p/image.nii", "p/label.nii"), r"one image(.|\n)*image\.nii\n.*label\.nii"),
        (("p/1.dcm", "p/T1.nii.gz"), r"Got both, for example T1\.nii\.gz"),
        (("a.txt",), "Got none"),
    ],
)
def test_images_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    """Cases of one name, neighbors, a series beside its converted image, nothing."""
    with pytest.raises(ValueError, match=message):
        find_images(touch(tmp_path, *names))


def test_missing_folders_are_named(tmp_path: Path) -> None:
    """Whatever is looked for in them."""
    for find in (find_images, find_label_maps, partial(pair_images, cases=["a"])):
        with pytest.raises(FileNotFoundError, match="/nowhere"):
            find(tmp_path / "nowhere")


def test_only_label_maps_are_found(tmp_path: Path) -> None:
    """What nnU-Net writes beside them is not taken for one; one case has one."""
    touch(tmp_path, "b.nii.gz", "a.nrrd", "a.npz", "a.pkl", "x.json", "._b.nii.gz")
    (tmp_path / "folder.nii.gz").mkdir()

    assert find_label_maps(tmp_path) == {
        "a": tmp_path / "a.nrrd",
        "b": tmp_path / "b.nii.gz",
    }
    touch(tmp_path, "b.nii")
    with pytest.raises(ValueError, match=r"b\.nii\n.*b\.nii\.gz\nMove"):
        find_label_maps(tmp_path)
    with pytest.raises(ValueError, match="has none"):
        find_label_maps(tmp_path / "folder.nii.gz")


def test_lonely_files_are_listed(tmp_path: Path) -> None:
    """All of them; a subset of predictions is enough if that is said."""
    predictions = touch(tmp_path / "p", "a.nii", "x.nii.gz", "y.nii.gz")
    references = touch(tmp_path / "r", "a.nii.gz", "b.nii.gz", "c.nii.gz")

    with pytest.raises(ValueError, match=r"2 of 3 references.*b, c.*2 of 3.*x, y"):
        pair_cases(predictions, references)
    with pytest.raises(ValueError, match="x, y"):
        pair_cases(predictions, references, subset=True)
    for name in "xy":
        (predictions / f"{name}.nii.gz").unlink()
    assert pair_cases(predictions, references, subset=True) == {
        "a": (predictions / "a.nii", references / "a.nii.gz")
    }


def test_images_are_found_by_case_and_channel(tmp_path: Path) -> None:
    """Numbered images and those with the name of the case belong to it, others not."""
    names = ("a_0000.nii.gz", "a_0001.nrrd", "b.mha", "ab_0000.nii.gz", "a_0000.txt")
    touch(tmp_path, *names)

    assert pair_images(tmp_path, ["a", "b"]) == {
        "a": {"0000": tmp_path / "a_0000.nii.gz", "0001": tmp_path / "a_0001.nrrd"},
        "b": {"": tmp_path / "b.mha"},
    }
    with pytest.raises(ValueError, match="none of c, d"):
        pair_images(tmp_path, ["a", "c", "d"])
