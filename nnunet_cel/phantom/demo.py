"""Runs the method of the paper on synthetic subjects, with the stock commands.

Scans are made in the layouts of the public data sets and of a clinic, converted,
planned and preprocessed. FCA-DenseNet is pretrained on white matter hyperintensities in
FLAIR (two folds), and the better fold is fine-tuned on
enhancing lesions in contrast-enhanced T1w images. The same network is trained directly
on these for as many iterations. All three models predict subjects that none of them has
seen. A table compares them, pictures show the predictions as in Figure 7 of the paper
(true positive red, false positive green, false negative yellow), and a report shows
every lesion.

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
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from nnunet_cel.best_fold import choose, read_folds
from nnunet_cel.files import write_whole
from nnunet_cel.pictures import save_overlays

__all__ = ["add_arguments", "run"]

WMH, CEL = "Dataset501_WMH", "Dataset502_CEL"
MODEL = "FCADenseTrainer__FCADensePlans__2d"
MODELS = ("pretrained_only", "direct", "fine_tuned")
TEST_SUBJECTS = range(8, 13)  # of the clinic's subjects 1 to 12

# What it takes to learn something on two CPU cores in minutes. Everything else is as
# planned.
SETTINGS = {
    "training_window": 64,
    "iterations_per_epoch": 25,
    "validation_iterations": 20,
    "cpu_bfloat16": True,
}
BATCH_SIZE = 8
SCHEDULES = {
    WMH: {"max_epochs": 5, "learning_rate": 1e-3},
    CEL: {"max_epochs": 4, "learning_rate": 5e-4},  # fine-tuning and direct training
}


def write_clinic_table(out: Path) -> None:
    """Choose the clinic's subjects for testing."""
    # By number: chance would follow checksums of the images, whose last bits differ
    # between processors, and the demo would test other subjects on other machines.
    rows = ["subject,image,label,split"]
    for image in sorted((out / "sources" / CEL / "imagesTr").iterdir()):
        name = image.name.removesuffix("_0000.nii.gz")
        split = "test" if int(name[-3:]) in TEST_SUBJECTS else "train"
        rows.append(f"{name},{image},{CEL}/labelsTr/{name}.nii.gz,{split}")
    write_whole(out / "sources" / "cases.csv", "\n".join(rows) + "\n")


def shorten_trainings(out: Path) -> None:
    """Write settings for short trainings into the plans."""
    for dataset, schedule in SCHEDULES.items():
        file = out / "preprocessed" / dataset / "FCADensePlans.json"
        plans = json.loads(file.read_text())
        configuration = plans["configurations"]["2d"]
        configuration["nnunet_cel"] |= SETTINGS | schedule
        configuration["batch_size"] = BATCH_SIZE
        write_whole(file, json.dumps(plans, indent=1))


def keep_best_fold(out: Path) -> None:
    """Copy the weights of the fold that `nnunet-cel best-fold 501` names."""
    model = out / "results" / WMH / MODEL
    best = choose(read_folds(model), model=model)
    shutil.copy(best.checkpoint, out / "pretrained.pth")


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
    text = table.rename(columns=lambda name: name.replace("_", " ")).to_string(
        float_format="{:.3f}".format, col_space=16
    )
    write_whole(out / "table.txt", f"DSC of unseen CE-T1w subjects\n{text}\n")


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
    keep_best_fold,
    _TRAIN.format(f"{CEL} 2d 0 -pretrained_weights pretrained.pth"),
    _DIRECTLY + _TRAIN.format(f"{CEL} 2d 0 --c"),
    _PREDICT.format("501 -f 0 1", "pretrained_only"),
    _DIRECTLY + _PREDICT.format("502 -f 0", "direct"),
    _PREDICT.format("502 -f 0", "fine_tuned"),
    *(_EVALUATE.format(name) for name in MODELS),
    f"nnunet-cel report evaluations/fine_tuned -o report.html --images raw/{CEL}/"
    f"imagesTs --model results/{CEL}/{MODEL} --compare evaluations/direct "
    "evaluations/pretrained_only --title Demo --no-progress --overwrite",
    compare,
]
"""Commands, whose first word may set a variable, and what happens between them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path("nnunet_cel_demo"),
        metavar="OUT",
        help="folder for data, models, logs and results (default: %(default)s)",
    )
    parser.add_argument(
        "-device",
        choices=("cpu", "cuda", "mps"),
        help="where to train and predict (default: the best there is)",
    )
    parser.add_argument(
        "--restart", action="store_true", help="remove OUT and begin anew"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo and return its exit status."""
    out: Path = args.out.absolute()
    marker = out / "nnunet_cel_demo.json"
    if out.exists() and any(out.iterdir()) and not marker.is_file():
        raise FileExistsError(
            f"The folder for the demo must be empty or an earlier demo's. {out} is "
            "neither. Name another one with -o."
        )
    if args.restart and out.exists():
        shutil.rmtree(out)
    device = args.device or _best_device()
    for name in ("raw", "preprocessed", "results", "results_direct", "logs", "done"):
        (out / name).mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"device": device, "settings": SETTINGS}, indent=1))
    print(f"Demo in {out}, on {device}. Logs are in {out / 'logs'}.")
    start = time.monotonic()
    for number, step in enumerate(STEPS, start=1):
        text = step.__doc__ if callable(step) else step.replace("DEVICE", device)
        done = out / "done" / str(number)
        remark = " (done before)" if done.exists() else ""
        print(f"[{number}/{len(STEPS)}] {text}{remark}", flush=True)
        if done.exists():
            continue
        if callable(step):
            step(out)
        else:
            call(step.replace("DEVICE", device), out, out / "logs" / f"{number}.log")
        done.touch()
    print(f"Finished after {(time.monotonic() - start) / 60:.1f} minutes.\n")
    print((out / "table.txt").read_text(encoding="utf-8"))
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
    }
    words = command.split()
    if "=" in words[0]:
        name, value = words.pop(0).split("=")
        environment[name] = value
    # the command of this environment, activated or not
    scripts = sysconfig.get_path("scripts")
    program = shutil.which(words[0], path=scripts) or words[0]
    with log.open("w", encoding="utf-8") as file:
        status = subprocess.run(
            [program, *words[1:]],
            cwd=out,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise ValueError(
            f"{words[0]} ended with exit status {status}. The end of {log}:\n"
            + "\n".join(tail)
        )


def _best_device() -> str:
    import torch  # takes seconds, and -h does not need it

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
