"""Tests of the commands evaluate, compare and lesions, as users run them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_cel import cli
from nnunet_cel.volumes import Volume, write_volume


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Folders `references`, `good` (a voxel off) and `blank` with three cases each."""
    root = tmp_path / "my data"
    for folder in ("references", "good", "blank"):
        (root / folder).mkdir(parents=True)
    for case in ("=A", "B", "C"):
        reference = np.zeros((14, 12, 10), dtype=np.uint8)
        reference[1:4, 1:4, 1:4] = reference[7:11, 6:9, 5:8] = 1
        off = np.roll(reference, int(rng.integers(1, 3)), axis=0)
        for folder, voxels in (
            ("references", reference),
            ("good", off),
            ("blank", reference * 0),
        ):
            path = root / folder / f"{case}.nii.gz"
            write_volume(path, Volume(voxels, np.eye(4)))
        probabilities = np.stack([1 - 0.9 * off, 0.9 * off]).transpose(0, 3, 2, 1)
        np.savez_compressed(root / "good" / f"{case}.npz", probabilities=probabilities)
    return root


def run(*arguments: object) -> int:
    """Run the command line in this process."""
    return cli.main([str(argument) for argument in arguments])


def evaluate(data: Path, name: str, *options: object) -> int:
    """Evaluate one of the predictions in one process."""
    out = data / f"out {name}"
    folders = (data / name, data / "references")
    return run("evaluate", *folders, "-o", out, "-np", 1, *options)


def test_any_number_of_processes_gives_the_same_bytes(data: Path) -> None:
    """Three at once write what one writes, and only --overwrite replaces it."""
    contents = []
    for processes in (1, 3):
        options = ("--probabilities", "-np", processes)
        assert evaluate(data, "good", *options, *["--overwrite"] * len(contents)) == 0
        files = sorted((data / "out good").iterdir())
        contents.append({file.name: file.read_bytes() for file in files})
        assert evaluate(data, "blank" if processes == 1 else "good") == processes // 3

    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "calibration.csv",
        "cases.csv",
        "folders.json",
        "froc.csv",
        "lesions.csv",
        "summary.csv",
        "summary.json",
    }
    # blank predictions have the row of Table 5
    metrics = json.loads((data / "out blank" / "summary.json").read_text())["metrics"]
    means = [row["mean"] for row in metrics.values()]
    assert means[:6] == [0, 0, 0, 1, 1, 0]


def test_evaluate_writes_and_prints(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are there, and the metrics are printed under the paper's names."""
    assert evaluate(data, "good", "--probabilities", "--wanted-lfdr", 0.2) == 0

    printed = capsys.readouterr().out
    for name in ("DSC", "PPV", "TPR", "VD", "LFDR", "L-sens", "HD95 (mm)"):
        assert f"\n{name} " in printed
    assert "3 cases, protocol paper 1" in printed
    assert "Scans with lesions called so: 3 of 3" in printed
    assert "LFDR 0.2: threshold 0.85, L-sens 1.000" in printed


def test_compare_puts_models_side_by_side(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two evaluations become tables with the better one marked."""
    evaluate(data, "good")
    evaluate(data, "blank")
    outs = [data / "out good", data / "out blank"]
    capsys.readouterr()

    assert run("compare", *outs, "-o", data / "both", "--names", "good", "=none") == 0

    assert "1.000 (0.000)*" in capsys.readouterr().out
    models = pd.read_csv(data / "both" / "models.csv").set_index(["metric", "model"])
    assert models.loc[("VD", "'=none"), "mean"] == 1
    tests = pd.read_csv(data / "both" / "tests.csv").set_index("metric")
    assert tests.loc["DSC", "better"] == "good"
    assert tests.loc["HD95", "n"] == 0
    content = json.loads((data / "both" / "comparison.json").read_text())
    assert list(content["models"]) == ["good", "=none"]
    names = ("--names", "a", "b", "c")
    assert run("compare", *outs, outs[0], "-o", data / "all", *names) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["a", "b", "c"]


def test_lesions_counts_without_reference(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both tables are written, and every case is printed."""
    files = ("-o", data / "lesions.csv", "--cases", data / "cases.csv")
    assert run("lesions", data / "good", *files, "-np", 1) == 0

    assert "\nB         2 0.063" in capsys.readouterr().out
    assert list(pd.read_csv(data / "lesions.csv")["voxels"]) == [36, 27] * 3
    assert list(pd.read_csv(data / "cases.csv")["lesions"]) == [2, 2, 2]
    for files, message in (
        (("lesions.csv",), "--overwrite"),
        (("lesions.txt",), "ending in .csv"),
        (("nowhere/lesions.csv",), "in a folder that exists"),
        (("a.csv", "--cases", "a.csv"), "different files"),
    ):
        paths = [data / file if "." in file else file for file in files]
        assert run("lesions", data / "good", "-o", *paths) == 1
        assert message in capsys.readouterr().err
    options = ("-np", 1, "--overwrite")
    assert run("lesions", data / "blank", "-o", data / "lesions.csv", *options) == 0
    assert pd.read_csv(data / "lesions.csv").empty


def test_subset_and_labels_are_passed_on(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options reach the evaluation; bad input and options leave nothing behind."""
    (data / "good" / "C.nii.gz").unlink()
    assert evaluate(data, "good") == 1
    for wrong in (("--wanted-lfdr", "2"), ("--protocol", "none"), ("-np", "0")):
        assert evaluate(data, "good", "--subset", *wrong) == 1
    assert "number of processes" in capsys.readouterr().err
    assert not list(data.glob("*out*"))

    options = ("--subset", "--label", 1, "--ignore-label", 7, "--protocol", "anima")
    assert evaluate(data, "good", *options) == 0

    summary = json.loads((data / "out good" / "summary.json").read_text())
    assert (summary["n"], summary["ignore_label"]) == (2, 7)
    assert summary["protocol"]["name"] == "anima"
