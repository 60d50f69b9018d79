"""Runs the method of the paper on synthetic subjects, with the stock commands.

Scans are made in the layouts of the public data sets and of a clinic, converted,
planned and preprocessed. FCA-DenseNet is pretrained on white matter hyperintensities in
FLAIR (two folds), and the better fold is fine-tuned on enhancing lesions in
contrast-enhanced T1w images. The same network is trained directly on these for as many
iterations. All three models predict subjects that none of them has seen. A table
compares them, pictures show the predictions as in Figure 7 of the paper (true positive
red, false positive green, false negative yellow), and a report shows every lesion.

Every command is printed and runs in the folder OUT; its output is in OUT/logs. An
interrupted demo goes on where it was; a finished one shows its results again. The
subjects are phantoms and the trainings are short: this shows that everything works, not
how well it works on patients.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from nnunet_cel.files import write_whole
from nnunet_cel.pictures import save_overlays

__all__ = ["add_arguments", "run"]

WMH, CEL = "Dataset501_WMH", "Dataset502_CEL"
MODELS = ("pretrained_only", "direct", "fine_tuned")
TEST_SUBJECTS = range(8, 13)  # of the clinic's subjects 1 to 12

# Enough to learn something on two CPU cores in minutes; all else is as planned.
SETTINGS = {
    "training_window": 64,
    "iterations_per_epoch": 25,
    "validation_iterations": 20,
    "cpu_bfloat16": True,
}
SCHEDULES = {
    WMH: {"max_epochs": 5, "learning_rate": 1e-3},
    CEL: {"max_epochs": 4, "learning_rate": 5e-4},  # fine-tuning and direct training
}


def write_clinic_table(out: Path) -> None:
    """Choose the clinic's subjects for testing."""
    # By number: chance would follow checksums of the images, whose last bits differ
    # between processors, and the demo would test other subjects on other machines.
    rows = ["subject,image,label,split"]
    for label in sorted((out / "sources" / CEL / "labelsTr").iterdir()):
        name = label.name.removesuffix(".nii.gz")
        split = "test" if int(name[-3:]) in TEST_SUBJECTS else "train"
        image = f"{CEL}/imagesTr/{name}_0000.nii.gz"
        rows.append(f"{name},{image},{CEL}/labelsTr/{label.name},{split}")
    write_whole(out / "sources" / "cases.csv", "\n".join(rows) + "\n")


def shorten_trainings(out: Path) -> None:
    """Write settings for short trainings into the plans."""
    for dataset, schedule in SCHEDULES.items():
        file = out / "preprocessed" / dataset / "FCADensePlans.json"
        plans = json.loads(file.read_text())
        plans["configurations"]["2d"]["nnunet_cel"] |= SETTINGS | schedule
        plans["configurations"]["2d"]["batch_size"] = 8
        write_whole(file, json.dumps(plans, indent=1))


def compare(out: Path) -> None:
    """Compare the three models in a table and in pictures."""
    files = {name: out / "evaluations" / name / "cases.csv" for name in MODELS}
    table = pd.DataFrame(
        {name: pd.read_csv(files[name], index_col="case")["DSC"] for name in MODELS}
    )
    raw = out / "raw" / CEL
    (out / "pictures").mkdir(exist_ok=True)
    for case in table.index:
        file = f"{case}.nii.gz"
        save_overlays(
            out / "pictures" / f"{case}.png",
            image=raw / "imagesTs" / f"{case}_0000.nii.gz",
            reference=raw / "labelsTs" / file,
            predictions={name: out / "predictions" / name / file for name in MODELS},
        )
    table.loc["mean"] = table.mean()
    table.to_csv(out / "table.csv", index_label="case")


_PHANTOM = "nnunet-cel phantom {} --spacing 2 --overwrite --no-progress"
_TRAIN = "nnUNetv2_train {} -tr FCADenseTrainer -p FCADensePlans -device DEVICE"
_PREDICT = (
    f"nnUNetv2_predict -d {{}} -i raw/{CEL}/imagesTs -o predictions/{{}} -c 2d "
    "-tr FCADenseTrainer -p FCADensePlans -device DEVICE -npp 1 -nps 1 "
    "--save_probabilities"
)
_EVALUATE = (
    f"nnunet-cel evaluate predictions/{{0}} raw/{CEL}/labelsTs -o evaluations/{{0}} "
    "--probabilities --no-progress --overwrite"
)
# The same trainer, plans and configuration: only the folder of the results differs.
_DIRECTLY = "nnUNet_results=results_direct "
_STRIP = "--bet" if importlib.util.find_spec("brainextractor") else "--no-strip"

