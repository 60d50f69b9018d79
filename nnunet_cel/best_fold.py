r"""Prints the path of the checkpoint of the best of the trained folds.

The best fold is the one with the highest mean Dice over the foreground in its own
validation, as nnU-Net wrote it to `fold_X/validation/summary.json`. Only the path goes
to the standard output, so that it can be handed on:

    nnUNetv2_train 502 2d 0 -tr FCADenseTrainer -p FCADensePlans \
        -pretrained_weights "$(nnunet-cel best-fold 501 -c 2d)"
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunet_cel.files import read_json

__all__ = ["Fold", "add_arguments", "choose", "read_folds", "run"]


@dataclass(frozen=True)
class Fold:
    """One fold of a trained model.

    Args:
        name: The number of the fold, or `all`.
        checkpoint: The file of its weights, which need not exist.
        dice: Mean Dice over the foreground in the fold's validation, nan if unknown.
        problem: Why the fold cannot be chosen, empty if it can.
    """

    name: str
    checkpoint: Path
    dice: float
    problem: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments, named as in nnU-Net's own commands."""
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="name or number of the data set")
    shown = "default: %(default)s"
    add("-c", dest="configuration", default="2d", help=shown)
    add("-tr", dest="trainer", default="FCADenseTrainer", help=shown)
    add("-p", dest="plans", default="FCADensePlans", help=shown)
    add("-chk", dest="checkpoint", default="checkpoint_final.pth", help=shown)


def run(args: argparse.Namespace) -> int:
    """Print the folds to the standard error and the best one to the output."""
    model = find_model(args.dataset, args.trainer, args.plans, args.configuration)
    print(f"{model}\nfold   Dice", file=sys.stderr)
    folds = read_folds(model, checkpoint=args.checkpoint)
    for fold in folds:
        line = f"{fold.name:<4} {fold.dice:6.4f}  {fold.problem}"
        print(line.rstrip(), file=sys.stderr)
    print(choose(folds, model=model).checkpoint)
    return 0


def find_model(dataset: str, trainer: str, plans: str, configuration: str) -> Path:
    """Return the folder in which nnU-Net keeps the folds of one model.

    Raises:
        ValueError: If a variable of nnU-Net is not set or no data set is called so.
        FileNotFoundError: If there is no such model; the message names those there are.
    """
    from nnunetv2.utilities.file_path_utilities import get_output_folder

    try:
        model = Path(get_output_folder(dataset, trainer, plans, configuration))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            "DATASET must be the name or the number of a data set in nnUNet_raw, "
            f"nnUNet_preprocessed or nnUNet_results. Got {dataset!r} instead. "
            f"nnU-Net says: {str(error).partition('. ')[0]}."
        ) from error
    if not model.is_dir():
        there = sorted(path.name for path in model.parent.glob("*__*__*"))
        raise FileNotFoundError(
            f"There is no model {model}. Trained models of this data set: "
            f"{', '.join(there) or 'none'}. Choose with DATASET, -c, -tr and -p."
        )
    return model


def read_folds(model: Path, *, checkpoint: str = "checkpoint_final.pth") -> list[Fold]:
    """Read what nnU-Net left in the folders `fold_X` of `model`, in order of X."""
    names = [folder.name.removeprefix("fold_") for folder in model.glob("fold_*")]
    known = [name for name in names if name.isdecimal() or name == "all"]
    known.sort(key=lambda name: (name == "all", name.zfill(9)))
    return [_read_fold(name, model / f"fold_{name}", checkpoint) for name in known]


def choose(folds: Iterable[Fold], *, model: Path) -> Fold:
    """Return the fold with the highest Dice, the lowest number among equals.

    Raises:
        FileNotFoundError: If no fold of `model` can be chosen.
    """
    candidates = [fold for fold in folds if not fold.problem]
    if not candidates:
        raise FileNotFoundError(
            "The model must have a fold with a checkpoint and a validation. "
            f"Found none in {str(model)!r}. Train its folds with nnUNetv2_train; "
            "'nnUNetv2_train ... --val' adds a validation that is missing."
        )
    # max() keeps the first of equals, and the folds are in order
    return max(candidates, key=lambda fold: fold.dice)


def _read_fold(name: str, folder: Path, checkpoint: str) -> Fold:
    path = folder / checkpoint
    try:
        content = read_json(folder / "validation" / "summary.json")
        dice = float(content["foreground_mean"]["Dice"])
    except (OSError, KeyError, TypeError, ValueError):
        dice = math.nan
    if name == "all":
        problem = "left out: validated on its training cases"
    elif not 0 <= dice <= 1:  # nan where the validation has no lesion
        problem = "no Dice in validation/summary.json"
    else:
        problem = "" if path.is_file() else f"no {checkpoint}"
    return Fold(name, path, dice, problem)
