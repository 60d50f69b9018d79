"""Runs the protocol of the paper on synthetic subjects, with the stock commands.

Scans are made in the layouts of the public data sets and of a clinic, converted,
planned and preprocessed. FCA-DenseNet is pretrained on white matter hyperintensities in
FLAIR (two folds), and the better fold is fine-tuned on
enhancing lesions in contrast-enhanced T1w images. The same network is trained directly
on these for as many iterations. All three models predict subjects that none of them has
seen. A table compares them, pictures show the predictions as in Figure 7 of the paper
(true positive red, false positive green, false negative yellow), and a report shows
every lesion.

Every step runs nnU-Net's own command in a process of its own and keeps its output in
OUT/logs. An interrupted demo goes on where it was; a finished one shows its results
again. The subjects are phantoms and the trainings are short: this shows that everything
works, not how well it works on patients.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nnunet_cel.files import write_whole
from nnunet_cel.parallel import DEFAULT_PROCESSES
from nnunet_cel.phantom.head import make_source_subject
from nnunet_cel.phantom.layouts import LAYOUTS
from nnunet_cel.phantom.source_subject import Kind, SourceSubject
from nnunet_cel.phantom.source_tree import write_source_tree
from nnunet_cel.pictures import load_volume, save_overlays

__all__ = ["add_arguments", "run"]

WMH, CEL = "Dataset501_WMH", "Dataset502_CEL"
MODEL = "FCADenseTrainer__FCADensePlans__2d"
SPACING = "2"  # mm
FOLDS = 2

# What it takes to learn something on two CPU cores in minutes. Everything else is as
# planned.
SETTINGS = {
    "training_window": 64,
    "iterations_per_epoch": 25,
    "validation_iterations": 20,
    "cpu_bfloat16": True,
}
BATCH_SIZE = 8
PRETRAINING = {"max_epochs": 5, "learning_rate": 1e-3}
FINE_TUNING = {"max_epochs": 4, "learning_rate": 5e-4}  # and direct training
SCANS = {"isbi2015": 5, "msseg2016": 3, "wmh2017": 2, "cel-bids": 12}  # of layouts
TEST_FRACTION = "0.4"
STRIP = "--bet" if importlib.util.find_spec("brainextractor") else "--no-strip"


@dataclass(frozen=True)
class _Step:
    """One step of the demo.

    Args:
        name: Short name, also of its log.
        title: What the progress bar says.
        action: What it does; gets the file for its log.
    """

    name: str
    title: str
    action: Callable[[Path], None]


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
    for folder in ("raw", "preprocessed", "results", "logs", "done", "pictures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    device = args.device or _best_device()
    marker.write_text(json.dumps({"device": device, "settings": SETTINGS}, indent=1))

    demo = _Demo(out, device)
    print(f"Demo in {out}, on {device}. Logs are in {out / 'logs'}.")
    start = time.monotonic()
    with tqdm(demo.steps(), unit="step", dynamic_ncols=True) as bar:
        for step in bar:
            bar.set_description(step.title)
            done = out / "done" / step.name
            if done.exists():
                continue
            step.action(out / "logs" / f"{step.name}.log")
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


class _Demo:
    """The steps of the demo in one folder.

    Args:
        out: Folder of the demo.
        device: Device for nnU-Net's commands.
    """

    def __init__(self, out: Path, device: str) -> None:
        self.out = out
        self.device = device
        self.environment = os.environ | {
            "nnUNet_raw": str(out / "raw"),
            "nnUNet_preprocessed": str(out / "preprocessed"),
            "nnUNet_results": str(out / "results"),
            # nnU-Net's default of eight processes takes longer to start than to work
            "nnUNet_def_n_proc": "2",
        }

    def steps(self) -> list[_Step]:
        """Return all steps in their order."""
        pretraining = [
            _Step(
                f"pretrain_fold_{fold}",
                f"Pretraining on WMH, fold {fold}",
                lambda log, fold=fold: self._train(log, WMH, fold),  # type: ignore[misc]  # binds fold
            )
            for fold in range(FOLDS)
        ]
        predictions = [
            _Step(
                f"predict_{name}",
                f"Predicting unseen subjects, {name}",
                lambda log, name=name: self._predict(log, name),  # type: ignore[misc]  # binds name
            )
            for name in self._models()
        ]
        return [
            _Step("sources", "Making synthetic scans", self._make_sources),
            _Step("convert", "Converting them", self._convert),
            _Step("plan", "Planning and preprocessing", self._plan),
            *pretraining,
            _Step("fine_tune", "Fine-tuning on CEL", self._fine_tune),
            _Step("direct", "Training directly on CEL", self._train_directly),
            *predictions,
            _Step("evaluate", "Evaluating", self._evaluate),
            _Step("report", "Writing the report", self._report),
            _Step("table", "Comparing", self._compare),
        ]

    def _models(self) -> dict[str, tuple[Path, int]]:
        """Return the results folder and the number of the data set of every model."""
        return {
            "pretrained_only": (self.out / "results", 501),
            "direct": (self.out / "results_direct", 502),
            "fine_tuned": (self.out / "results", 502),
        }

    def _make_sources(self, log: Path) -> None:
        for layout, count in SCANS.items():
            write_source_tree(
                self.out / "sources" / layout,
                layout,
                count,
                partial(_make_subject, LAYOUTS[layout].kind, float(SPACING)),
                overwrite=True,
                processes=DEFAULT_PROCESSES,
            )

    def _convert(self, log: Path) -> None:
        sources = self.out / "sources"
        public = [
            part
            for layout in SCANS
            if LAYOUTS[layout].kind == "wmh"
            for part in (f"--{layout}", str(sources / layout))
        ]
        table = str(self.out / "linking_table.csv")
        self._call(log, "nnunet-cel", "convert", "wmh", *public, STRIP, "--overwrite")
        self._call(
            log.with_name(f"{log.stem}_cel.log"),
            *("nnunet-cel", "convert", "cel", str(sources / "cel-bids")),
            *("--test-fraction", TEST_FRACTION, "--linking-table", table),
            "--overwrite",
        )

    def _plan(self, log: Path) -> None:
        self._call(
            log,
            "nnUNetv2_plan_and_preprocess",
            *("-d", "501", "502", "-pl", "FCADensePlanner", "-c", "2d"),
            *("-overwrite_target_spacing", SPACING, SPACING, SPACING),
            *("-np", "2", "-npfp", "2", "--verify_dataset_integrity"),
        )
        for name, schedule in ((WMH, PRETRAINING), (CEL, FINE_TUNING)):
            file = self.out / "preprocessed" / name / "FCADensePlans.json"
            plans = json.loads(file.read_text())
            configuration = plans["configurations"]["2d"]
            configuration["nnunet_cel"] |= SETTINGS | schedule
            configuration["batch_size"] = BATCH_SIZE
            file.write_text(json.dumps(plans, indent=1))

    def _train(self, log: Path, dataset: str, fold: int, *options: str) -> None:
        results = Path(self.environment["nnUNet_results"])
        folder = results / dataset / MODEL / f"fold_{fold}"
        begun = any(folder.glob("checkpoint_*.pth"))
        self._call(
            log,
            "nnUNetv2_train",
            *(dataset, "2d", str(fold), "-tr", "FCADenseTrainer"),
            *("-p", "FCADensePlans", "-device", self.device),
            *(("--c",) if begun else options),
        )

    def _fine_tune(self, log: Path) -> None:
        best = subprocess.run(
            [_command("nnunet-cel"), "best-fold", "501", "-c", "2d"],
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if best.returncode != 0:
            raise ValueError(best.stderr.strip())
        self._train(log, CEL, 0, "-pretrained_weights", best.stdout.strip())

    def _train_directly(self, log: Path) -> None:
        # the same trainer, plans and configuration: only the results folder differs
        results, _ = self._models()["direct"]
        results.mkdir(exist_ok=True)
        direct = _Demo(self.out, self.device)
        direct.environment["nnUNet_results"] = str(results)
        direct._train(log, CEL, 0)

    def _predict(self, log: Path, name: str) -> None:
        results, dataset = self._models()[name]
        folds = range(FOLDS if name == "pretrained_only" else 1)
        self._call(
            log,
            "nnUNetv2_predict",
            *("-d", str(dataset), "-c", "2d", "-tr", "FCADenseTrainer"),
            *("-p", "FCADensePlans", "-f", *map(str, folds), "-device", self.device),
            *("-i", str(self.out / "raw" / CEL / "imagesTs")),
            *("-o", str(self.out / "predictions" / name), "-npp", "1", "-nps", "1"),
            "--save_probabilities",
            results=results,
        )

    def _evaluate(self, log: Path) -> None:
        for name in self._models():
            self._call(
                log.with_name(f"{log.stem}_{name}.log"),
                *("nnunet-cel", "evaluate", str(self.out / "predictions" / name)),
                str(self.out / "raw" / CEL / "labelsTs"),
                *("-o", str(self.out / "evaluations" / name)),
                *("--probabilities", "--no-progress", "--overwrite"),
            )

    def _report(self, log: Path) -> None:
        evaluations = self.out / "evaluations"
        self._call(
            log,
            *("nnunet-cel", "report", str(evaluations / "fine_tuned")),
            *("-o", str(self.out / "report.html"), "--no-progress", "--overwrite"),
            *("--images", str(self.out / "raw" / CEL / "imagesTs")),
            *("--model", str(self.out / "results" / CEL / MODEL)),
            *("--compare", str(evaluations / "direct")),
            str(evaluations / "pretrained_only"),
            *("--title", "Demo: fine-tuned on synthetic scans"),
        )

    def _compare(self, log: Path) -> None:
        raw = self.out / "raw" / CEL
        table = pd.DataFrame(
            {
                name: pd.read_csv(
                    self.out / "evaluations" / name / "cases.csv", index_col="case"
                )["DSC"]
                for name in self._models()
            }
        )
        for case in table.index:
            save_overlays(
                self.out / "pictures" / f"{case}.png",
                image=load_volume(raw / "imagesTs" / f"{case}_0000.nii.gz"),
                reference=load_volume(raw / "labelsTs" / f"{case}.nii.gz"),
                predictions={
                    name: load_volume(
                        self.out / "predictions" / name / f"{case}.nii.gz"
                    )
                    for name in self._models()
                },
            )
        table.loc["mean"] = table.mean()
        table.to_csv(self.out / "table.csv", index_label="case")
        titles = {name: name.replace("_", " ") for name in self._models()}
        text = table.rename(columns=titles).to_string(
            float_format="{:.3f}".format, col_space=16
        )
        write_whole(self.out / "table.txt", f"DSC of unseen CE-T1w subjects\n{text}\n")

    def _call(
        self, log: Path, command: str, *options: str, results: Path | None = None
    ) -> None:
        """Run a command, its output in the log.

        Raises:
            ValueError: If the command fails; the message holds the end of its log.
        """
        environment = self.environment
        if results is not None:
            environment = environment | {"nnUNet_results": str(results)}
        with log.open("w", encoding="utf-8") as file:
            file.write(f"{command} {' '.join(options)}\n")
            file.flush()
            status = subprocess.run(
                [_command(command), *options],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if status != 0:
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            raise ValueError(
                f"{command} ended with exit status {status}. The end of {log}:\n"
                + "\n".join(tail)
            )


def _command(name: str) -> str:
    """Return the path of a command of this environment, activated or not."""
    folder = sysconfig.get_path("scripts")
    path = shutil.which(name, path=folder) or shutil.which(name)
    if path is None:
        raise FileNotFoundError(
            f"The command {name} must be installed beside {sys.executable}. It was "
            "found neither there nor on the PATH. Run `nnunet-cel doctor`."
        )
    return path


def _make_subject(kind: Kind, spacing: float, number: int) -> SourceSubject:
    """Make a subject; a clinic's scans are skull-stripped already, to save time."""
    subject = make_source_subject(kind, 0, number, spacing=spacing)
    return replace(subject, raw=subject.brain_image) if kind == "cel" else subject
