"""Tests of the command that writes synthetic data sets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import pytest

from nnunet_cel import cli
from nnunet_cel.phantom import command, layouts
from nnunet_cel.phantom.layouts import LAYOUTS

pytest.importorskip("nilearn", reason="the extra `demo`")


def run(*arguments: str) -> int:
    """Run the command quietly, with coarse voxels."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    quietly = ["--spacing", "4", "--no-progress", "-np", "1"]
    return command.run(parser.parse_args([*quietly, *arguments]))


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files below a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_data_set_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cases, header and the line that says where; the last ones have no lesion."""
    arguments = ("-n", "3", "--test", "1", "--lesion-free", "2", "--seed", "7")
    assert run("cel", str(tmp_path), *arguments) == 0

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


def test_same_arguments_give_same_files(tmp_path: Path) -> None:
    """The data set is reproducible, and more cases do not change the first ones."""
    run("cel", str(tmp_path / "a"), "-n", "1")
    run("cel", str(tmp_path / "b"), "-n", "1")
    run("cel", str(tmp_path / "c"), "-n", "2")

    first, again, longer = (files(tmp_path / name) for name in "abc")
    assert first == again
    image = "Dataset502_CEL/imagesTr/CEL_001_0000.nii.gz"
    assert first[image] == longer[image]


def test_default_folder_is_that_of_nnunet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a folder the data set goes to nnUNet_raw, if there is one."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    run("wmh", "-n", "1", "--dataset-id", "77")
    assert (tmp_path / "Dataset077_WMH" / "dataset.json").is_file()

    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(ValueError, match="environment variable nnUNet_raw"):
        run("wmh", "-n", "1")


def test_existing_data_set_needs_overwrite(tmp_path: Path) -> None:
    """A data set is replaced only on request."""
    run("wmh", str(tmp_path), "-n", "1")

    with pytest.raises(FileExistsError, match="overwrite"):
        run("wmh", str(tmp_path), "-n", "1")
    assert run("wmh", str(tmp_path), "-n", "1", "--overwrite") == 0


def test_layout_depends_on_seed_and_not_on_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same arguments give the same tree, another seed gives other scans."""
    arguments = ("-n", "2", "--layout", "cel-bids")
    run("cel", str(tmp_path / "a"), *arguments)
    line = f"Wrote 2 scans in the layout cel-bids to {tmp_path / 'a'}\n"
    assert capsys.readouterr().out == line
    run("cel", str(tmp_path / "b"), *arguments, "-np", "2")
    run("cel", str(tmp_path / "c"), *arguments, "--seed", "3")

    first, again, other = (files(tmp_path / name) for name in "abc")
    assert first == again
    image = "sub-DoeJane/anat/sub-DoeJane_ce-gadolinium_T1w.nii.gz"
    assert first[image] != other[image]


def test_slot_with_empty_consensus_shows_no_lesions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image of that slot has no lesions, so that its label map is right."""
    asked = []
    monkeypatch.setattr(
        command, "make_source_subject", lambda *args, **kw: asked.append(kw["lesions"])
    )
    monkeypatch.setattr(layouts, "_write_slot", lambda *_: None)

    run("wmh", str(tmp_path / "tree"), "-n", "41", "--layout", "msseg2016")

    assert asked == [True] * 40 + [False]


def test_layout_is_replaced_only_on_request(tmp_path: Path) -> None:
    """An existing tree stays unless overwrite is set."""
    arguments = ("cel", str(tmp_path / "tree"), "-n", "1", "--layout", "cel-dicom")
    run(*arguments)

    with pytest.raises(FileExistsError, match="overwrite"):
        run(*arguments)
    assert run(*arguments, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "0"), "training cases must be from 1"),
        (("--lesion-free", "2"), "lesion-free cases must be from 0 to 1"),
        (("--spacing", "0.5"), "from 1 to 8 mm"),
        (("--dataset-id", "1000"), "from 1 to 999"),
        (("--seed", "-1"), "seed must be from 0"),
        (("--layout", "cel-bids"), "must be cel. Got wmh"),
        (("--layout", "wmh2017", "--test", "1"), "must not be given"),
        (("--layout", "wmh2017", "--lesion-free", "1"), "--lesion"),
        (("--layout", "wmh2017", "--dataset-id", "7"), "--dataset-id"),
        (("--layout", "wmh2017", "--seed", "-1"), "seed must be"),
        (("--layout", "wmh2017", "--spacing", "9"), "from 1 to 8"),
        (("--layout", "wmh2017", "-np", "0"), "processes must be"),
        (("--layout", "isbi2015", "-n", "22"), "to 21. Got 22"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """The error says what is wrong, and nothing is written."""
    with pytest.raises(ValueError, match=message):
        run("wmh", str(tmp_path / "tree"), "-n", "2", *arguments)

    assert list(tmp_path.iterdir()) == []


def test_layout_needs_a_folder() -> None:
    """No source tree goes to nnU-Net's folder of data sets."""
    with pytest.raises(ValueError, match="No folder"):
        run("wmh", "-n", "2", "--layout", "wmh2017")


def test_help_lists_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    """Each layout has a line in the help."""
    with pytest.raises(SystemExit):
        cli.main(["phantom", "-h"])

    lines = capsys.readouterr().out.splitlines()
    for name, layout in LAYOUTS.items():
        assert any(name in line and layout.summary in line for line in lines)


def test_missing_nilearn_is_no_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without nilearn the command prints the cure and fails."""

    def fail() -> None:
        raise ImportError("nilearn is not installed")

    monkeypatch.setattr(command, "load_template", fail)

    assert cli.main(["phantom", "wmh", str(tmp_path), "-n", "1"]) == 1
    assert "error: nilearn is not installed" in capsys.readouterr().err
