"""Draws metrics of an evaluation, and what was found of each size.

Every function returns None where there is nothing to draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6
from nnunet_cel.report.rendering import formatter
from nnunet_cel.report.style import COLORS, Chart, chart_style, new_figure, render

__all__ = ["draw_metrics", "draw_sizes"]

Array = npt.NDArray[Any]

_INK, _MUTED, _ACCENT, _SECOND = (
    COLORS[name][0] for name in ("ink", "muted", "accent", "second")
)
_three = formatter(".3f")


def draw_metrics(cases: pd.DataFrame, metrics: Mapping[str, Any]) -> Chart | None:
    """Draw the paper's metrics of every case, with mean, interval and Table 6.

    Args:
        cases: One row for each case.
        metrics: Means and intervals by metric, as in ``summary.json``.
    """
    if all(metrics[short]["mean"] is None for short in PAPER_METRICS):
        return None
    with chart_style():
        figure = new_figure(height=3.7)
        axes = figure.add_subplot()
        for row, short in enumerate(PAPER_METRICS):
            _draw_dots(axes, row, np.sort(cases[short].dropna().to_numpy(dtype=float)))
            _draw_mean(axes, row, metrics[short])
            paper = TABLE_6[short][0]
            axes.plot(paper, row + 0.2, "D", ms=5.5, mfc="none", mec=_SECOND)
        axes.set_yticks(range(len(PAPER_METRICS)), PAPER_METRICS)
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.set(ylim=(len(PAPER_METRICS) - 0.4, -0.6), xlim=(-0.02, 1.02))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        return Chart(
            name="metrics",
            title="Metrics, case by case",
            alt="Dots for each case on a line from 0 to 1 for each metric. Means: "
            + "; ".join(
                f"{short} {_three(metrics[short]['mean'])}, in the paper "
                f"{_three(TABLE_6[short][0])}"
                for short in PAPER_METRICS
            ),
            caption="Each dot is a case, the bar the mean with its 95 % interval, the "
            "diamond the mean in Table 6 of the paper, on other data. Values above 1 "
            "are drawn at 1. For VD and LFDR lower is better.",
            **render(figure),
        )


def draw_sizes(sizes: Mapping[str, Any]) -> Chart | None:
    """Draw the sensitivity for lesions of each size with its interval.

    Args:
        sizes: Entry ``sizes_mm3`` of ``summary.json``.
    """
    found = {name: row["sensitivity"] for name, row in sizes.items()}
    if not any(row["n"] for row in found.values()):
        return None
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        for place, row in enumerate(found.values()):
            if not row["n"]:
                axes.text(place, 0.03, "none", ha="center", color=_MUTED)
                continue
            axes.bar(place, row["value"], width=0.55, color=_ACCENT, alpha=0.25)
            axes.plot(
                [place, place], [row["ci_low"], row["ci_high"]], color=_ACCENT, lw=1.6
            )
            axes.plot(place, row["value"], "o", ms=6, color=_ACCENT)
            axes.text(
                place + 0.08,
                min(row["value"] + 0.03, 1.02),
                f"{row['count']} of {row['n']}",
            )
        axes.set_xticks(range(len(found)), list(found))
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set(
            ylim=(0, 1.1),
            xlim=(-0.5, len(found) - 0.3),
            xlabel="volume of the reference lesion (mm\u00b3)",
            ylabel="share that was found",
        )
        axes.set_yticks(np.linspace(0, 1, 6))
        return Chart(
            name="sizes",
            title="Lesions found, by size",
            alt="Share of reference lesions that were found, by volume in mm3: "
            + "; ".join(
                f"{name}: {row['count']} of {row['n']}" for name, row in found.items()
            ),
            caption="Reference lesions of all cases together, with 95 % Wilson "
            "intervals.",
            **render(figure),
        )


def _draw_dots(axes: Axes, row: int, values: Array) -> None:
    """Draw a dot for each case, and say how many are beyond the axis."""
    shown = np.minimum(values, 1)
    axes.plot(
        shown,
        row - 0.16 - _spread(shown),
        "o",
        ms=4,
        mec="none",
        mfc=_ACCENT,
        alpha=0.55 if len(values) <= 60 else 0.3,
    )
    if beyond := int((values > 1).sum()):
        axes.text(1.01, row + 0.3, f"{beyond} above 1", ha="right", va="top")


def _spread(values: Array) -> Array:
    """Return heights of dots on a line, so that close ones are stacked."""
    steps = np.arange(5) * 0.07
    heights, used = np.zeros(len(values)), np.full(len(steps), -np.inf)
    for i, value in enumerate(values):
        free = np.flatnonzero(value - used > 0.012)
        place = int(free[0]) if len(free) else i % len(steps)
        used[place], heights[i] = value, steps[place]
    return heights


def _draw_mean(axes: Axes, row: int, values: Mapping[str, Any]) -> None:
    """Draw mean and interval of a metric, as far as there are any."""
    if values["mean"] is None:
        axes.text(0.5, row, "no value", ha="center", va="center", color=_MUTED)
        return
    if values["ci_low"] is not None:
        ends = np.minimum([values["ci_low"], values["ci_high"]], 1)
        axes.plot(ends, [row + 0.2, row + 0.2], color=_INK, lw=1.4)
    mean = min(values["mean"], 1)
    axes.plot([mean, mean], [row + 0.08, row + 0.32], color=_INK, lw=2.2)
