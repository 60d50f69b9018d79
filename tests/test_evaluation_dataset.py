"""Tests of the evaluation of a data set, in Python and as users run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_cel import cli
from nnunet_cel.evaluation.cases import evaluate_case
from nnunet_cel.evaluation.dataset import evaluate_folders, write_evaluation
from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.evaluation.tables import plain, read_table
from nnunet_cel.volumes import Volume, read_label_map, write_volume

PAPER = load_protocol("paper")
SHAPE = (10, 9, 8)
AFFINE = np.diag([1.0, 2.0, 1.0, 1.0])


@pytest.fixture
def folders(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """Predictions with probabilities, and references; the last has no lesion."""
    predictions, references = tmp_path / "predictions", tmp_path / "label maps"
    for name in ("=A", "B", "C", "free"):
        probabilities = rng.random(SHAPE, dtype=np.float32) ** 4
        reference = (rng.random(SHAPE) < 0.1) & (name != "free")
        save(predictions, name, probabilities > 0.5)
        save(references, name, reference)
        both = np.stack([1 - probabilities, probabilities])
        np.savez(predictions / f"{name}.npz", probabilities=both.transpose(0, 3, 2, 1))
    return predictions, references


def save(folder: Path, name: str, voxels: np.ndarray) -> None:
    """Write a label map."""
    folder.mkdir(exist_ok=True)
    volume = Volume(voxels.astype(np.uint8), AFFINE)
    write_volume(folder / f"{name}.nii.gz", volume)


def test_rows_are_those_of_the_cases(folders: tuple[Path, Path]) -> None:
    """The tables have what each case gives by itself, in the order of names."""
    evaluation = evaluate_folders(*folders, PAPER)

    cases, lesions = (evaluation[f"{name}.csv"] for name in ("cases", "lesions"))
    assert list(cases["case"]) == ["=A", "B", "C", "free"]
    for row in cases.to_dict("records"):
        maps = (read_label_map(f / f"{row['case']}.nii.gz") for f in folders)
        alone = evaluate_case(*maps, PAPER, labels=Labels())
        assert (lesions["case"] == row.pop("case")).sum() == len(alone["lesions"])
        expected = alone["cases"].to_dict("records")[0]
        assert row == pytest.approx(expected, nan_ok=True)
    summary = json.loads(json.dumps(plain(evaluation["summary.json"]), allow_nan=False))
    assert summary["protocol"] == plain(PAPER.to_dict())
    assert [summary["metrics"][name]["n"] for name in ("DSC", "PPV")] == [3, 4]
    for name in METRICS:
        mean = summary["metrics"][name]["mean"]
        assert mean == pytest.approx(cases[name].mean())
    assert set(summary["sha256"]["=A"]) == {"prediction", "reference"}


def test_probabilities_are_used(folders: tuple[Path, Path]) -> None:
    """At threshold 0.5 the curve has the numbers of the evaluation."""
    evaluation = evaluate_folders(
        *folders, PAPER, probabilities=True, wanted_lfdr=[1.0]
    )

    cases, lesions = (evaluation[f"{name}.csv"] for name in ("cases", "lesions"))
    half = evaluation["froc.csv"].set_index("threshold").loc[0.5]
    expected = cases["reference_hit"].sum() / cases["reference_lesions"].sum()
    assert half["DSC"] == pytest.approx(cases["DSC"].mean())
    assert half["sensitivity"] == pytest.approx(expected)
    assert lesions["mean_probability"].between(0, 1).all()
    calibration = evaluation["calibration.csv"]
    assert set(calibration["level"]) == {"voxels", "lesions"}
    voxels = calibration[calibration["level"] == "voxels"]
    expected = sum(
        ((np.load(path)["probabilities"][1].T > 0.01) & truth).sum()
        for path in folders[0].glob("*.npz")
        for truth in [read_label_map(folders[1] / f"{path.stem}.nii.gz").voxels]
    )
    assert (voxels["count"] * voxels["observed"]).sum() == pytest.approx(expected)
    thresholds = evaluation["summary.json"]["thresholds"]
    assert 0 <= thresholds["average_precision"] <= 1
    assert [entry["wanted"] for entry in thresholds["for_lfdr"]] == [1.0]


def test_data_set_without_any_lesion(tmp_path: Path) -> None:
    """Lesion-free scans alone are evaluated, with probabilities too."""
    empty = np.zeros((2, *SHAPE[::-1]), dtype=np.float32)
    folders = tmp_path / "p", tmp_path / "r"
    for folder in folders:
        save(folder, "a", np.zeros(SHAPE))
        np.savez(folder / "a.npz", probabilities=empty)

    evaluation = evaluate_folders(*folders, PAPER, probabilities=True)
    write_evaluation(evaluation, tmp_path)

    summary = evaluation["summary.json"]
    assert summary["scans"]["specificity"]["value"] == 1
    assert summary["metrics"]["DSC"]["n"] == 0
    assert list(read_table(tmp_path / "lesions.csv")["case"]) == []


def test_ignore_label_of_the_data_set_is_used(folders: tuple[Path, Path]) -> None:
    """A dataset.json above labelsTs names the label to leave out."""
    _, references = folders
    for path in references.iterdir():
        volume = read_label_map(path)
        volume.voxels[5:] = 2
        write_volume(path, volume)
    with pytest.raises(ValueError, match="4 cases have problems"):
        evaluate_folders(*folders, PAPER)
    labels = {"background": 0, "lesion": 1, "ignore": 2}
    (references.parent / "dataset.json").write_text(json.dumps({"labels": labels}))

    evaluation = evaluate_folders(*folders, PAPER, probabilities=True)

    assert evaluation["summary.json"]["ignore_label"] == 2
    assert (evaluation["lesions.csv"]["box_x_last"] < 5).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, r: save(p, "C", np.zeros((2, 2, 2))), "shape"),
        (lambda p, r: save(p, "C", np.full(SHAPE, 7)), "must have no values but 0, 1"),
        (lambda p, r: (r / "C.nii.gz").write_bytes(b"no image"), "cannot be read"),
        (lambda p, r: (p / "C.npz").unlink(), "FileNotFoundError"),
    ],
)
def test_every_bad_case_is_listed(
    folders: tuple[Path, Path], spoil: Callable[[Path, Path], Any], message: str
) -> None:
    """What is wrong with one case is told together with what is with another."""
    spoil(*folders)
    save(folders[0], "B", np.full(SHAPE, 9))

    with pytest.raises(ValueError, match="2 cases have problems") as caught:
        evaluate_folders(*folders, PAPER, probabilities=True)

    first, second = str(caught.value).split("\n- ")[1:]
    assert message in second
    assert "C.n" in second
    assert "B.nii.gz" in first


def test_command_writes_and_prints(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes write what one writes, and only --overwrite replaces it."""
    command = ["evaluate", *map(str, folders), "-o", str(tmp_path / "out")]
    command += ["--probabilities", "--wanted-lfdr", "1", "-np"]
    contents = []
    for processes, overwrite in (("1", []), ("2", ["--overwrite"])):
        assert cli.main([*command, processes, *overwrite]) == 0
        files = sorted((tmp_path / "out").iterdir())
        contents.append({file.name: file.read_bytes() for file in files})
        assert cli.main([*command, processes]) == 1

    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        *("calibration.csv", "cases.csv", "folders.json", "froc.csv", "lesions.csv"),
        *("summary.csv", "summary.json"),
    }
    printed = capsys.readouterr().out
    for name in ("DSC", "PPV", "TPR", "VD", "LFDR", "L-sens", "HD95 (mm)"):
        assert f"\n{name} " in printed
    assert "4 cases, protocol paper 1" in printed
    assert "Scans with lesions called so: 3 of 3" in printed
    assert "LFDR 1: threshold 0." in printed


def test_options_are_passed_on(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options reach the evaluation; bad input and options leave nothing behind."""
    (folders[0] / "C.nii.gz").unlink()
    command = ["evaluate", *map(str, folders), "-o", str(tmp_path / "out"), "-np", "1"]
    assert cli.main(command) == 1
    for wrong in (("--protocol", "none"), ("-np", "0")):
        assert cli.main([*command, "--subset", *wrong]) == 1
    with pytest.raises(SystemExit):
        cli.main([*command, "--subset", "--wanted-lfdr", "30"])
    printed = capsys.readouterr().err
    assert "number of processes" in printed
    assert "--wanted-lfdr: must be from 0 to 1. Got 30" in printed
    assert not list(tmp_path.glob("*out*"))

    options = ("--subset", "--label", "1", "--ignore-label", "7", "--protocol", "anima")
    assert cli.main([*command, *options]) == 0

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["n"], summary["ignore_label"]) == (3, 7)
    assert summary["protocol"]["name"] == "anima"
