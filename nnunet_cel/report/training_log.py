"""Reads the training curves of an nnU-Net model from its log files, and draws them.

nnU-Net writes a ``training_log_*.txt`` into the folder of every fold, a new one each
time a training is continued. Checkpoints hold the same numbers, but are pickles, which
could run code: they are not opened.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from nnunet_cel.report import charts
from nnunet_cel.report.charts import ACCENT, SECOND

__all__ = ["draw_training", "read_training"]

_WIDE = 20  # largest over smallest loss from which on the axis is logarithmic
_START = r"^(?:\d{4}-\d\d-\d\d [\d:.]+: )?"  # every line of a log begins with the time
_EPOCH = rf"(?m){_START}Epoch (\d{{1,9}}) *$"
_NUMBER = r"(nan|-?inf|-?\d+(?:\.\d*)?(?:e[-+]?\d+)?)"
_LINES = {
    "learning_rate": rf"Current learning rate: {_NUMBER}",
    "train_loss": rf"train_loss {_NUMBER}",
    "validation_loss": rf"val_loss {_NUMBER}",
    "validation_dice": r"Pseudo dice \[(.*)\]",
    "seconds": rf"Epoch time: {_NUMBER} s",
    "new_best": r"(Yayy! New best)",
    "restored": r"Restored the best weights, of epoch (\d{1,9})\.",
}
_SHOWN = (
    ("train_loss", "training loss", 0, "-", ACCENT),
    ("validation_loss", "validation loss", 0, "--", SECOND),
    ("validation_dice", "validation Dice", 1, "-", ACCENT),
)
"""Columns of the chart: name, text, number of the axes, line and color."""


def read_training(model: Path) -> pd.DataFrame:
    """Return one row for each epoch of each fold of a model.

    `validation_dice` is nnU-Net's pseudo Dice, the mean over labels. `best` marks the
    epoch whose weights were kept as the best ones.

    Args:
        model: Folder of an nnU-Net model, with ``fold_0`` and so on, or of one fold.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If no training log in it has a complete epoch.
    """
    if not model.is_dir():
        raise FileNotFoundError(f"There is no folder {model}.")
    one = any(model.glob("training_log_*.txt"))
    folders = [model] if one else sorted(model.glob("fold_*"))
    rows = [
        {"fold": folder.name.removeprefix("fold_"), **values}
        for folder in folders
        for values in _read_fold(folder)
        if {"train_loss", "validation_loss"} <= set(values)
    ]
    if not rows:
        raise ValueError(
            f"The model {model} must have a fold with a training log that holds at "
            "least one epoch, fold_0/training_log_*.txt. It has none: name the folder "
            "TRAINER__PLANS__CONFIGURATION that nnU-Net wrote."
        )
    numbers = list(_LINES)[:5]
    return pd.DataFrame(rows).reindex(columns=["fold", "epoch", *numbers, "best"])


def _read_fold(folder: Path) -> list[dict[str, Any]]:
    """Return the epochs of all logs of a fold, in their order."""
    # The names hold the time, whose numbers nnU-Net does not pad.
    logs = sorted(
        folder.glob("training_log_*.txt"),
        key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)],
    )
    text = "\n".join(path.read_text("utf-8", errors="replace") for path in logs)
    epochs: dict[int, dict[str, Any]] = {}
    best: int | None = None
    _, *parts = re.split(_EPOCH, text)
    for epoch, body in zip(map(int, parts[::2]), parts[1::2], strict=True):
        # A training that is continued repeats the epochs after its checkpoint.
        epochs = {number: row for number, row in epochs.items() if number < epoch}
        best = best if best in epochs else None
        found = {
            name: match[1]
            for name, line in _LINES.items()
            if (match := re.search(f"(?m){_START}{line}", body))
        }
        if found.pop("new_best", None):
            best = epoch
        if "restored" in found:
            best = int(found.pop("restored"))
        dice = re.sub(r"np\.float\d+\(", "", found.pop("validation_dice", ""))
        epochs[epoch] = {
            "epoch": epoch,
            **{name: float(number) for name, number in found.items()},
            "validation_dice": pd.Series(re.findall(_NUMBER, dice), dtype=float).mean(),
        }
    return [{**epochs[n], "best": n == best} for n in sorted(epochs)]


@charts.chart_style()
def draw_training(table: pd.DataFrame) -> charts.Chart:
    """Draw losses and validation Dice over epochs, a line for each fold.

    Args:
        table: What :func:`read_training` returned.
    """
    top, bottom = charts.new_axes(height=5, rows=2)
    folds, ends = table["fold"].unique().tolist(), []
    look: dict[str, Any] = {"ms": 3, "alpha": 1 if len(folds) == 1 else 0.6}
    for fold, rows in table.groupby("fold", sort=False):
        best, last = rows[rows["best"].astype(bool)], rows.iloc[-1]
        look["marker"] = "o" if len(rows) < 30 else ""
        for column, text, number, line, color in _SHOWN:
            axes, label = (top, bottom)[number], text if fold == folds[0] else None
            axes.plot(
                rows["epoch"], rows[column], line, color=color, label=label, **look
            )
            axes.plot(
                best["epoch"], best[column], "D", ms=6, mfc="none", mec=charts.INK
            )
        numbers = [f"{text} {last[column]:.3g}" for column, text, *_ in _SHOWN]
        ends.append(f"fold {fold} {', '.join(numbers)}")
    values = table[["train_loss", "validation_loss"]].to_numpy(dtype=float)
    known = values[np.isfinite(values)]
    if len(known) and known.max() > _WIDE * known.min() > 0:
        top.set_yscale("log")
    top.legend()
    top.set(ylabel="loss")
    bottom.set(xlabel="epoch", ylabel="validation Dice", ylim=(-0.02, 1.02))
    for axes in (top, bottom):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    which = "one line for each fold" if len(folds) > 1 else f"of fold {folds[0]}"
    return charts.render(
        top,
        "training",
        title="Loss and Dice in validation",
        alt=f"Loss and validation Dice over {int(table['epoch'].max()) + 1} epochs. At "
        f"the end: {'; '.join(ends)}",
        caption=f"Solid: training, dashed: validation, {which}. Dice is nnU-Net's "
        "pseudo Dice, over slices or patches of validation cases. The diamond is the "
        "epoch whose weights were kept as the best ones.",
    )
