"""The command `nnunet-cel weights`, as users call it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from conftest import write_dataset
from test_stock_commands import MODEL, PREDICT, TRAIN, Workspace
from test_weights_checkpoint import Evil, small
from test_weights_export import make_model

from nnunet_cel.weights import command


def call(*arguments: str | Path) -> int:
    """Parse arguments as `nnunet-cel weights` does, and run them."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_export_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both say what they wrote, where, and what comes next; paths may have spaces."""
    model = make_model(tmp_path / "a model", folds=("0", "1"))

    assert call("export", model, tmp_path / "out", "-f", "1") == 0
    printed = capsys.readouterr().out
    assert "fold 1 (FCADenseTrainer, 2d)" in printed
    hexadecimal = printed.split()[-1]
    assert call("export", model, tmp_path / "out", "--overwrite") == 0
    new = capsys.readouterr().out.split()[-1]

    with pytest.raises(ValueError, match="its author meant"):
        call("import", tmp_path / "out", tmp_path / "b", "--sha256", hexadecimal)
    assert call("import", tmp_path / "out", tmp_path / "in here", "--sha256", new) == 0
    printed = capsys.readouterr().out
    assert f"-m '{tmp_path / 'in here'}' -f 0 1 " in printed
    assert "Dataset501_Tiny/FCADenseTrainer__FCADensePlans__2d" in printed
    assert "Note" not in printed


def test_import_names_other_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An export of another version is imported with a word of warning."""
    call("export", make_model(tmp_path / "model"), tmp_path / "out")
    manifest = tmp_path / "out" / "model.json"
    content = json.loads(manifest.read_text())
    content["made_with"]["nnunetv2"] = "9.9"
    manifest.write_text(json.dumps(content))

    assert call("import", tmp_path / "out", tmp_path / "in") == 0

    assert "made with nnunetv2 9.9, here is" in capsys.readouterr().out


def test_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table says what the file holds; parameters are counted once."""
    model = make_model(tmp_path / "model")
    file = model / "fold_0" / "checkpoint_final.pth"

    assert call("inspect", file, "--plans", model / "plans.json", "--tensors") == 0

    rows = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line
    )
    weights = torch.load(file, weights_only=False)["network_weights"]
    counted = sum(
        tensor.numel()
        for name, tensor in weights.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    assert rows["parameters"] == f"{counted:,}"
    assert rows["trainer"] == "FCADenseTrainer"
    assert rows["epochs"] == "7"
    assert rows["types"] == "float32, int64"
    assert rows["network.head.bias"].split() == ["float32", "2"]
    assert rows["fits"].split() == ["the", "plans", "yes"]


def test_inspect_says_what_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed all the same, and the error names the tensor."""
    model = make_model(tmp_path / "model")
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["growth_rate"] = 5
    (tmp_path / "plans.json").write_text(json.dumps(plans))

    with pytest.raises(ValueError, match=r"has shape .*, not "):
        call(
            *("inspect", model / "fold_0" / "checkpoint_final.pth"),
            *("--plans", tmp_path / "plans.json"),
        )

    assert "fits the plans  no" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_weights": {"a": torch.tensor([float("nan")])}}, "'a' .* has NaN"),
        ({"trainer_name": "os"}, "trainer must be"),
    ],
)
def test_inspect_finds_other_problems(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Weights that are no numbers and trainers that are none are errors."""
    torch.save(small(**change), tmp_path / "a.pth")

    with pytest.raises(ValueError, match=message):
        call("inspect", tmp_path / "a.pth")


def test_inspect_prints_nothing_that_terminals_obey(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters in names do not reach the screen."""
    content = small(init_args={"configuration": "\x1b[2J2d"}) | {"\x1b]0;x": 1}
    content["network_weights"]["\x1b[31mred"] = torch.zeros(1)
    torch.save(content, tmp_path / "a.pth")

    assert call("inspect", tmp_path / "a.pth", "--tensors") == 0

    assert "\x1b" not in capsys.readouterr().out


def test_inspect_refuses_code(tmp_path: Path) -> None:
    """The function that a checkpoint wants to call is named, not called."""
    torch.save(small(logging=Evil(tmp_path / "touched")), tmp_path / "evil.pth")

    with pytest.raises(ValueError, match=r"asks for 'posix\.system'"):
        call("inspect", tmp_path / "evil.pth")

    assert not (tmp_path / "touched").exists()


@pytest.mark.slow
def test_imported_model_predicts_the_same(tmp_path: Path) -> None:
    """nnUNetv2_predict gives one label map with a trained model and its import.

    The imported model lies in another results folder, as on another machine.
    """
    work = Workspace(tmp_path)
    write_dataset(work.root / "raw", "Dataset501_WMH", shape=(30, 32, 28))
    work.call(
        "nnUNetv2_plan_and_preprocess",
        *("-d", "501", "-pl", "FCADensePlanner", "-c", "2d", "-np", "1", "-npfp", "1"),
    )
    work.shorten("Dataset501_WMH", "FCADensePlans")
    work.call("nnUNetv2_train", "501", "2d", "0", *TRAIN)
    model = work.fold("Dataset501_WMH", "2d", "FCADensePlans", 0).parent
    elsewhere = work.root / "elsewhere"
    there = {"nnUNet_results": str(elsewhere)}

    call("export", model, work.root / "export")
    call("import", work.root / "export", elsewhere / model.parent.name / model.name)

    trained, imported = (
        torch.load(
            root / model.parent.name / model.name / "fold_0" / "checkpoint_final.pth",
            weights_only=False,
        )["network_weights"]
        for root in (work.root / "results", elsewhere)
    )
    assert list(trained) == list(imported)
    assert all(torch.equal(trained[name], imported[name]) for name in trained)
    images = work.root / "raw" / "Dataset501_WMH" / "imagesTs"
    probabilities, labels = [], []
    for name, environment in (("one", {}), ("two", there)):
        work.call(
            "nnUNetv2_predict",
            *("-d", "501", "-c", "2d", *MODEL, "-f", "0", *PREDICT),
            *("-i", str(images), "-o", name, "--save_probabilities"),
            **environment,
        )
        labels.append(nibabel.load(work.root / name / "case_00.nii.gz").dataobj)
        with np.load(work.root / name / "case_00.npz") as file:
            probabilities.append(file["probabilities"])
    np.testing.assert_array_equal(*map(np.asarray, labels))
    np.testing.assert_array_equal(*probabilities)