STEPS: list[str | Callable[[Path], None]] = [
    _PHANTOM.format("wmh sources/isbi2015 --layout isbi2015 -n 5"),
    _PHANTOM.format("wmh sources/msseg2016 --layout msseg2016 -n 3"),
    _PHANTOM.format("wmh sources/wmh2017 --layout wmh2017 -n 2"),
    _PHANTOM.format("cel sources -n 12"),  # without skull, to save time
    write_clinic_table,
    "nnunet-cel convert wmh --isbi2015 sources/isbi2015 --msseg2016 sources/msseg2016 "
    f"--wmh2017 sources/wmh2017 {_STRIP} --overwrite",
    "nnunet-cel convert cel sources/cases.csv --overwrite",
    "nnUNetv2_plan_and_preprocess -d 501 502 -pl FCADensePlanner -c 2d -np 2 -npfp 2 "
    "-overwrite_target_spacing 2 2 2 --verify_dataset_integrity",
    shorten_trainings,
    # --c goes on with a training that was interrupted
    _TRAIN.format(f"{WMH} 2d 0 --c"),
    _TRAIN.format(f"{WMH} 2d 1 --c"),
    'cp "$(nnunet-cel best-fold 501 -c 2d)" pretrained.pth',
    _TRAIN.format(f"{CEL} 2d 0 -pretrained_weights pretrained.pth"),
    _DIRECTLY + _TRAIN.format(f"{CEL} 2d 0 --c"),
    _PREDICT.format("501 -f 0 1", "pretrained_only"),
    _DIRECTLY + _PREDICT.format("502 -f 0", "direct"),
    _PREDICT.format("502 -f 0", "fine_tuned"),
    *(_EVALUATE.format(name) for name in MODELS),
    f"nnunet-cel report evaluations/fine_tuned -o report.html --images raw/{CEL}/"
    f"imagesTs --model results/{CEL}/FCADenseTrainer__FCADensePlans__2d --compare "
    "evaluations/direct evaluations/pretrained_only --title Demo --no-progress "
    "--overwrite",
    compare,
]
"""Commands of the shell, and what happens between them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    add, out = parser.add_argument, Path("nnunet_cel_demo")
    what = "folder for data, models, logs and results (default: %(default)s)"
    add("-o", "--out", type=Path, default=out, metavar="OUT", help=what)
    what = "where to train and predict (default: the best there is)"
    add("-device", choices=("cpu", "cuda", "mps"), help=what)
    add("--restart", action="store_true", help="remove OUT and begin anew")


def run(args: argparse.Namespace) -> int:
    """Run the demo and return its exit status."""
    out: Path = args.out.absolute()
    marker = out / "nnunet_cel_demo.txt"
    if out.exists() and any(out.iterdir()) and not marker.is_file():
        raise FileExistsError(
            f"The folder for the demo must be empty or an earlier demo's. {out} is "
            "neither. Name another one with -o."
        )
    if args.restart and out.exists():
        shutil.rmtree(out)
    for name in ("logs", "raw", "preprocessed", "results", "results_direct"):
        (out / name).mkdir(parents=True, exist_ok=True)
    marker.write_text("Everything here was made by nnunet-cel demo.\n")
    device = args.device or _best_device()
    print(f"Demo in {out}, on {device}. Logs are in {out / 'logs'}.")
    for number, step in enumerate(STEPS, start=1):
        text = step.__doc__ if callable(step) else step.replace("DEVICE", device)
        done = out / "logs" / f"{number}.done"
        remark = " (done before)" if done.exists() else ""
        print(f"[{number}/{len(STEPS)}] {text}{remark}", flush=True)
        if done.exists():
            continue
        if callable(step):
            step(out)
        else:
            call(step.replace("DEVICE", device), out, out / "logs" / f"{number}.log")
        done.touch()
    table = pd.read_csv(out / "table.csv", index_col="case")
    print(f"\nDSC of unseen CE-T1w subjects\n{table.round(3).to_string()}\n")
    print(f"The report is {out / 'report.html'}: open it in a browser.")
    print(f"Pictures are in {out / 'pictures'}, numbers in {out / 'table.csv'}.")
    return 0


def call(command: str, out: Path, log: Path) -> None:
    """Run a command in the folder of the demo, its output in the log.

    Raises:
        ValueError: If the command fails; the message holds the end of its log.
    """
    environment = os.environ | {
        "nnUNet_raw": "raw",
        "nnUNet_preprocessed": "preprocessed",
        "nnUNet_results": "results",
        # nnU-Net's default of eight processes takes longer to start than to work
        "nnUNet_def_n_proc": "2",
        # the commands of this environment, activated or not
        "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",
    }
    with log.open("wb") as file:
        process = subprocess.run(
            command,
            shell=True,  # constants of this module
            cwd=out,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if process.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise ValueError(
            f"This command ended with exit status {process.returncode}: {command}\n"
            f"The end of {log}:\n" + "\n".join(tail)
        )


def _best_device() -> str:
    import torch  # takes seconds, and -h does not need it

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
