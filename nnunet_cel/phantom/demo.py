"""Runs the method of the paper on synthetic subjects, with the stock commands.

Scans are made in the layouts of the public data sets and of a clinic, converted,
planned and preprocessed. FCA-DenseNet is pretrained on white matter hyperintensities in
FLAIR (two folds), and the better fold is fine-tuned on
enhancing lesions in contrast-enhanced T1w images. The same network is trained directly
on these for as many iterations. All three models predict subjects that none of them has
seen. A table compares them, pictures show the predictions as in Figure 7 of the paper
(true positive red, false positive green, false negative yellow), and a report shows
every lesion.

Every command is printed, runs in a process of its own and keeps its output in OUT/logs.
An interrupted demo goes on where it was; a finished one shows its results again. The
subjects are phantoms and the trainings are short: this shows that everything works, not
how well it works on patients.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from nnunet_cel.best_fold import choose, read_folds
from nnunet_cel.files import write_whole
from nnunet_cel.pictures import load_volume, save_overlays

__all__ = ["add_arguments", "run"]

WMH, CEL = "Dataset501_WMH", "Dataset502_CEL"
MODEL = "FCADenseTrainer__FCADensePlans__2d"
TRAINER = ("-tr", "FCADenseTrainer", "-p", "FCADensePlans")
SPACING = "2"  # mm

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
SCANS = {"isbi2015": 5, "msseg2016": 3, "wmh2017": 2}  # of the layouts
TRAINING_SUBJECTS, TEST_SUBJECTS = 7, 5  # of the clinic
STRIP = "--bet" if importlib.util.find_spec("brainextractor") else "--no-strip"

# The folder of results and the number of the data set of every model.
MODELS = {
    "pretrained_only": ("results", "501"),
    "direct": ("results_direct", "502"),
    "fine_tuned": ("results", "502"),
}


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
    steps = _steps(out, device)
    for number, (name, step) in enumerate(steps.items(), start=1):
        text = step.__doc__ if callable(step) else shlex.join(step)
        done = out / "done" / name
        again = " (done before)" if done.exists() else ""
        print(f"[{number}/{len(steps)}] {text}{again}", flush=True)
        if again:
            continue
        if callable(step):
            step(out)
        else:
            _call(step, out, out / "logs" / f"{name}.log")
        done.touch()
    print(f"Finished after {(time.monotonic() - start) / 60:.1f} minutes.\n")
    print((out / "table.txt").read_text(encoding="utf-8"))
    print(f"The report is {out / 'report.html'}: open it in a browser.")
    print(f"Pictures are in {out / 'pictures'}, numbers in {out / 'table.csv'}.")
    return 0


def _best_device() -> str:
    import torch  # takes seconds, and -h does not need it

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _steps(out: Path, device: str) -> dict[str, list[str] | Callable[[Path], None]]:
    """Return the commands, and what happens between them, by their names.

    The first word of a command may set a variable of the environment, as in a shell.
    """
    raw, sources = out / "raw" / CEL, out / "sources"
    evaluations, predictions = out / "evaluations", out / "predictions"
    phantom = ["nnunet-cel", "phantom"]
    small = ["--spacing", SPACING, "--overwrite", "--no-progress"]
    train = ["nnUNetv2_train"]
    how = ["-device", device, *TRAINER]
    steps: dict[str, list[str] | Callable[[Path], None]] = {
        f"phantom_{name}": [
            *(*phantom, "wmh", f"{sources / name}", "--layout", name),
            *("-n", str(n), *small),
        ]
        for name, n in SCANS.items()
    }
    # Scans of the clinic are skull-stripped already, to save time.
    n_clinic = str(TRAINING_SUBJECTS + TEST_SUBJECTS)
    steps |= {
        "phantom_clinic": [*phantom, "cel", f"{sources}", "-n", n_clinic, *small],
        "clinic_table": _write_clinic_table,
        "convert_wmh": [
            *("nnunet-cel", "convert", "wmh", STRIP, "--overwrite"),
            *(part for name in SCANS for part in (f"--{name}", f"{sources / name}")),
        ],
        "convert_cel": [
            *("nnunet-cel", "convert", "cel", f"{sources / 'cases.csv'}"),
            *("--linking-table", f"{out / 'linking_table.csv'}", "--overwrite"),
        ],
        "plan": [
            *("nnUNetv2_plan_and_preprocess", "-d", "501", "502", "-c", "2d"),
            *("-pl", "FCADensePlanner", "-np", "2", "-npfp", "2"),
            *("-overwrite_target_spacing", SPACING, SPACING, SPACING),
            "--verify_dataset_integrity",
        ],
        "settings": _write_settings,
        # --c goes on with a training that was interrupted
        "pretrain_fold_0": [*train, WMH, "2d", "0", *how, "--c"],
        "pretrain_fold_1": [*train, WMH, "2d", "1", *how, "--c"],
        "best_fold": _keep_best_fold,
        "fine_tune": [
            *(*train, CEL, "2d", "0", *how),
            *("-pretrained_weights", f"{out / 'pretrained.pth'}"),
        ],
        # the same trainer, plans and configuration: only the results folder differs
        "direct": [
            *(f"nnUNet_results={out / 'results_direct'}", *train),
            *(CEL, "2d", "0", *how, "--c"),
        ],
    }
    for name, (results, dataset) in MODELS.items():
        steps[f"predict_{name}"] = [
            *(f"nnUNet_results={out / results}", "nnUNetv2_predict"),
            *("-d", dataset, "-c", "2d", *how),
            *("-f", "0", *(["1"] if dataset == "501" else [])),
            *("-i", f"{raw / 'imagesTs'}", "-o", f"{predictions / name}"),
            *("-npp", "1", "-nps", "1", "--save_probabilities"),
        ]
    for name in MODELS:
        steps[f"evaluate_{name}"] = [
            *("nnunet-cel", "evaluate", f"{predictions / name}"),
            *(f"{raw / 'labelsTs'}", "-o", f"{evaluations / name}"),
            *("--probabilities", "--no-progress", "--overwrite"),
        ]
    others = [f"{evaluations / name}" for name in ("direct", "pretrained_only")]
    steps["report"] = [
        *("nnunet-cel", "report", f"{evaluations / 'fine_tuned'}"),
        *("-o", f"{out / 'report.html'}", "--no-progress", "--overwrite"),
        *("--images", f"{raw / 'imagesTs'}", "--compare", *others),
        *("--model", f"{out / 'results' / CEL / MODEL}"),
        *("--title", "Demo: fine-tuned on synthetic scans"),
    ]
    steps["table"] = _compare
    return steps


def _call(command: list[str], out: Path, log: Path) -> None:
    """Run a command, its output in the log.

    Raises:
        ValueError: If the command fails; the message holds the end of its log.
    """
    environment = os.environ | {
        "nnUNet_raw": str(out / "raw"),
        "nnUNet_preprocessed": str(out / "preprocessed"),
        "nnUNet_results": str(out / "results"),
        # nnU-Net's default of eight processes takes longer to start than to work
        "nnUNet_def_n_proc": "2",
    }
    if "=" in command[0]:
        name, _, value = command[0].partition("=")
        environment[name], command = value, command[1:]
    scripts = sysconfig.get_path("scripts")
    program = shutil.which(command[0], path=scripts) or shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(
            f"The command {command[0]} must be installed beside {sys.executable}. It "
            "was found neither there nor on the PATH. Run `nnunet-cel doctor`."
        )
    with log.open("w", encoding="utf-8") as file:
        status = subprocess.run(
            [program, *command[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise ValueError(
            f"{command[0]} ended with exit status {status}. The end of {log}:\n"
            + "\n".join(tail)
        )


def _write_clinic_table(out: Path) -> None:
    """Saying which subjects of the clinic are for training and which for testing."""
    # By number: chance would follow checksums of the images, whose last bits differ
    # between processors, and the demo would test other subjects on other machines.
    lines = ["subject,image,label,split"]
    for number in range(1, TRAINING_SUBJECTS + TEST_SUBJECTS + 1):
        split = "train" if number <= TRAINING_SUBJECTS else "test"
        name = f"CEL_{number:03d}"
        image = f"{CEL}/imagesTr/{name}_0000.nii.gz"
        lines.append(f"{name},{image},{CEL}/labelsTr/{name}.nii.gz,{split}")
    write_whole(out / "sources" / "cases.csv", "\n".join(lines) + "\n")


def _write_settings(out: Path) -> None:
    """Writing short trainings into the plans."""
    for dataset, schedule in SCHEDULES.items():
        file = out / "preprocessed" / dataset / "FCADensePlans.json"
        plans = json.loads(file.read_text())
        configuration = plans["configurations"]["2d"]
        configuration["nnunet_cel"] |= SETTINGS | schedule
        configuration["batch_size"] = BATCH_SIZE
        write_whole(file, json.dumps(plans, indent=1))


def _keep_best_fold(out: Path) -> None:
    """Copying the better fold, as `nnunet-cel best-fold 501` names it."""
    model = out / "results" / WMH / MODEL
    best = choose(read_folds(model), model=model)
    shutil.copy(best.checkpoint, out / "pretrained.pth")


def _compare(out: Path) -> None:
    """Comparing the three models in a table and in pictures."""
    raw = out / "raw" / CEL
    (out / "pictures").mkdir(exist_ok=True)
    table = pd.DataFrame(
        {
            name: pd.read_csv(
                out / "evaluations" / name / "cases.csv", index_col="case"
            )["DSC"]
            for name in MODELS
        }
    )
    for case in table.index:
        save_overlays(
            out / "pictures" / f"{case}.png",
            image=load_volume(raw / "imagesTs" / f"{case}_0000.nii.gz"),
            reference=load_volume(raw / "labelsTs" / f"{case}.nii.gz"),
            predictions={
                name: load_volume(out / "predictions" / name / f"{case}.nii.gz")
                for name in MODELS
            },
        )
    table.loc["mean"] = table.mean()
    table.to_csv(out / "table.csv", index_label="case")
    titles = {name: name.replace("_", " ") for name in MODELS}
    text = table.rename(columns=titles).to_string(
        float_format="{:.3f}".format, col_space=16
    )
    write_whole(out / "table.txt", f"DSC of unseen CE-T1w subjects\n{text}\n")
