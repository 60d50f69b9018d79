"""Which files are cases, which belong together, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.scans import (
    case_name,
    find_described_scans,
    find_files,
    find_images,
    find_label_maps,
    is_single,
    pair_cases,
    pair_images,
    walk_images,
)

DICOM = bytes(128) + b"DICM"


def touch(root: Path, *names: str, content: bytes = b"") -> Path:
    """Write files below a folder, empty ones as a rule."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_folders_of_images_and_labels_pair_by_themselves(tmp_path: Path) -> None:
    """The channel number is no part of the name; more such folders are sessions."""
    touch(tmp_path / "a", "imagesTr/p_0000.nii.gz", "labelsTr/p.nii.gz")
    touch(tmp_path / "b", "imagesA/p.nii.gz", "labelsA/p.nii.gz")
    touch(tmp_path / "b", "deep/images/p.mha", "deep/labels/p.nrrd")

    (scan,) = find_described_scans(tmp_path / "a")
    scans = find_described_scans(tmp_path / "b")

    assert (scan.subject, scan.session) == ("p", "")
    assert (scan.image.name, scan.label.parent.name) == ("p_0000.nii.gz", "labelsTr")
    assert [(s.subject, s.session, s.image.suffix) for s in scans] == [
        ("p", "", ".mha"),
        ("p", "A", ".gz"),
    ]


def test_two_patterns_describe_a_folder_for_each_subject(tmp_path: Path) -> None:
    """The subject is what stands for {subject}, the same both times, or for a star."""
    root = write_tree(tmp_path / "a [b]", "cel-subjects", 3, empty=True)
    for images, labels in (
        ("*/T1_gado.nii.gz", "*/lesions.nii.gz"),
        ("**/{subject}/*gado.nii*", "**/{subject}/les?ons.nii.gz"),
    ):
        scans = find_described_scans(root, images, labels)
        subjects = [scan.subject for scan in scans]
        assert subjects == ["Bloggs_Erika", "Doe_Jane", "Roe_Joe"]
        assert {scan.image.name for scan in scans} == {"T1_gado.nii.gz"}
        assert all(scan.image.parent == scan.label.parent for scan in scans)

    for visit in ("1", "2"):
        touch(tmp_path, f"p/{visit}/p_gd.nii", f"p/{visit}/p_mask.nii")
    touch(tmp_path, "p/3/q_gd.nii")
    pattern = "{subject}/{session}/{subject}_"
    scans = find_described_scans(tmp_path, f"{pattern}gd.nii", f"{pattern}mask.nii")
    assert [scan.name for scan in scans] == ["p_1", "p_2"]


