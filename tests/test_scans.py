"""Which files are cases, which belong together, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from source_layouts import write_tree

from nnunet_cel.scans import (
    case_name,
    find_bids_scans,
    find_files,
    find_folder_pairs,
    find_images,
    find_label_maps,
    find_scans,
    find_unique,
    is_single,
    pair_cases,
    pair_images,
    raise_together,
    read_scan_table,
    read_table,
    refuse_missing,
    walk_images,
)

IMAGE = re.compile(r"/(?P<name>\w+)_flair\.nii(?:\.gz)?$")
DICOM = bytes(128) + b"DICM"


def make_tree(folder: Path, layout: str, n: int = 4) -> Path:
    """Write a tree of tiny scans."""
    return write_tree(folder, layout, n)


def touch(root: Path, *names: str, content: bytes = b"") -> Path:
    """Write files below a folder, empty ones as a rule."""
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


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


def test_images_of_all_formats_are_found_and_dirt_is_not(tmp_path: Path) -> None:
    """Resource forks, hidden folders and unfinished downloads are left out."""
    touch(
        tmp_path,
        *("b/x.nii.gz", "a/y.NII", "z.mha", "a/q.nrrd"),
        *("._x.nii.gz", "__MACOSX/a/x.nii.gz", ".git/x.nii", "x.nii.gz.part", "x.txt"),
    )

    found = [file.relative_to(tmp_path).as_posix() for file in find_files(tmp_path)]

    assert found == ["a/q.nrrd", "a/y.NII", "b/x.nii.gz", "z.mha"]


def test_root_may_be_hidden(tmp_path: Path) -> None:
    """Only what is below the root is judged by its name."""
    touch(tmp_path, ".cache/x.nii")

    assert len(find_files(tmp_path / ".cache")) == 1


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    """A link to a folder is followed, one that leads back is no endless loop."""
    touch(tmp_path, "disk/x.nii", "root/y.nii")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "root")

    names = [file.name for file in find_files(tmp_path / "root")]

    assert names == ["x.nii", "y.nii"]


def test_missing_root_is_refused(tmp_path: Path) -> None:
    """The message names the folder."""
    with pytest.raises(NotADirectoryError, match=r"must exist. Got .*/nothing"):
        find_files(tmp_path / "nothing")


def test_all_files_of_one_case_are_named(tmp_path: Path) -> None:
    """Two files of the same case are an error that lists both."""
    touch(tmp_path, "a_flair.nii", "copy/a_flair.nii.gz", "b_flair.nii")

    with pytest.raises(ValueError, match=r"of 1 cases:\n.*a_flair.nii\n.*nii.gz\nName"):
        find_unique(find_files(tmp_path), IMAGE, lambda m: m["name"], what="images")


def test_files_are_keyed(tmp_path: Path) -> None:
    """Files that do not match are left out."""
    touch(tmp_path, "a_flair.nii", "b_flair.nii.gz", "b_t1.nii.gz")

    found = find_unique(find_files(tmp_path), IMAGE, lambda m: m["name"], what="images")

    assert {key: file.name for key, file in found.items()} == {
        "a": "a_flair.nii",
        "b": "b_flair.nii.gz",
    }


def test_all_that_lack_something_are_named() -> None:
    """The list is whole and sorted; without any there is no error."""
    refuse_missing([], what="a mask", cure="Draw one.")
    with pytest.raises(ValueError, match=r"a mask.*for 2:\n  a\n  b\nDraw one\."):
        refuse_missing([Path("b"), Path("a")], what="a mask", cure="Draw one.")


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
    touch(tmp_path, "b_0000.nii.gz", "a.nrrd", "notes.txt", ".c.nii", "._d.nii.gz")
    touch(tmp_path, "__MACOSX/e.nii", "dataset.json")

    assert relative(tmp_path, find_images(tmp_path)) == {
        "a": "a.nrrd",
        "b": "b_0000.nii.gz",
    }


def test_folders_of_folders(tmp_path: Path) -> None:
    """Names of folders become part of the name."""
    touch(tmp_path, "p1/T1.nii.gz", "p2/day 1/T1.nii.gz", "p3.nii")

    assert relative(tmp_path, find_images(tmp_path)) == {
        "p1_T1": "p1/T1.nii.gz",
        "p2_day 1_T1": "p2/day 1/T1.nii.gz",
        "p3": "p3.nii",
    }


def test_dicom_series_are_folders(tmp_path: Path) -> None:
    """They are known by ending or first bytes; a DICOMDIR is none."""
    touch(tmp_path, "p1/series/IM001", "p1/series/IM002", "DICOMDIR", content=DICOM)
    touch(tmp_path, "p2/1.dcm", "p3/readme.txt")

    assert relative(tmp_path, find_images(tmp_path)) == {
        "p1_series": "p1/series",
        "p2": "p2",
    }


def test_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a series is a case of its own, also as the working folder."""
    touch(tmp_path, "a.nii.gz", "series/IM001", content=DICOM)

    assert find_images(tmp_path / "a.nii.gz") == {"a": tmp_path / "a.nii.gz"}
    assert find_images(tmp_path / "series") == {"series": tmp_path / "series"}
    monkeypatch.chdir(tmp_path / "series")
    assert find_images(Path()) == {"series": Path()}
    assert is_single(Path())
    assert not is_single(tmp_path)


