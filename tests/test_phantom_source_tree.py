"""Tests of writing source trees, with subjects of a few voxels."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_cel.phantom.layouts import LAYOUTS
from nnunet_cel.phantom.source_subject import SourceSubject, make_tiny_subject
from nnunet_cel.phantom.source_tree import MARKER, write_source_tree
from nnunet_cel.volumes import (
    Volume,
    read_label_map,
    read_volume,
    same_grid,
    split_ending,
)

DIRT = (".", "unzip.log", MARKER, "__MACOSX")
BYSTANDERS = ("testdata_website", "test/", "readme.pdf")

ISBI_SCAN = """
    training/training01/masks/training01_01_mask1.nii
    training/training01/masks/training01_01_mask2.nii
    training/training01/orig/training01_01_flair.nii.gz
    training/training01/orig/training01_01_mprage.nii.gz
    training/training01/orig/training01_01_pd.nii.gz
    training/training01/orig/training01_01_t2.nii.gz
    training/training01/preprocessed/training01_01_flair_pp.nii
    training/training01/preprocessed/training01_01_mprage_pp.nii
    training/training01/preprocessed/training01_01_pd_pp.nii
    training/training01/preprocessed/training01_01_t2_pp.nii
"""
MSSEG_SCAN = """
    Masks/Brain_Mask.nii.gz
    Masks/Consensus.nii.gz
    Masks/ManualSegmentation_1.nii.gz
    Masks/ManualSegmentation_2.nii.gz
    Preprocessed_Data/DP_preprocessed.nii.gz
    Preprocessed_Data/FLAIR_preprocessed.nii.gz
    Preprocessed_Data/GADO_preprocessed.nii.gz
    Preprocessed_Data/T1_preprocessed.nii.gz
    Preprocessed_Data/T2_preprocessed.nii.gz
    Raw_Data/DP.nii.gz
    Raw_Data/FLAIR.nii.gz
    Raw_Data/GADO.nii.gz
    Raw_Data/T1.nii.gz
    Raw_Data/T2.nii.gz
"""
WMH_SCAN = """
    orig/3DT1.nii.gz
    orig/3DT1_mask.nii.gz
    orig/FLAIR.nii.gz
    orig/FLAIR_mask.nii.gz
    orig/T1.nii.gz
    orig/T1_mask.nii.gz
    orig/reg_3DT1_to_FLAIR.txt
    pre/3DT1.nii.gz
    pre/FLAIR.nii.gz
    pre/T1.nii.gz
    wmh.nii.gz
