"""Tests of source trees, with subjects of a few voxels, in every layout old and new."""

from __future__ import annotations

import csv
from collections import Counter
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from source_layouts import LAYOUTS, make_tiny_subject, write_tree

from nnunet_cel.phantom import layouts
from nnunet_cel.phantom.layouts import MARKER, write_source_tree
from nnunet_cel.phantom.subject import Subject
from nnunet_cel.volumes import Volume, read_label_map, read_volume, same_grid

EXPECTED = {
    "isbi2015": """
        training/training01/masks/training01_01_mask1.nii
        training/training01/masks/training01_01_mask2.nii
        training/training01/preprocessed/training01_01_flair_pp.nii
    """,
    "msseg2016": """
        MSSEG-Training/Training/Center_01/Patient_01/Masks/Consensus.nii.gz
        MSSEG-Training/Training/Center_01/Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz
        MSSEG-Training/Training/Center_01/Patient_01/Raw_Data/FLAIR.nii.gz
    """,
    "wmh2017": """
        training/Amsterdam/GE3T/100/orig/FLAIR.nii.gz
        training/Amsterdam/GE3T/100/orig/T1.nii.gz
        training/Amsterdam/GE3T/100/pre/FLAIR.nii.gz
        training/Amsterdam/GE3T/100/pre/T1.nii.gz
        training/Amsterdam/GE3T/100/wmh.nii.gz
    """,
    "cel-bids": """
        dataset_description.json
        derivatives/lesions/dataset_description.json
        derivatives/lesions/sub-DoeJane/anat/sub-DoeJane_label-lesion_mask.nii.gz
        participants.tsv
        sub-DoeJane/anat/sub-DoeJane_ce-gadolinium_T1w.nii.gz
    """,
    "cel-dicom": """
        Doe_Jane/MR/T1_gado/IM0001.dcm
        Doe_Jane/MR/T1_gado/IM0002.dcm
        Doe_Jane/MR/T1_gado/IM0003.dcm
        Doe_Jane/MR/T1_gado/IM0004.dcm
        Doe_Jane/MR/T1_gado/IM0005.dcm
        Doe_Jane/MR/lesions.nii.gz
        cases.csv
    """,
}


def write(folder: Path, layout: str, n: int, **options: int) -> Path:
    """Write a tree of tiny subjects, without decoys."""
    make_subject = partial(make_tiny_subject, LAYOUTS[layout].kind)
    write_source_tree(folder, LAYOUTS[layout], n, make_subject, **options)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def points(volume: Volume, where: np.ndarray) -> np.ndarray:
    """Return the sorted places in mm of the voxels of a mask, (N, 3)."""
    found = nib.affines.apply_affine(volume.affine, np.argwhere(where))
    return np.array(sorted(found.round(2).tolist()))


def test_newest_layouts_hold_exactly_these_files(tmp_path: Path) -> None:
    """The first slot of each layout, beside the marker."""
    assert set(EXPECTED) == set(layouts.LAYOUTS)
    for layout, expected in EXPECTED.items():
        names = files(write(tmp_path / layout, layout, 1)).keys() - {MARKER}
        assert sorted(names) == [line.strip() for line in expected.strip().splitlines()]


def test_same_bytes_for_any_number_of_scans_and_processes(tmp_path: Path) -> None:
    """A tree is reproducible, and no slot changes the files of another one."""
    for layout in LAYOUTS.values():
        paths = [path for slot in layout.slots for path in slot.files]
        assert len(paths) == len(set(paths))
    once = files(write(tmp_path / "once", "cel-dicom", 2))
    more = files(write(tmp_path / "more", "cel-dicom", 3, processes=2))

    assert once.keys() < more.keys()
    assert all(more[path] == once[path] for path in once.keys() - {"cases.csv"})


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_voxels_stay_where_they_are(tmp_path: Path, layout: str) -> None:
    """Stored axes differ, but bright and labeled voxels keep their places in mm."""
    folder = write_tree(tmp_path / "tree", layout, 3)

    subject = make_tiny_subject(LAYOUTS[layout].kind, 2)
    expected = points(subject.label, subject.label.voxels == 1)
    paths = LAYOUTS[layout].slots[2].files
    image = next(path for path, what in paths.items() if what[:3] in ("raw", "bra"))
    label = next(path for path, what in paths.items() if what[:3] in ("les", "lab"))
    stored, stored_label = read_volume(folder / image), read_label_map(folder / label)
    assert same_grid(stored, stored_label)
    for volume, where in (
        (stored_label, stored_label.voxels == 1),
        (stored, stored.voxels > 300),  # nothing but lesions is that bright
    ):
        np.testing.assert_allclose(points(volume, where), expected, atol=0.02)