def test_patterns_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Two stars, one pattern alone, images without label map, nothing at all."""
    touch(tmp_path, "a/i.nii", "b/i.nii", "c/i.nii", "b/l.nii")

    for images, labels, message in (
        ("*/*.nii", "*/l.nii", r"patient's name stands.*Got '\*/\*\.nii'"),
        ("*/i.nii", None, "both say where.*Got ''"),
        ("*/i.nii", "*/l.nii", r"label map.*\n  .*/a/i\.nii\n  .*/c/i\.nii\nAdd"),
        ("*/x.nii", "*/l.nii", r"It holds none: .*--images and --labels"),
    ):
        with pytest.raises(ValueError, match=message):
            find_described_scans(tmp_path, images, labels)


def test_bids_sessions_and_diagnoses(tmp_path: Path) -> None:
    """Images with contrast agent pair with lesion masks, not with brain masks."""
    root = write_tree(tmp_path / "x", "cel-bids", 6, empty=True)
    touch(root, "derivatives/bet/sub-DoeJane/anat/sub-DoeJane_desc-brain_mask.nii.gz")

    scans = find_described_scans(root)

    assert [(scan.subject, scan.session, scan.row["diagnosis"]) for scan in scans] == [
        *((name, "", "MS") for name in ("BloggsErika", "DoeJane", "MusterMax")),
        *(("RoeJoe", session, "MS") for session in ("01", "02")),
        ("RossiMarie", "", "NMOSD"),
    ]
    assert all("_ce-gadolinium_T1w" in scan.image.name for scan in scans)
    assert all("derivatives" in scan.label.parts for scan in scans)


def test_table_of_scans(tmp_path: Path) -> None:
    """Paths are relative to the table; a second row of a patient is a second scan."""
    table = write_tree(tmp_path / "a b", "cel-csv", 4, empty=True) / "cases.csv"

    scans = find_described_scans(table)

    names = [scan.name for scan in scans]
    assert names == ["Doe_Jane", "Roe_Joe", "Roe_Joe_2", "Bloggs_Erika"]
    assert all(scan.image.is_file() and scan.label.is_file() for scan in scans)
    assert scans[0].row["diagnosis"] == "MS"
    scans[0].label.unlink()
    with pytest.raises(ValueError, match=r"Absent are:\n  .*\nPaths"):
        find_described_scans(table)
    table.write_text("subject,image,label\n")
    with pytest.raises(ValueError, match=r"cases\.csv must have a row for each"):
        find_described_scans(table)


def test_names_that_are_alike_are_refused(tmp_path: Path) -> None:
    """The same patient must not be in training and test, nor a scan be replaced."""
    table = touch(tmp_path, "i.nii") / "t.csv"

    for first, second, message in (
        ("A b,", "a-B,2", "patients must differ.* Got A b and a-B"),
        ("a,b_c", "a_b,c", "scans must differ.* Got a_b_c and a_b_c"),
    ):
        rows = f"i.nii,i.nii,{first}\ni.nii,i.nii,{second}\n"
        table.write_text(f"image,label,subject,session\n{rows}")
        with pytest.raises(ValueError, match=message):
            find_described_scans(table)


def test_images_of_all_formats_are_found_and_dirt_is_not(tmp_path: Path) -> None:
    """Only what is below the root is judged; links are followed, not in circles."""
    root = touch(tmp_path / ".root", "b/x.nii.gz", "a/y.NII", "z.mha", "a/q.nrrd")
    touch(root, "._x.nii.gz", "__MACOSX/a/x.nii.gz", ".git/x.nii", "x.nii.gz.part")
    touch(tmp_path, "disk/x.nii")
    (root / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(root)
    start = root.as_posix()

    patterns = [f"{start}/(.+)$", r"/(y|q)\."]
    everything, some = find_files(root, patterns, lambda match: match[1])

    assert list(everything) == [
        *("a/q.nrrd", "a/y.NII", "b/x.nii.gz", "link/x.nii", "z.mha")
    ]
    assert some == {"q": root / "a/q.nrrd", "y": root / "a/y.NII"}


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
    walked = {path.name: joined for path, joined in walk_images(tmp_path / "p2")}
    assert walked == {"T1_0000.nii.gz": "day 1_T1"}


def test_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a series is a case of its own, also as the working folder."""
    touch(tmp_path, "a.nii.gz", "series/IM001", content=DICOM)

    assert find_images(tmp_path / "a.nii.gz") == {"a": tmp_path / "a.nii.gz"}
    assert find_images(tmp_path / "series") == {"series": tmp_path / "series"}
    monkeypatch.chdir(tmp_path / "series")
    assert find_images(Path()) == {"series": Path()}
    assert not is_single(tmp_path)
    files = ("a.nii.gz", "a_0000.nii", "a_0001.nii", "b.NRRD")
    assert [case_name(Path(f)) for f in files] == ["a", "a", "a_0001", "b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.nii", "a.nii.gz"), r"a\.nii\n.*a\.nii\.gz\nRename"),
        (("A.nii", "a_0000.mha"), "Rename"),
        (("p_T1.nii", "p/T1.nii"), r"T1\.nii\n.*T1\.nii\nRename"),
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
    with pytest.raises(ValueError, match="Got none"):
        find_label_maps(tmp_path / "folder.nii.gz")


def test_lonely_files_are_listed(tmp_path: Path) -> None:
    """All of them; a subset of predictions is enough if that is said."""
    predictions = touch(tmp_path / "p", "a.nii", "x.nii.gz", "y.nii.gz")
    references = touch(tmp_path / "r", "a.nii.gz", "b.nii.gz", "c.nii.gz")

    with pytest.raises(ValueError, match=r"prediction.*: b, c\..* reference: x, y"):
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