def test_results_are_not_taken_for_images(tmp_path: Path) -> None:
    """What was prepared before lies beside the images, and is skipped."""
    touch(tmp_path, "a.nii.gz", "out/preparation.json", "out/images/a_0000.nii.gz")

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
    touch(tmp_path, first, second)

    with pytest.raises(ValueError, match="Rename or remove") as error:
        find_images(tmp_path)

    assert str(tmp_path / first) in str(error.value)
    assert str(tmp_path / second) in str(error.value)


def test_a_label_map_beside_an_image_is_no_case(tmp_path: Path) -> None:
    """A folder in the folder may hold one image, because the other may be its label."""
    touch(tmp_path, "p1/image.nii.gz", "p1/label.nii.gz")

    with pytest.raises(ValueError, match=r"Got image\.nii\.gz and label\.nii\.gz"):
        find_images(tmp_path)


def test_series_and_files_do_not_mix(tmp_path: Path) -> None:
    """A series that lies beside its converted image is refused."""
    touch(tmp_path, "p1/1.dcm", "p1/T1.nii.gz")

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
    touch(tmp_path, "p1/T1_0000.nii.gz")

    found = list(walk_images(tmp_path))

    assert found == [(tmp_path / "p1/T1_0000.nii.gz", "T1", "p1_T1")]


def test_only_label_maps_are_found(tmp_path: Path) -> None:
    """What nnU-Net writes beside label maps is not taken for one."""
    touch(
        tmp_path, "b.nii.gz", "a.nrrd", "a.npz", "a.pkl", "dataset.json", "._b.nii.gz"
    )
    (tmp_path / "folder.nii.gz").mkdir()

    found = find_label_maps(tmp_path)

    assert list(found) == ["a", "b"]
    assert found["a"] == tmp_path / "a.nrrd"


def test_two_label_maps_of_a_case_are_refused(tmp_path: Path) -> None:
    """A case cannot be there in two formats."""
    touch(tmp_path, "a.nii.gz", "a.nii")

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
    predictions = touch(tmp_path / "p", "a.nii.gz", "x.nii.gz", "y.nii.gz")
    references = touch(tmp_path / "r", "a.nii.gz", "b.nii.gz", "c.nii.gz")

    with pytest.raises(ValueError, match=r"2 of 3 references.*b, c.*2 of 3.*x, y"):
        pair_cases(predictions, references)


def test_subset_allows_fewer_predictions(tmp_path: Path) -> None:
    """Predictions of some cases are enough if that is said, surplus ones never are."""
    predictions = touch(tmp_path / "p", "b.nii")
    references = touch(tmp_path / "r", "a.nii.gz", "b.nii.gz")

    pairs = pair_cases(predictions, references, subset=True)

    assert pairs == {"b": (predictions / "b.nii", references / "b.nii.gz")}
    touch(predictions, "x.nii")
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
    touch(tmp_path, *names)

    assert pair_images(tmp_path, ["a", "b"]) == {
        "a": {"0000": tmp_path / "a_0000.nii.gz", "0001": tmp_path / "a_0001.nrrd"},
        "b": {"": tmp_path / "b.mha"},
    }


def test_all_cases_without_image_are_listed(tmp_path: Path) -> None:
    """One message names every case that has none."""
    touch(tmp_path, "a_0000.nii.gz")

    with pytest.raises(ValueError, match="none of b, c"):
        pair_images(tmp_path, ["a", "b", "c"])
    with pytest.raises(FileNotFoundError, match="no folder"):
        pair_images(tmp_path / "missing", ["a"])