"""


def below(folder: str, lines: str) -> list[str]:
    """Return the paths in lines, below a folder."""
    return [f"{folder}/{line.strip()}" for line in lines.strip().splitlines()]


def paths(lines: str) -> list[str]:
    """Return the paths in lines."""
    return [line.strip() for line in lines.strip().splitlines()]


EXPECTED: dict[str, tuple[int, list[str]]] = {
    "isbi2015": (1, paths(ISBI_SCAN)),
    "isbi2015-hoisted": (
        2,
        [
            *paths(
                ISBI_SCAN.replace("training01/masks", "masks").replace(
                    "training01/preprocessed", "preprocessed"
                )
            ),
            *paths(ISBI_SCAN.replace("training01", "training02")),
        ],
    ),
    "isbi2015-timepoints": (
        1,
        below(
            "training/training01/01",
            """
            N_training01_01_flair_pp.nii
            training01_01_flair_pp.nii
            training01_01_mask1.nii
            training01_01_mask2.nii
            training01_01_mprage_pp.nii
            training01_01_pd_pp.nii
            training01_01_t2_pp.nii
            """,
        ),
    ),
    "isbi2015-flat": (
        1,
        below(
            "ISBI_Training_01",
            """
            training01_01_flair_pp.nii.gz
            training01_01_mask1.nii.gz
            training01_01_mask2.nii.gz
            training01_01_mprage_pp.nii.gz
            training01_01_pd_pp.nii.gz
            training01_01_t2_pp.nii.gz
            """,
        ),
    ),
    "msseg2016": (1, below("MSSEG-Training/Training/Center_01/Patient_01", MSSEG_SCAN)),
    "msseg2016-lowercase": (1, below("training/Center_01/Patient_01", MSSEG_SCAN)),
    "msseg2016-old": (
        1,
        paths(
            """
            Pre-processed training dataset/01016SACH/DP_preprocessed.nii
            Pre-processed training dataset/01016SACH/FLAIR_preprocessed.nii
            Pre-processed training dataset/01016SACH/GADO_preprocessed.nii
            Pre-processed training dataset/01016SACH/T1_preprocessed.nii
            Pre-processed training dataset/01016SACH/T2_preprocessed.nii
            """
        )
        + below(
            "Unprocessed training dataset/TrainingDataset_MSSEG/01016SACH",
            """
            3DFLAIR.nii
            3DT1.nii
            3DT1GADO.nii
            Consensus.nii
            DP.nii
            IterationInfo.0.R0.txt
            ManualSegmentation_1.nii
            ManualSegmentation_2.nii
            T2.nii
            TransformParameters.0.txt
            elastix.log
            transformix.log
            """,
        ),
    ),
    "msseg2016-old-masks": (
        1,
        paths(
            """
            ManualSegmentation/01016SACH/Consensus.nii.gz
            ManualSegmentation/01016SACH/ManualSegmentation_1.nii.gz
            ManualSegmentation/01016SACH/ManualSegmentation_2.nii.gz
            Pre-processed/01016SACH/DP_preprocessed.nii.gz
            Pre-processed/01016SACH/FLAIR_preprocessed.nii.gz
            Pre-processed/01016SACH/GADO_preprocessed.nii.gz
            Pre-processed/01016SACH/T1_preprocessed.nii.gz
            Pre-processed/01016SACH/T2_preprocessed.nii.gz
            """
        ),
    ),
    "msseg2016-old-test": (
        1,
        below(
            "MSSEG-1 test/01045BRPO_1",
            """
            3DFLAIR.nii.gz
            3DT1.nii.gz
            3DT1GADO.nii.gz
            Consensus.nii.gz
            DP.nii.gz
            ManualSegmentation_1.nii.gz
            ManualSegmentation_2.nii.gz
            T2.nii.gz
            input.json
            """,
        ),
    ),
    "wmh2017": (
        1,
        paths(
            """
            additional_annotations/observer_o3/training/Amsterdam/GE3T/100/result.nii.gz
            additional_annotations/observer_o4/training/Amsterdam/GE3T/100/result.nii.gz
            """
        )
        + below("training/Amsterdam/GE3T/100", WMH_SCAN),
    ),
    "wmh2017-portal": (1, below("GE3T/100", WMH_SCAN)),
    "wmh2017-yucca": (
        1,
        below("Amsterdam/Train_GE3T/100/pre", "FLAIR.nii.gz\nT1.nii.gz\nwmh.nii.gz"),
    ),
    "cel-pairs": (
        2,
        paths(
            """
            imagesTr/Doe_Jane_0000.nii.gz
            imagesTr/Roe_Joe_0000.nii.gz
            labelsTr/Doe_Jane.nii.gz
            labelsTr/Roe_Joe.nii.gz
            """
        ),
    ),
    "cel-subjects": (
        1,
        below("Doe_Jane", "T1.nii.gz\nT1_gado.nii.gz\nlesions.nii.gz"),
    ),
    "cel-bids": (
        2,
        paths(
            """
            dataset_description.json
            derivatives/lesions/dataset_description.json
            derivatives/lesions/sub-DoeJane/anat/sub-DoeJane_label-lesion_mask.nii.gz
            derivatives/lesions/sub-RoeJoe/ses-01/anat/sub-RoeJoe_ses-01_label-lesion_mask.nii.gz
            participants.tsv
            sub-DoeJane/anat/sub-DoeJane_T1w.nii.gz
            sub-DoeJane/anat/sub-DoeJane_ce-gadolinium_T1w.nii.gz
            sub-RoeJoe/ses-01/anat/sub-RoeJoe_ses-01_T1w.nii.gz
            sub-RoeJoe/ses-01/anat/sub-RoeJoe_ses-01_ce-gadolinium_T1w.nii.gz
            """
        ),
    ),
    "cel-csv": (
        3,
        paths(
            """
            cases.csv
            from PACS/Doe_Jane/T1 gado seg.nii.gz
            from PACS/Doe_Jane/T1 gado.nii.gz
            old/Roe_Joe visit 02.mha
            old/labels/Roe_Joe visit 02.nii
            scans 2019/Roe_Joe visit 01.nrrd
            scans 2019/Roe_Joe visit 01_seg.nrrd
            """
        ),
    ),
    "cel-dicom": (
        1,
        [
            *below(
                "Doe_Jane/MR/T1_gado",
                "IM0001.dcm\nIM0002.dcm\nIM0003.dcm\nIM0004.dcm\nIM0005.dcm",
            ),
            "Doe_Jane/MR/lesions.nii.gz",
            "cases.csv",
        ],
    ),
}


def write(folder: Path, layout: str, n: int) -> Path:
    """Write a tree with tiny subjects."""
    kind = LAYOUTS[layout].kind
    return write_source_tree(folder, layout, n, partial(make_tiny_subject, kind))


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def relevant(folder: Path) -> list[str]:
    """Return the files that are no dirt and no bystanders."""
    return sorted(
        path
        for path in files(folder)
        if not any(part.startswith(DIRT) for part in path.split("/"))
        and not path.endswith(".part")
        and not path.startswith(BYSTANDERS)
    )


def points(volume: Volume, where: np.ndarray) -> np.ndarray:
    """Return the sorted places in mm of the voxels of a mask, (N, 3)."""
    found = nib.affines.apply_affine(volume.affine, np.argwhere(where))
    return np.array(sorted(found.round(2).tolist()))


def first(folder: Path, pattern: str) -> Path:
    """Return the first file of a name, dirt apart."""
    found = (path for path in sorted(folder.rglob(pattern)) if path.name[0] != ".")
    return next(path for path in found if "__MACOSX" not in path.parts)


def test_every_layout_is_tested() -> None:
    """A new layout needs an expectation."""
    assert set(EXPECTED) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_lie_where_they_are_expected(tmp_path: Path, layout: str) -> None:
    """The first slots of a layout hold exactly the files of the original."""
    n, expected = EXPECTED[layout]

    folder = write(tmp_path / "tree", layout, n)

    assert relevant(folder) == sorted(expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_volumes_can_be_read(tmp_path: Path, layout: str) -> None:
    """Each image that is no dirt is a whole volume."""
    folder = write(tmp_path / "tree", layout, 3)

    volumes = [path for path in relevant(folder) if split_ending(path)[1]]
    assert volumes
    for path in volumes:
        assert read_volume(folder / path).voxels.size > 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_bytes_twice(tmp_path: Path, layout: str) -> None:
    """A tree is reproducible, and more slots do not change the first ones."""
    once = files(write(tmp_path / "once", layout, 2))
    again = files(write(tmp_path / "again", layout, 2))
    more = files(write(tmp_path / "more", layout, 3))

    assert once == again
    tables = {"cases.csv", "participants.tsv"}
    assert once.keys() - tables <= more.keys()
    assert all(more[path] == once[path] for path in once.keys() - tables)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dirt_is_present(tmp_path: Path, layout: str) -> None:
    """Every tree has what file managers and broken downloads leave behind."""
    names = files(write(tmp_path / "tree", layout, 1))

    assert ".DS_Store" in names
    assert "unzip.log" in names
    assert any(name.startswith("__MACOSX/") for name in names)
    assert any(
        name.endswith(".nii.gz.part") or name.endswith(".nii.part") for name in names
    )
    doubles = [name for name in names if Path(name).name.startswith("._")]
    assert any(name.endswith((".nii", ".nii.gz")) for name in doubles)
    assert all(names[name].startswith(b"\x00\x05\x16\x07") for name in doubles)


@pytest.mark.parametrize(
    ("layout", "number", "image", "label"),
    [
        ("isbi2015", 2, "training03_01_flair_pp.nii", "training03_01_mask1.nii"),
        ("isbi2015-flat", 0, "training01_01_flair_pp.nii.gz", "*_01_mask1.nii.gz"),
        ("msseg2016", 0, "FLAIR_preprocessed.nii.gz", "Consensus.nii.gz"),
        ("msseg2016-old", 0, "3DFLAIR.nii", "Consensus.nii"),
        ("msseg2016-old-masks", 0, "FLAIR_preprocessed.nii.gz", "Consensus.nii.gz"),
        (
            "wmh2017",
            0,
            "training/Amsterdam/GE3T/100/pre/FLAIR.nii.gz",
            "100/wmh.nii.gz",
        ),
        ("cel-pairs", 2, "Bloggs_Erika_0000.nii.gz", "Bloggs_Erika.nii.gz"),
    ],
)
def test_voxels_stay_where_they_are(
    tmp_path: Path, layout: str, number: int, image: str, label: str
) -> None:
    """Stored axes differ, but bright and labeled voxels keep their places in mm."""
    subject = make_tiny_subject(LAYOUTS[layout].kind, number)

    folder = write(tmp_path / "tree", layout, number + 1)

    stored = read_volume(first(folder, image))
    stored_label = read_label_map(first(folder, label))
    assert same_grid(stored, stored_label)
    lesions = subject.label.voxels == 1
    for volume, where in (
        (stored_label, stored_label.voxels == 1),
        (stored, stored.voxels > 300),  # nothing but lesions is that bright
    ):
        np.testing.assert_allclose(
            points(volume, where), points(subject.label, lesions), atol=0.02
        )


def test_centers_store_other_axes(tmp_path: Path) -> None:
    """The scans of the centers of MSSEG differ in their order of axes."""
    folder = write(tmp_path / "tree", "msseg2016", 40)

    images = folder.glob("*/*/Center_*/*/Preprocessed_Data/FLAIR*.nii.gz")
    codes = {"".join(nib.aff2axcodes(nib.load(path).affine)) for path in images}
    assert codes == {"PSR", "ASL", "PIR", "RAS"}


def test_wmh_scans_are_lps(tmp_path: Path) -> None:
    """Scans of WMH 2017 count to the left and to the back."""
    folder = write(tmp_path / "tree", "wmh2017", 1)

    image = nib.load(folder / "training/Amsterdam/GE3T/100/orig/FLAIR.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.get_data_dtype() == np.uint16


def test_thin_slices_become_thick_for_wmh(tmp_path: Path) -> None:
    """Slices of 1 mm become those 3 mm apart, with the voxels that lie there."""
    values = np.arange(4 * 5 * 9, dtype=np.float32).reshape(4, 5, 9)
    volume = Volume(values, np.diag([1.0, 1.0, 1.0, 1.0]))
    mask = Volume((values > 100).astype(np.uint8), volume.affine)
    subject = SourceSubject(volume, volume, volume, mask, mask, mask)

    folder = write_source_tree(tmp_path / "tree", "wmh2017", 1, lambda _: subject)

    home = folder / "training/Amsterdam/GE3T/100"
    thick = read_volume(home / "pre/FLAIR.nii.gz")
    assert thick.voxels.shape == (4, 5, 3)
    assert thick.spacing == (1, 1, 3)
    assert same_grid(thick, read_label_map(home / "wmh.nii.gz"))
    i, j, k = nib.affines.apply_affine(thick.affine, [0, 0, 1]).astype(int)
    assert thick.voxels[0, 0, 1] == values[i, j, k]


def test_msseg_has_15_training_and_38_test_scans(tmp_path: Path) -> None:
    """The centers have as many scans as in the original."""
    folder = write(tmp_path / "tree", "msseg2016", 53)

    found = [path.relative_to(folder).parts for path in folder.glob("MSSEG-*/*/*/*")]
    counts = {}
    for _, split, center, patient in found:
        if patient.startswith("Patient_"):
            counts[split, center] = counts.get((split, center), 0) + 1
    assert counts == {
        ("Training", "Center_01"): 5,
        ("Training", "Center_07"): 5,
        ("Training", "Center_08"): 5,
        ("Testing", "Center_01"): 10,
        ("Testing", "Center_03"): 8,
        ("Testing", "Center_07"): 10,
        ("Testing", "Center_08"): 10,
    }


@pytest.mark.parametrize(
    ("layout", "empty"),
    [
        ("msseg2016", "MSSEG-Testing/Testing/Center_07/Patient_08/Masks"),
        ("msseg2016-old-test", "MSSEG-1 test/07070XZYZ_1"),
    ],
)
def test_one_consensus_is_empty(tmp_path: Path, layout: str, empty: str) -> None:
    """Exactly one of all scans has no lesion that the raters agree on."""
    folder = write(tmp_path / "tree", layout, LAYOUTS[layout].size)

    found = [
        path.parent.relative_to(folder).as_posix()
        for path in folder.rglob("Consensus.nii.gz")
        if "__MACOSX" not in path.parts and not read_label_map(path).voxels.any()
    ]
    assert found == [empty]


def test_old_label_maps_have_rounding_errors(tmp_path: Path) -> None:
    """Affines of old label maps differ from those of images, but hardly."""
    folder = write(tmp_path / "tree", "msseg2016-old", 1)

    image = read_volume(first(folder, "3DFLAIR.nii"))
    label = read_label_map(first(folder, "Consensus.nii"))
    assert (image.affine != label.affine).any()
    assert same_grid(image, label)


def test_other_pathology_is_in_wmh_alone(tmp_path: Path) -> None:
    """Label 2 is stored for WMH 2017 and left out of the other data sets."""
    wmh = write(tmp_path / "wmh", "wmh2017", 2)
    msseg = write(tmp_path / "msseg", "msseg2016", 2)

    label = read_label_map(wmh / "training/Amsterdam/GE3T/101/wmh.nii.gz")
    assert set(np.unique(label.voxels)) == {0, 1, 2}
    for path in msseg.glob("*/*/*/*/Masks/[CM]*.nii.gz"):
        assert set(np.unique(read_label_map(path).voxels)) == {0, 1}


@pytest.mark.parametrize(
    ("layout", "bystander"),
    [
        ("isbi2015", "testdata_website/test02/preprocessed/test02_01_flair_pp.nii"),
        ("wmh2017", "test/Amsterdam/Philips_VU .PETMR_01./160/wmh.nii.gz"),
        ("wmh2017", "test/Amsterdam/GE3T/111/pre/FLAIR.nii.gz"),
    ],
)
def test_bystanders_are_there(tmp_path: Path, layout: str, bystander: str) -> None:
    """A tree with one slot has scans that converters leave alone as well."""
    folder = write(tmp_path / "tree", layout, 1)

    assert read_volume(folder / bystander).voxels.size > 1


def test_slots_replace_bystanders(tmp_path: Path) -> None:
    """A scan that the tree was asked for is not one of the bystanders."""
    folder = write(tmp_path / "tree", "wmh2017", 61)

    image = read_volume(folder / "test/Amsterdam/GE3T/111/pre/FLAIR.nii.gz")
    asked_for = make_tiny_subject("wmh", 60).raw.voxels
    assert sorted(image.voxels.ravel()) == sorted(asked_for.ravel())


def test_test_scans_of_isbi_have_no_masks(tmp_path: Path) -> None:
    """The label maps of the test set are not public."""
    folder = write(tmp_path / "tree", "isbi2015", 1)

    assert not [name for name in files(folder / "testdata_website") if "mask" in name]


@pytest.mark.parametrize("layout", ["cel-csv", "cel-dicom"])
def test_table_names_scans_on_one_grid(tmp_path: Path, layout: str) -> None:
    """Image and label map of each row can be read and fit, in all formats."""
    folder = write(tmp_path / "tree", layout, 6)

    with (folder / "cases.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["subject"] for row in rows[:4]] == [
        *("Doe_Jane", "Roe_Joe", "Roe_Joe", "Bloggs_Erika")
    ]
    assert [row["diagnosis"] for row in rows] == ["MS"] * 5 + ["NMOSD"]
    for number, row in enumerate(rows):
        subject = make_tiny_subject("cel", number)
        image = read_volume(folder / row["image"])
        label = read_label_map(folder / row["label"])
        assert same_grid(image, label)
        lesions = subject.label.voxels == 1
        assert sorted(image.voxels[label.voxels == 1]) == sorted(
            subject.raw.voxels[lesions]
        )
        np.testing.assert_allclose(
            points(label, label.voxels == 1), points(subject.label, lesions), atol=0.02
        )


def test_headers_name_patients(tmp_path: Path) -> None:
    """Headers of clinics hold names that converters have to clear."""
    nifti = write(tmp_path / "nifti", "cel-pairs", 1)
    dicom = write(tmp_path / "dicom", "cel-dicom", 1)

    for path in nifti.glob("*Tr/Doe*.nii.gz"):
        header = nib.load(path).header
        assert b"DOE JANE 1970" in bytes(header["descrip"])
        assert b"DOE JANE" in bytes(header["intent_name"])
    tags = sitk.ReadImage(str(dicom / "Doe_Jane/MR/T1_gado/IM0001.dcm"))
    assert tags.GetMetaData("0010|0010").strip() == "DOE^JANE"


def test_bids_names_each_patient_once(tmp_path: Path) -> None:
    """A patient with two sessions has one row, with the diagnosis of the first."""
    folder = write(tmp_path / "tree", "cel-bids", 6)

    lines = (folder / "participants.tsv").read_text().splitlines()
    assert lines == [
        "participant_id\tdiagnosis",
        "sub-DoeJane\tMS",
        "sub-RoeJoe\tMS",
        "sub-BloggsErika\tMS",
        "sub-MusterMax\tMS",
        "sub-RossiMario\tNMOSD",
    ]
    assert sorted(path.name for path in folder.glob("sub-RoeJoe/*")) == [
        *("ses-01", "ses-02")
    ]


def test_processes_give_the_same_tree(tmp_path: Path) -> None:
    """The tree does not depend on the number of processes."""
    make = partial(make_tiny_subject, "cel")

    one = write_source_tree(tmp_path / "one", "cel-csv", 3, make)
    two = write_source_tree(tmp_path / "two", "cel-csv", 3, make, processes=2)

    assert files(one) == files(two)


def test_tree_is_replaced_only_on_request(tmp_path: Path) -> None:
    """An existing tree stays unless overwrite is set, and is replaced whole."""
    folder = write(tmp_path / "tree", "cel-pairs", 2)

    with pytest.raises(FileExistsError, match="overwrite"):
        write(folder, "cel-pairs", 1)
    make = partial(make_tiny_subject, "cel")
    write_source_tree(folder, "cel-subjects", 1, make, overwrite=True)
    assert not (folder / "imagesTr").exists()
    assert (folder / "Doe_Jane").is_dir()


def test_other_folder_is_never_replaced(tmp_path: Path) -> None:
    """Overwrite does not take away what the function did not write."""
    (tmp_path / "mine.txt").write_text("precious")

    with pytest.raises(ValueError, match=MARKER):
        write_source_tree(
            tmp_path, "cel-pairs", 1, partial(make_tiny_subject, "cel"), overwrite=True
        )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_failure_leaves_nothing(tmp_path: Path) -> None:
    """A tree appears whole or not at all."""

    def make(number: int) -> SourceSubject:
        if number == 1:
            raise ValueError("no second subject")
        return make_tiny_subject("cel", number)

    with pytest.raises(ValueError, match="no second"):
        write_source_tree(tmp_path / "tree", "cel-pairs", 2, make)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("layout", "n", "message"),
    [
        ("mni", 1, "one of isbi2015, .*Got 'mni'"),
        ("isbi2015", 22, "from 1 to 21. Got 22"),
        ("cel-pairs", 0, "from 1 to 100. Got 0"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, layout: str, n: int, message: str
) -> None:
    """The error names the rule and what it got, and nothing is written."""
    with pytest.raises(ValueError, match=message):
        write_source_tree(
            tmp_path / "tree", layout, n, partial(make_tiny_subject, "cel")
        )
    assert list(tmp_path.iterdir()) == []
