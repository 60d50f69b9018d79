"""Draws detection at other thresholds, calibration, and the course of a training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, NullFormatter

from nnunet_cel.report.scales import describe_scale, set_scale
from nnunet_cel.report.style import COLORS, Chart, chart_style, new_figure, render

__all__ = ["draw_calibration", "draw_froc", "draw_training"]

_INK, _MUTED, _ACCENT, _SECOND = (
    COLORS[name][0] for name in ("ink", "muted", "accent", "second")
)
_FLOODED = 10  # predicted over reference volume above which hits say nothing
_WIDE = 20  # largest over smallest loss from which on the axis is logarithmic
_MARKED = 0.5  # threshold of a label map


def draw_froc(curve: pd.DataFrame | None) -> Chart | None:
    """Draw lesion sensitivity over false lesions per scan, one dot each threshold.

    Args:
        curve: ``froc.csv``, None without probabilities.
    """
    if curve is None:
        return None
    shown = curve[(curve["volume_ratio"] <= _FLOODED) & curve["sensitivity"].notna()]
    if shown.empty:
        return None
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        x = shown["false_lesions_per_scan"].to_numpy(dtype=float)
        y = shown["sensitivity"].to_numpy(dtype=float)
        axes.plot(x, y, "o-", color=_ACCENT, ms=4, lw=1.4)
        half = shown[np.isclose(shown["threshold"], _MARKED)]
        for row in half.itertuples():
            place = (row.false_lesions_per_scan, row.sensitivity)
            axes.plot(*place, "o", ms=10, mfc="none", mec=_INK, mew=1.2)
            axes.annotate(
                "threshold 0.5",
                place,
                xytext=(9, -9),
                textcoords="offset points",
                va="top",
                color=_INK,
            )
        axes.set(
            xlim=set_scale(axes, np.append(x, 1), "x"),
            ylim=(-0.02, 1.04),
            xlabel="false lesions per scan",
            ylabel="lesion sensitivity",
        )
        return Chart(
            name="froc",
            title="Detection at other thresholds (FROC)",
            alt="Lesion sensitivity rises from "
            f"{y.min():.2f} to {y.max():.2f} while false lesions per scan rise from "
            f"{x.min():.2f} to {x.max():.2f}.",
            caption="Each dot is a threshold of the lesion probability, from high (left"
            ") to low (right). Thresholds at which the predictions hold more than ten "
            "times the volume of the references are left out."
            f"{describe_scale(np.append(x, 1), 'rate of false lesions')}",
            **render(figure),
        )


def draw_calibration(table: pd.DataFrame | None) -> Chart | None:
    """Draw the observed share over the predicted probability.

    Args:
        table: ``calibration.csv``, None without probabilities.
    """
    if table is None or table.empty:
        return None
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        axes.axline((0, 0), slope=1, color=_MUTED, lw=0.9, dashes=(4, 3))
        looks = (
            ("voxels", "voxels: share that is lesion", "o-", _ACCENT),
            ("lesions", "predicted lesions: share that is hit", "s--", _SECOND),
        )
        for level, label, line, color in looks:
            rows = table[table["level"] == level]
            axes.plot(
                rows["mean_probability"],
                rows["observed"],
                line,
                color=color,
                ms=5,
                lw=1.4,
                label=label,
            )
        axes.legend(loc="upper left")
        axes.set(
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.04),
            xlabel="mean predicted probability",
            ylabel="observed share",
        )
        return Chart(
            name="calibration",
            title="Calibration",
            alt="Observed share over mean predicted probability: "
            + "; ".join(
                f"{row.level} {row.mean_probability:.2f}: {row.observed:.2f}"
                for row in table.itertuples()
            ),
            caption="On the dashed line probabilities are honest; below it they are "
            "too high. Voxels with a probability up to 0.01 are left out.",
            **render(figure),
        )


def draw_training(table: pd.DataFrame | None) -> list[Chart]:
    """Draw loss and validation Dice over epochs, a line for each fold.

    Args:
        table: What :func:`~nnunet_cel.report.training_log.read_training` returned,
            None without a model.
    """
    if table is None:
        return []
    losses = {"train_loss": "training", "validation_loss": "validation"}
    return [
        _draw_course(
            table,
            losses,
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
    columns: dict[str, str],
    *,
    name: str,
    title: str,
    label: str,
    caption: str,
) -> Chart:
    """Draw columns of the training over epochs."""
    folds = list(dict.fromkeys(table["fold"]))
    looks = ((_ACCENT, "-"), (_SECOND, "--"))
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        for fold in folds:
            rows = table[table["fold"] == fold]
            best = rows[rows["best"].astype(bool)]
            for (column, text), (color, line) in zip(
                columns.items(), looks, strict=False
            ):
                axes.plot(
                    rows["epoch"],
                    rows[column],
                    line,
                    marker="o" if len(rows) < 30 else "",
                    ms=3,
                    color=color,
                    lw=1.4,
                    alpha=1 if len(folds) == 1 else 0.6,
                    label=text if fold == folds[0] else None,
                )
                axes.plot(best["epoch"], best[column], "D", ms=6, mfc="none", mec=_INK)
        values = table[list(columns)].to_numpy(dtype=float)
        known = values[np.isfinite(values)]
        wide = len(known) > 0 and known.max() > _WIDE * known.min() > 0
        if name == "training_loss" and wide:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        if name == "training_dice":
            axes.set_ylim(-0.02, 1.02)
        if len(columns) > 1:
            axes.legend(loc="best")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        last = table.groupby("fold", sort=False).tail(1)
        return Chart(
            name=name,
            title=title,
            alt=f"{title} over {int(table['epoch'].max()) + 1} epochs. At the end: "
            + "; ".join(
                f"fold {row['fold']} "
                + ", ".join(
                    f"{text} {row[column]:.3g}" for column, text in columns.items()
                )
                for _, row in last.iterrows()
            ),
            caption=f"{caption}, {'one line' if len(folds) > 1 else 'of'} "
            f"{'for each fold' if len(folds) > 1 else f'fold {folds[0]}'}. The diamond "
            "is the epoch whose weights were kept as the best ones.",
            **render(figure),
        )
