"""Reads the training curves of an nnU-Net model from its log files, and draws them.

nnU-Net writes a ``training_log_*.txt`` into the folder of every fold, a new one each
time a training is continued. Checkpoints hold the same numbers, but are pickles, which
could run code: they are not opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, NullFormatter

from nnunet_cel.report.style import COLORS, Chart, chart_style, new_figure, render

__all__ = ["draw_training", "read_training"]

_INK, _ACCENT, _SECOND = (COLORS[name][0] for name in ("ink", "accent", "second"))
_WIDE = 20  # largest over smallest loss from which on the axis is logarithmic
_TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?: ")
_NUMBER = r"(nan|-?inf|-?\d+(?:\.\d*)?(?:e[-+]?\d+)?)"
_LINES = {
    "learning_rate": re.compile(rf"^Current learning rate: {_NUMBER}"),
    "train_loss": re.compile(rf"^train_loss {_NUMBER}"),
    "validation_loss": re.compile(rf"^val_loss {_NUMBER}"),
    "seconds": re.compile(rf"^Epoch time: {_NUMBER} s"),
}
_EPOCH = re.compile(r"^Epoch (\d{1,9})\s*$")
_DICE = re.compile(r"^Pseudo dice \[(.*)\]")
_NEW_BEST = re.compile(r"^Yayy! New best")
_RESTORED = re.compile(r"^Restored the best weights, of epoch (\d{1,9})\.")
_COLUMNS = (
    "fold",
    "epoch",
    "learning_rate",
    "train_loss",
    "validation_loss",
    "validation_dice",
    "seconds",
    "best",
)


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
    folders = sorted(path for path in model.glob("fold_*") if path.is_dir())
    if any(model.glob("training_log_*.txt")):
        folders = [model]
    rows = []
    for folder in folders:
        epochs: dict[int, dict[str, float | str | bool]] = {}
        for path in sorted(folder.glob("training_log_*.txt"), key=_time_of):
            _read_log(path, epochs)
        rows += [
            {"fold": folder.name.removeprefix("fold_"), "epoch": epoch, **values}
            for epoch, values in sorted(epochs.items())
            if {"train_loss", "validation_loss"} <= set(values)
        ]
    if not rows:
        raise ValueError(
            f"The model {model} must have a fold with a training log that holds at "
            "least one epoch, fold_0/training_log_*.txt. It has none: name the folder "
            "TRAINER__PLANS__CONFIGURATION that nnU-Net wrote."
        )
    return pd.DataFrame(rows).reindex(columns=list(_COLUMNS))


def _time_of(path: Path) -> list[int]:
    """Return the time in the name of a log, whose numbers nnU-Net does not pad."""
    return [int(number) for number in re.findall(r"\d+", path.name)]


def _read_log(path: Path, epochs: dict[int, dict[str, float | str | bool]]) -> None:
    """Add the epochs of a log in place of those of earlier ones from there on."""
    epoch, best = None, None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = _TIME.sub("", line).strip()
        if match := _EPOCH.match(text):
            # A training that is continued repeats the epochs after its checkpoint.
            for number in [n for n in epochs if n >= int(match[1])]:
                del epochs[number]
            epoch = int(match[1])
            epochs[epoch] = {"best": False}
        elif match := _RESTORED.match(text):
            best = int(match[1])
        if epoch is None:
            continue
        for name, pattern in _LINES.items():
            if match := pattern.match(text):
                epochs[epoch][name] = float(match[1])
        if match := _DICE.match(text):
            epochs[epoch]["validation_dice"] = _mean(match[1])
        elif _NEW_BEST.match(text):
            best = epoch
    if best in epochs:
        for number, values in epochs.items():
            values["best"] = number == best


def _mean(text: str) -> float:
    """Return the mean of numbers such as ``np.float32(0.5), nan``, NaN left out."""
    bare = re.sub(r"np\.float\d+\(", "", text)
    values = pd.Series([float(value) for value in re.findall(_NUMBER, bare)])
    return float(values.mean())


def draw_training(table: pd.DataFrame | None) -> list[Chart]:
    """Draw loss and validation Dice over epochs, a line for each fold.

    Args:
        table: What :func:`read_training` returned, None without a model.
    """
    if table is None:
        return []
    return [
        _draw_course(
            table,
            {"train_loss": "training", "validation_loss": "validation"},
            name="training_loss",
            title="Loss",
            label="loss",
            caption="Solid: training, dashed: validation",
        ),
        _draw_course(
            table,
            {"validation_dice": "validation Dice"},
            name="training_dice",
            title="Dice in validation",
            label="validation Dice",
            caption="nnU-Net's pseudo Dice, over slices or patches of validation cases",
        ),
    ]


def _draw_course(
    table: pd.DataFrame,
    columns: Mapping[str, str],
    *,
    name: str,
    title: str,
    label: str,
    caption: str,
) -> Chart:
    """Draw columns of the training over epochs."""
    folds = table["fold"].unique().tolist()
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        for fold, rows in table.groupby("fold", sort=False):
            best = rows[rows["best"].astype(bool)]
            marker = "o" if len(rows) < 30 else ""
            look: dict[str, Any] = {"marker": marker, "ms": 3, "lw": 1.4}
            look["alpha"] = 1 if len(folds) == 1 else 0.6
            lines = zip(columns.items(), (_ACCENT, _SECOND), ("-", "--"), strict=False)
            for (column, text), color, line in lines:
                named = text if fold == folds[0] else None
                axes.plot(
                    rows["epoch"], rows[column], line, color=color, label=named, **look
                )
                axes.plot(best["epoch"], best[column], "D", ms=6, mfc="none", mec=_INK)
        values = table[list(columns)].to_numpy(dtype=float)
        known = values[np.isfinite(values)]
        if name == "training_dice":
            axes.set_ylim(-0.02, 1.02)
        elif len(known) and known.max() > _WIDE * known.min() > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        if len(columns) > 1:
            axes.legend(loc="best")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        last = table.groupby("fold", sort=False).tail(1)
        ends = [
            f"fold {row['fold']} "
            + ", ".join(f"{text} {row[column]:.3g}" for column, text in columns.items())
            for _, row in last.iterrows()
        ]
        which = "one line for each fold" if len(folds) > 1 else f"of fold {folds[0]}"
        return Chart(
            name=name,
            title=title,
            alt=f"{title} over {int(table['epoch'].max()) + 1} epochs. At the end: "
            + "; ".join(ends),
            caption=f"{caption}, {which}. The diamond is the epoch whose weights were "
            "kept as the best ones.",
            **render(figure),
        )
