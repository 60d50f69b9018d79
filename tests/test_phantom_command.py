"""Tests of the command that writes synthetic data, most with tiny subjects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from source_layouts import make_tiny_subject

from nnunet_cel import cli
from nnunet_cel.phantom import command, layouts
from nnunet_cel.phantom.layouts import LAYOUTS

pytest.importorskip("nilearn", reason="the extra `demo`")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Make subjects tiny; return what is asked for, as it is asked for."""
    found: list[tuple[Any, ...]] = []

    def make(kind: Any, seed: int, index: int, *, lesions: bool, **options: Any) -> Any:
        found.append((kind, seed, index, lesions, options))
        return make_tiny_subject(kind, seed + index, lesions=lesions)

    monkeypatch.setattr(command, "make_subject", make)
    monkeypatch.setattr(command, "load_template", lambda: None)
    return found


def run(*arguments: str) -> int:
    """Run the command quietly."""
    return cli.main(["phantom", *arguments, "--no-progress", "-np", "1"])


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_data_set_is_written(
    tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Cases, header and the line that says where; the last ones have no lesion."""
    arguments = ("-n", "3", "--test", "1", "--lesion-free", "2", "--seed", "7")
    assert run("cel", str(tmp_path), *arguments, "--spacing", "4") == 0

    folder = tmp_path / "Dataset502_CEL"
    line = f"Wrote 3 training and 1 test cases to {folder}\n"
    assert capsys.readouterr().out == line
    assert sorted(files(folder)) == [
        "dataset.json",
        *(f"imagesTr/CEL_00{number}_0000.nii.gz" for number in (1, 2, 3)),
        "imagesTs/CEL_004_0000.nii.gz",
        *(f"labelsTr/CEL_00{number}.nii.gz" for number in (1, 2, 3)),
        "labelsTs/CEL_004.nii.gz",
    ]
    assert asked == [
        ("cel", 7, number, lesions, {"spacing": 4.0, "head": False})
        for number, lesions in ((1, True), (2, False), (3, False), (4, True))
    ]
    labels = [*sorted(folder.glob("labelsTr/*")), *folder.glob("labelsTs/*")]
    found = [bool(nib.load(path).get_fdata().any()) for path in labels]
    assert found == [True, False, False, True]
    header = json.loads((folder / "dataset.json").read_text())
    assert header["channel_names"] == {"0": "CE-T1w"}
    assert header["labels"] == {"background": 0, "lesion": 1}
    assert header["numTraining"] == 3
    assert "Synthetic" in header["description"]
    recorded = {key: header["phantom"][key] for key in ("kind", "seed", "spacing_mm")}
    assert recorded == {"kind": "cel", "seed": 7, "spacing_mm": 4.0}


def test_subject_is_drawn(tmp_path: Path) -> None:
    """Without tiny subjects: a brain with lesions, in voxels as asked for."""
    assert run("cel", str(tmp_path), "-n", "1", "--spacing", "4") == 0

    image = nib.load(tmp_path / "Dataset502_CEL/imagesTr/CEL_001_0000.nii.gz")
    label = nib.load(tmp_path / "Dataset502_CEL/labelsTr/CEL_001.nii.gz")
    assert image.header.get_zooms() == (4, 4, 4)
    assert (image.get_fdata()[label.get_fdata() == 1] > 0).all()
    assert label.get_fdata().any()


def test_default_folder_is_that_of_nnunet(
    tmp_path: Path,
    asked: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a folder a data set goes to nnUNet_raw; a source tree never does."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert run("wmh", "-n", "1", "--dataset-id", "77") == 0
    assert (tmp_path / "Dataset077_WMH" / "dataset.json").is_file()

    assert run("wmh", "-n", "2", "--layout", "wmh2017") == 1
    assert "folder" in capsys.readouterr().err
    monkeypatch.delenv("nnUNet_raw")
    assert run("wmh", "-n", "1") == 1
    assert "environment variable nnUNet_raw" in capsys.readouterr().err


def test_layout_is_written(
    tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Another seed gives other scans, and the line says what was written."""
    for name, seed in (("a", "0"), ("b", "2")):
        arguments = ("-n", "2", "--layout", "cel-bids", "--seed", seed)
        assert run("cel", str(tmp_path / name), *arguments) == 0

    line = f"Wrote 2 scans in the layout cel-bids to {tmp_path / 'b'}\n"
    assert capsys.readouterr().out.endswith(line)
    assert asked[2:] == [("cel", 2, i, True, {"spacing": 1.0}) for i in (0, 1)]
    image = "sub-DoeJane/anat/sub-DoeJane_ce-gadolinium_T1w.nii.gz"
    assert files(tmp_path / "a")[image] != files(tmp_path / "b")[image]


def test_slot_with_empty_consensus_shows_no_lesions(
    tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image of that slot has no lesions, so that its label map is right."""
    monkeypatch.setattr(layouts, "write_volume", lambda *_: None)

    run("wmh", str(tmp_path / "tree"), "-n", "41", "--layout", "msseg2016")

    assert [lesions for *_, lesions, _ in asked] == [True] * 40 + [False]


@pytest.mark.parametrize("layout", [(), ("--layout", "wmh2017")])
def test_what_exists_needs_overwrite(
    tmp_path: Path,
    asked: list[Any],
    layout: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Data sets and source trees are replaced only on request."""
    arguments = ("wmh", str(tmp_path / "data"), "-n", "1", *layout)
    assert run(*arguments) == 0

    assert run(*arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(*arguments, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "0"), "training cases must be from 1"),
        (("--lesion-free", "2"), "lesion-free cases must be from 0 to 1"),
        (("--spacing", "0.5"), "from 1.0 to 8.0"),
        (("--spacing", "nan"), "from 1.0 to 8.0"),
        (("--dataset-id", "1000"), "from 1 to 999"),
        (("--seed", "-1"), "seed must be from 0"),
        (("--layout", "cel-bids"), "must be cel. Got wmh"),
        (("--layout", "wmh2017", "--test", "1"), "must not be given"),
        (("--layout", "wmh2017", "--lesion-free", "1"), "--lesion"),
        (("--layout", "wmh2017", "--dataset-id", "7"), "--dataset-id"),
        (("--layout", "isbi2015", "-n", "22"), "to 21. Got 22"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error says what is wrong, and nothing is written."""
    assert run("wmh", str(tmp_path / "tree"), "-n", "2", *arguments) == 1

    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_lists_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    """Each layout has a line in the help."""
    with pytest.raises(SystemExit):
        cli.main(["phantom", "-h"])

    lines = capsys.readouterr().out.splitlines()
    for name, layout in LAYOUTS.items():
        assert any(name in line and layout.summary in line for line in lines)
