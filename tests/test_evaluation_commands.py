"""Tests of the commands evaluate, compare and lesions, as users run them."""

from __future__ import annotations

import json
import subprocess
import sys
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
    return run(
        "evaluate",
        data / name,
        data / "references",
        "-o",
        data / f"out {name}",
        "-np",
        1,
        *options,
    )


def test_any_number_of_processes_gives_the_same_bytes(data: Path) -> None:
    """Sixteen at once write what one writes."""
    contents = []
    for processes in (1, 16):
        options = ("--probabilities", "-np", processes, "--overwrite")
        assert evaluate(data, "good", *options) == 0
        files = sorted((data / "out good").iterdir())
        contents.append({file.name: file.read_bytes() for file in files})

    assert "cases.csv" in contents[0]
    assert contents[0] == contents[1]


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
    assert {path.name for path in (data / "out good").iterdir()} == {
        "calibration.csv",
        "cases.csv",
        "folders.json",
        "froc.csv",
        "lesions.csv",
        "summary.csv",
        "summary.json",
    }


def test_blank_predictions_have_the_row_of_table_5(data: Path) -> None:
    """Blank predictions give what the paper prints: 0, 0, 0, 1, 1, 0."""
    assert evaluate(data, "blank") == 0

    metrics = json.loads((data / "out blank" / "summary.json").read_text())["metrics"]
    means = {name: row["mean"] for name, row in metrics.items()}
    assert means == {
        "DSC": 0,
        "PPV": 0,
        "TPR": 0,
        "VD": 1,
        "LFDR": 1,
        "L-sens": 0,
        "RVD": -1,
        "L-F1": 0,
        "HD95": None,
        "ASSD": None,
    }


def test_case_names_are_no_formulas(data: Path) -> None:
    """The case called =A has no cell that a spreadsheet would run."""
    evaluate(data, "good")

    for name in ("cases.csv", "lesions.csv"):
        text = (data / "out good" / name).read_text()
        assert "\n'=A," in text
        assert "\n=A" not in text


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


def test_compare_can_show_three_models(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than two models are columns of one table."""
    evaluate(data, "good")
    evaluate(data, "blank")
    outs = [data / "out good", data / "out blank", data / "out good"]
    capsys.readouterr()

    names = ("--names", "a", "b", "c")
    assert run("compare", *outs, "-o", data / "all", *names) == 0
    header = capsys.readouterr().out.splitlines()[1]
    assert header.split() == ["a", "b", "c"]


def test_lesions_counts_without_reference(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both tables are written, and every case is printed."""
    files = ("-o", data / "lesions.csv", "--cases", data / "cases.csv")
    assert run("lesions", data / "good", *files, "-np", 1) == 0

    assert "\nB         2 0.063" in capsys.readouterr().out
    assert list(pd.read_csv(data / "lesions.csv")["voxels"]) == [36, 27] * 3
    assert list(pd.read_csv(data / "cases.csv")["lesions"]) == [2, 2, 2]


def test_tables_are_replaced_only_when_told_so(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table that exists is refused before any work is done."""
    out = data / "lesions.csv"
    out.write_text("mine")

    assert run("lesions", data / "good", "-o", out) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run("lesions", data / "good", "-o", out, "-np", 1, "--overwrite") == 0
    assert out.read_text() != "mine"


@pytest.mark.parametrize("name", ["lesions.txt", "nowhere/lesions.csv"])
def test_tables_that_cannot_be_written_are_refused(data: Path, name: str) -> None:
    """Another ending or a missing folder is an error with a message."""
    assert run("lesions", data / "good", "-o", data / name) == 1
    assert (
        run(
            "lesions",
            data / "good",
            "-o",
            data / "a.csv",
            "--cases",
            data / "a.csv",
        )
        == 1
    )


def test_results_are_replaced_only_when_told_so(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second evaluation needs --overwrite, and gives the same bytes."""
    out = data / "out good" / "cases.csv"
    assert evaluate(data, "good") == 0
    first = out.read_bytes()

    assert evaluate(data, "good") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert evaluate(data, "good", "--overwrite") == 0
    assert out.read_bytes() == first


def test_errors_leave_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input ends in status 1, a message and no output."""
    (data / "good" / "B.nii.gz").write_bytes(b"no image")
    (data / "references" / "C.nii.gz").write_bytes(b"no image")

    assert evaluate(data, "good") == 1

    message = capsys.readouterr().err
    assert "2 cases have problems" in message
    assert "good/B.nii.gz" in message
    assert "references/C.nii.gz" in message
    assert not list(data.glob("*out*"))


def test_subset_and_labels_are_passed_on(data: Path) -> None:
    """Options reach the evaluation."""
    (data / "good" / "C.nii.gz").unlink()
    assert evaluate(data, "good") == 1

    options = ("--subset", "--label", 1, "--ignore-label", 7, "--protocol", "anima")
    assert evaluate(data, "good", *options) == 0

    summary = json.loads((data / "out good" / "summary.json").read_text())
    assert (summary["n"], summary["ignore_label"]) == (2, 7)
    assert summary["protocol"]["name"] == "anima"


@pytest.mark.parametrize(
    "options", [("--wanted-lfdr", "2"), ("--protocol", "none"), ("-np", "0")]
)
def test_wrong_options_are_refused(data: Path, options: tuple[str, str]) -> None:
    """An option out of range is an error with a message."""
    assert evaluate(data, "good", *options) == 1


def test_neither_torch_nor_nnunet_is_imported() -> None:
    """Evaluation runs where neither of them works."""
    code = (
        "import sys, pkgutil, importlib, nnunet_cel.evaluation as package\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'{package.__name__}.{module.name}')\n"
        "assert not {'torch', 'nnunetv2'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", ["evaluate", "compare", "lesions"])
def test_help_is_quick(command: str) -> None:
    """Help imports none of the large packages."""
    code = (
        "import sys, nnunet_cel.cli as cli\n"
        "try:\n"
        f"    cli.main(['{command}', '-h'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "assert not {'pandas', 'scipy', 'numpy', 'cc3d'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
