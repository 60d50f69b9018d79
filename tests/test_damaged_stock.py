"""nnU-Net's own commands with our classes, on damaged files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stock_workspace import SHORT, SMALL, TRAIN

from nnunet_cel.settings import BLOCK

TINY = "Dataset501_Tiny"
MODEL = "results/Dataset501_Tiny/FCADenseTrainer__FCADensePlans__2d"
PLAN = (
    *("-d", "501", "-pl", "FCADensePlanner", "-c", "2d", "--verify_dataset_integrity"),
    *("-np", "1", "-npfp", "1", "--clean"),
)
FIT = ("501", "2d", "0", *TRAIN)
PREDICT = (
    *("-d", "501", "-c", "2d", "-f", "0", "-tr", "FCADenseTrainer"),
    *("-p", "FCADensePlans", "-i", f"{{}}/raw/{TINY}/imagesTs", "-o", "{}/out"),
    *("-device", "cpu", "-npp", "1", "-nps", "1"),
)
CASES = [
    (f"raw/{TINY}/imagesTr/case_01_0000.nii.gz", "noise", "plan", PLAN),
    (f"raw/{TINY}/imagesTr/case_01_0000.nii.gz", "half", "plan", PLAN),
    (f"raw/{TINY}/labelsTr/case_00.nii.gz", "empty", "plan", PLAN),
    (f"raw/{TINY}/dataset.json", "half", "plan", PLAN),
    (f"preprocessed/{TINY}/FCADensePlans.json", "settings", "train", FIT),
    (f"preprocessed/{TINY}/FCADensePlans_2d/case_01.b2nd", "half", "train", FIT),
    (f"preprocessed/{TINY}/splits_final.json", "list", "train", FIT),
    (f"{MODEL}/fold_0/checkpoint_final.pth", "half", "train", (*FIT, "--c")),
    (f"{MODEL}/fold_0/checkpoint_final.pth", "half", "predict", PREDICT),
    (f"{MODEL}/plans.json", "settings", "predict", PREDICT),
    (f"{MODEL}/dataset.json", "list", "predict", PREDICT),
    (f"raw/{TINY}/imagesTs/case_00_0000.nii.gz", "empty", "predict", PREDICT),
    (f"raw/{TINY}/imagesTs/case_00_0000.nii.gz", "half", "predict", PREDICT),
]


@pytest.mark.campaign
def test_stock_commands_tell_which_file_is_damaged(
    planned_folders: Path, tmp_path: Path
) -> None:
    """Every command ends in time, fails, names the file, and predicts nothing."""
    whole = tmp_path / "whole"
    for name in ("raw", "preprocessed", "results"):
        shutil.copytree(planned_folders / name, whole / name)
    plans = whole / "preprocessed" / TINY / "FCADensePlans.json"
    content = json.loads(plans.read_text())
    for configuration in content["configurations"].values():
        configuration[BLOCK] = configuration.get(BLOCK, {}) | SHORT
        architecture = configuration["architecture"]
        name = architecture["network_class_name"].rpartition(".")[2]
        architecture["arch_kwargs"] |= SMALL[name]
        configuration["batch_size"] = 4
    plans.write_text(json.dumps(content))
    folders = ("raw", "preprocessed", "results")
    environment = os.environ | {f"nnUNet_{n}": str(whole / n) for n in folders}
    environment |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1"}
    train = shutil.which("nnUNetv2_train", path=Path(sys.executable).parent)
    subprocess.run([str(train), *FIT], env=environment, check=True, capture_output=True)
    (tmp_path / "cases.json").write_text(json.dumps(CASES))

    script = Path(__file__).with_name("stock_damaged.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(tmp_path / "cases.json")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )

    wrong = []
    results = json.loads(done.stdout.splitlines()[-1])
    for (file, damage, command, _), (status, said, name) in zip(
        CASES, results, strict=True
    ):
        stem = name.partition(".")[0]
        # nnU-Net hands over plans without their path, and opens checkpoints itself.
        words = (name, stem, "configuration '2d'", "checkpoint file is corrupted")
        named = any(word in said for word in words)
        if status in (None, 0) or not named:
            wrong.append(f"{command}, {file}, {damage}: {status}\n{said[-1500:]}")
    assert not wrong, "\n\n".join(wrong)
