"""The command `convert`: every layout from source tree to data set, every failure."""

from __future__ import annotations

import json
import warnings
from multiprocessing import dummy
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from source_layouts import LAYOUTS, write_tree

from nnunet_cel import cli
from nnunet_cel.dataset_conversion import raw_dataset
from nnunet_cel.volumes import Volume, read_volume, write_volume

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nnU-Net's imports are not ours to mend
    from nnunetv2.experiment_planning import verify_dataset_integrity as integrity

NAMES = ("Doe", "Jane", "Roe", "DOE", "JANE")  # of patients in the clinic's trees
OPTIONS = {  # how each layout is converted, beside its folder
    "isbi2015": ["isbi2015", "-d", "503"],
    "msseg2016": ["msseg2016", "-d", "504"],
    "msseg2016-old-test": ["msseg2016", "-d", "504", "--allow-raw"],
    "wmh2017": ["wmh2017", "-d", "505", "--no-strip"],
    "cel-subjects": [
        *("cel", "--images", "*/T1_gado.nii.gz", "--labels", "*/lesions.nii.gz")
    ],
    "cel": ["cel"],
}
# How many of six scans are for training: ISBI has five patients, and of the clinic's
# scans two are of one patient, and half of the patients are for testing.
TRAINING = {"isbi2015": {5}, "msseg2016": {6}, "wmh2017": {6}, "cel": {2, 3, 4}}


def make_tree(folder: Path, layout: str, n: int = 6) -> Path:
    """Write a tree of tiny scans, and return what is to be converted."""
    root = write_tree(folder, layout, n)
    return root / "cases.csv" if (root / "cases.csv").exists() else root