def test_axes_and_number_formats_are_those_of_the_originals(tmp_path: Path) -> None:
    """Centers of MSSEG differ in their order of axes; WMH counts to left and back."""
    msseg = write(tmp_path / "msseg", "msseg2016", 24)
    wmh = write(tmp_path / "wmh", "wmh2017", 1)

    images = [nib.load(path) for path in msseg.rglob("FLAIR_preprocessed.nii.gz")]
    codes = Counter("".join(nib.aff2axcodes(image.affine)) for image in images)
    assert codes == {"PSR": 14, "PIR": 5, "RAS": 5}
    image = nib.load(wmh / "training/Amsterdam/GE3T/100/orig/FLAIR.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.get_data_dtype() == np.uint16


def test_thin_slices_become_thick_for_wmh(tmp_path: Path) -> None:
    """Slices of 1 mm become those 3 mm apart, with the voxels that lie there."""
    values = np.arange(4 * 5 * 9, dtype=np.float32).reshape(4, 5, 9)
    volume = Volume(values, np.eye(4))
    mask = Volume((values > 100).astype(np.uint8), volume.affine)
    subject = Subject(volume, volume, volume, mask, mask)

    write_source_tree(tmp_path, LAYOUTS["wmh2017"], 1, lambda _, lesions: subject)

    home = tmp_path / "training/Amsterdam/GE3T/100"
    thick = read_volume(home / "pre/FLAIR.nii.gz")
    assert thick.voxels.shape == (4, 5, 3)
    assert thick.spacing == (1, 1, 3)
    assert same_grid(thick, read_label_map(home / "wmh.nii.gz"))
    i, j, k = nib.affines.apply_affine(thick.affine, [0, 0, 1]).astype(int)
    assert thick.voxels[0, 0, 1] == values[i, j, k]


def test_slots_go_round_subjects_and_sites() -> None:
    """Numbers of scans, and which come first, are those of the originals."""
    isbi, msseg, wmh = (
        [next(iter(slot.files)) for slot in layout.slots]
        for layout in map(LAYOUTS.get, ("isbi2015", "msseg2016", "wmh2017"))
    )
    scans = [path.rsplit("training", 1)[1][:5] for path in isbi]
    assert scans[:6] == ["01_01", "02_01", "03_01", "04_01", "05_01", "01_02"]
    assert Counter(scan[:2] for scan in scans) == {
        **{"01": 4, "02": 4, "03": 5, "04": 4, "05": 4}
    }
    assert Counter("/".join(path.split("/")[1:3]) for path in msseg) == {
        **{f"Training/Center_{center:02d}": 5 for center in (1, 7, 8)},
        **{f"Testing/Center_{center:02d}": 10 for center in (1, 7, 8)},
        "Testing/Center_03": 8,
    }
    assert Counter(path.rsplit("/", 3)[0] for path in wmh) == {
        **{f"training/{s}": 20 for s in ("Amsterdam/GE3T", "Utrecht", "Singapore")},
        **{f"test/{s}": 30 for s in ("Amsterdam/GE3T", "Utrecht", "Singapore")},
        "test/Amsterdam/GE1T5": 10,
        "test/Amsterdam/Philips_VU .PETMR_01.": 10,
    }
    assert all("training/Amsterdam/GE3T" in path for path in wmh[:20])


def test_labels_are_those_of_the_originals(tmp_path: Path) -> None:
    """One of 53 label maps of MSSEG is empty; WMH alone has label 2."""
    msseg = write(tmp_path / "tree", "msseg2016", 53)
    wmh = write(tmp_path / "wmh", "wmh2017", 2)

    paths = [*msseg.rglob("Consensus.nii.gz")]
    values = [set(np.unique(read_label_map(path).voxels)) for path in paths]
    empty = [
        path.parts[-4:-2]
        for path, found in zip(paths, values, strict=True)
        if found == {0}
    ]
    assert empty == [("Center_07", "Patient_08")]
    assert values.count({0, 1}) == 52
    label = read_label_map(wmh / "training/Amsterdam/GE3T/101/wmh.nii.gz")
    assert set(np.unique(label.voxels)) == {0, 1, 2}


def test_tables_name_each_patient_with_one_diagnosis(tmp_path: Path) -> None:
    """The second visit of a patient has the diagnosis of the first one."""
    folder = write(tmp_path / "tree", "cel-dicom", 13)
    bids = write(tmp_path / "bids", "cel-bids", 13)

    with (folder / "cases.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["subject"] for row in rows[:4]] == [
        *("Doe_Jane", "Roe_Joe", "Roe_Joe", "Bloggs_Erika")
    ]
    known = {row["subject"]: row["diagnosis"] for row in rows}
    assert all(known[row["subject"]] == row["diagnosis"] for row in rows)
    assert Counter(known.values()) == {"MS": 8, "NMOSD": 2}
    assert all((folder / row["image"]).is_dir() for row in rows)
    tags = sitk.ReadImage(str(folder / "Doe_Jane/MR/T1_gado/IM0001.dcm"))
    assert tags.GetMetaData("0010|0010").strip() == "DOE^JANE"
    lines = (bids / "participants.tsv").read_text().splitlines()
    assert lines[0] == "participant_id\tdiagnosis"
    assert {line.split("\t")[0].removeprefix("sub-") for line in lines[1:]} == {
        name.replace("_", "") for name in known
    }


def test_only_an_earlier_tree_is_replaced(tmp_path: Path) -> None:
    """Whole, so that nothing of the earlier one stays; other folders stay always."""
    folder = write(tmp_path / "tree", "cel-bids", 2)
    write(folder, "cel-dicom", 1, overwrite=True)
    assert not (folder / "participants.tsv").exists()
    assert (folder / "Doe_Jane").is_dir()

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match=MARKER):
        write(tmp_path / "mine", "cel-bids", 1, overwrite=True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["mine.txt"]