def convert(raw: Path, *arguments: object) -> int:
    """Run the command with the folder of data sets."""
    return cli.main(
        ["convert", *map(str, arguments), "-o", str(raw), "-np", "1", "--no-progress"]
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linking tables are written there; nnU-Net's check starts no process."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    threads = SimpleNamespace(get_context=lambda method: dummy)
    monkeypatch.setattr(integrity, "multiprocessing", threads)


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_becomes_a_faultless_data_set(
    tmp_path: Path, layout: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """nnU-Net's own check has no complaint, and all voxels and positions are there."""
    source = make_tree(tmp_path / "the source", layout)
    name = layout if layout in OPTIONS else layout.partition("-")[0]
    command, *options = OPTIONS[name]

    assert convert(tmp_path / "raw", command, source, *options) == 0
    printed = capfd.readouterr().out
    (folder,) = (tmp_path / "raw").iterdir()
    integrity.verify_dataset_integrity(str(folder), num_processes=1)

    checked = "".join(capfd.readouterr())
    assert "verify_dataset_integrity Done" in checked
    assert "warning" not in checked.lower()
    header = json.loads((folder / "dataset.json").read_text())
    record = json.loads((folder / "conversion.json").read_text())
    cases = [file.name.split(".")[0] for file in (folder / "labelsTr").iterdir()]
    assert header["numTraining"] == len(cases)
    assert len(cases) in TRAINING[command]
    assert f"Wrote {len(cases)} training cases" in printed
    splits = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(cases)
    assert ("too few for 5 folds: train fold all" in printed) == (len(splits) < 5)
    if command != "cel":
        for case, facts in record["cases"].items():
            before = read_volume(source / facts["files"][0]["path"])
            after = read_volume(folder / "imagesTr" / f"{case}_0000.nii.gz")
            np.testing.assert_array_equal(after.voxels, before.voxels)
            np.testing.assert_array_equal(
                after.affine.astype("f4"), before.affine.astype("f4")
            )


def test_three_sources_become_one_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the paper; terms of use are printed and stored, empty cases named."""
    sources: list[object] = []
    for name in ("isbi2015", "msseg2016", "wmh2017"):
        sources += [f"--{name}", make_tree(tmp_path / name, name)]
    label = next((tmp_path / "msseg2016").rglob("Patient_02/Masks/Consensus.nii.gz"))
    voxels, affine = read_volume(label)
    write_volume(label, Volume(voxels * 0, affine))

    assert convert(tmp_path / "raw", "wmh", *sources, "--no-strip") == 0

    folder = tmp_path / "raw" / "Dataset501_WMH"
    header = json.loads((folder / "dataset.json").read_text())
    assert header["numTraining"] == 16
    assert header["channel_names"] == {"0": "FLAIR"}
    assert header["labels"] == {"background": 0, "lesion": 1}
    assert "WMH 2017: CC BY-NC 4.0" in header["licence"]
    assert len(header["citation"]) == 4
    record = json.loads((folder / "conversion.json").read_text())
    assert record["choices"]["isbi2015"]["rater"] == "1"
    assert record["choices"]["wmh2017"]["other_pathology"] == "background"
    assert record["excluded"] == {"MSSEG2016_Tr_C01_P02": "no lesion"}
    case = record["cases"]["WMH2017_GE3T_100"]
    assert case["files"][1]["path"] == "training/Amsterdam/GE3T/100/wmh.nii.gz"
    for fold in json.loads((folder / "splits_final.json").read_text()):
        assert sum(name.startswith("ISBI") for name in fold["val"]) == 1
    printed = capsys.readouterr().out
    assert "OFSEP data usage agreement" in printed
    assert "WMH 2017: 6 cases (the paper used 20)" in printed
    assert "Left out: MSSEG2016_Tr_C01_P02, no lesion" in printed
    assert "nnUNetv2_plan_and_preprocess -d 501" in printed
    assert cli.main(["convert", "--list"]) == 0
    printed = capsys.readouterr().out
    for word in ("shanoir", "training_final_v4.zip", "10.34894/AECRSD", "Commowick"):
        assert word in printed
    assert str(tmp_path) not in json.dumps([header, record])


def test_clinic_s_scans_bear_no_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in the data set tells a patient's name; the linking table does.

    That holds for a scan that is left out as well: three voxels are no lesion.
    """
    source = make_tree(tmp_path / "source", "cel-bids", 12)
    (file,) = source.rglob("sub-DoeJane_label-lesion_mask.nii.gz")
    voxels, affine = read_volume(file)
    voxels[tuple(np.argwhere(voxels)[3:].T)] = 0
    write_volume(file, Volume(voxels, affine))
    sources = contents(source)
    assert any(b"DOE" in text.upper() for text in sources.values())

    assert convert(tmp_path / "raw", "cel", source) == 0

    folder = tmp_path / "raw" / "Dataset502_CEL"
    for name, content in contents(folder).items():
        if name.endswith(".gz"):
            content = nib.load(folder / name).to_bytes()[:352]
        assert not any(word in name for word in NAMES)
        assert not any(word.encode() in content for word in NAMES), name
    table = Path("Dataset502_CEL_linking_table.csv")
    (left_out,) = (row for row in table.read_text().splitlines() if "left out" in row)
    assert "DoeJane" in left_out
    assert table.stat().st_mode & 0o077 == 0
    printed = capsys.readouterr().out
    assert f"{table} says which case is which patient" in printed
    assert "Left out: 1 of 12 scans, no lesion of 4 voxels or more" in printed
    assert not any(word in printed for word in NAMES)
    record = json.loads((folder / "conversion.json").read_text())
    assert record["excluded"] == ["no lesion of 4 voxels or more"]
    header = json.loads((folder / "dataset.json").read_text())
    n_test = len(list((folder / "imagesTs").iterdir()))
    assert header["numTraining"] + n_test == len(record["cases"]) == 11
    assert contents(source) == sources


def test_converting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also with another number of processes and from another place."""
    one = make_tree(tmp_path / "a", "cel-csv", 4)
    two = make_tree(tmp_path / "somewhere else" / "b", "cel-csv", 4)

    assert convert(tmp_path / "raw1", "cel", one) == 0
    Path("Dataset502_CEL_linking_table.csv").rename("first.csv")
    arguments = ["convert", "cel", str(two), "-o", str(tmp_path / "raw2"), "-np", "2"]
    assert cli.main(arguments) == 0

    assert contents(tmp_path / "raw1") == contents(tmp_path / "raw2")


def test_linking_table_has_a_place_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside the data set, not over another file, in a folder that exists."""
    source = make_tree(tmp_path / "source", "cel-pairs", 1)
    Path("taken.csv").write_text("mine")

    for table in ("../raw/Dataset502_CEL/l.csv", "taken.csv", "no/folder/x.csv"):
        assert convert(tmp_path / "raw", "cel", source, "--linking-table", table) == 1
        assert f"outside of the data set. Got {table}" in capsys.readouterr().err
    label = source / "labelsTr" / "Doe_Jane.nii.gz"
    options = ("--linking-table", label, "--overwrite")
    assert convert(tmp_path / "raw", "cel", source, *options) == 1

    assert not (tmp_path / "raw" / "Dataset502_CEL").exists()
    assert Path("taken.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "source must be one of wmh, isbi2015, msseg2016, wmh2017, cel"),
        (("wmh",), "--isbi2015 DIR, --msseg2016 DIR, --wmh2017 DIR"),
        (("isbi2015", "nothing", "-d", "1"), "There is no folder nothing"),
        (("isbi2015", ".", "-d", "1", "-np", "0"), "holds none"),
        (("wmh2017", ".", "-d", "1", "--no-strip"), "none of the scanners GE3T"),
        (
            ("wmh2017", ".", "-d", "1", "--brain-mask", "no"),
            "masks must be files in a folder",
        ),
        (("cel", "cases.csv"), "table cases.csv must have a row for each scan"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """The message says what is expected, and nothing is written."""
    Path("cases.csv").write_text("subject,image,label\n")
    out = ("-o", str(tmp_path / "raw")) if arguments else ()

    assert cli.main(["convert", *arguments, *out]) == 1

    assert message in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


def test_data_set_is_replaced_on_request_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number belongs to one data set; Ctrl-C or a bad file leave what was there."""
    tree = make_tree(tmp_path / "source", "msseg2016", 2)
    arguments = (tmp_path / "raw", "msseg2016", tree, "-d", "501")
    assert convert(*arguments) == 0
    before = contents(tmp_path / "raw")

    def interrupted(path: Path, volume: Volume) -> None:
        write_volume(path, volume)
        raise KeyboardInterrupt

    assert convert(*arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert convert(*arguments, "--name", "Other") == 1
    assert "must belong to one data set only" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(raw_dataset, "write_volume", interrupted)
        assert convert(*arguments, "--overwrite") == 130
    image = next(tree.rglob("FLAIR_preprocessed.nii.gz"))
    whole = image.read_bytes()
    image.write_bytes(whole[:99])
    assert convert(*arguments, "--overwrite") == 1
    assert "preprocessed.nii.gz cannot be read" in capsys.readouterr().err
    assert contents(tmp_path / "raw") == before

    image.write_bytes(whole)
    assert convert(*arguments, "--overwrite", "--seed", "1", "--keep-empty") == 0
    assert contents(tmp_path / "raw") != before
