"""Draws the numbers of an evaluation, and the look of all charts.

Functions return None where there is nothing to draw. Bland-Altman plot: Bland and
Altman 1986, Lancet 327:307-310.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_cel.evaluation.dataset import Evaluation
from nnunet_cel.files import write_whole
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6
from nnunet_cel.volumes import Array

__all__ = [
    "ACCENT",
    "INK",
    "SECOND",
    "Chart",
    "chart_style",
    "draw_bland_altman",
    "draw_calibration",
    "draw_charts",
    "draw_froc",
    "draw_metrics",
    "draw_sizes",
    "draw_volumes",
    "fit_scale",
    "formatter",
    "new_axes",
    "render",
]

INK, ACCENT, SECOND = "#1d2733", "#1c5d99", "#a8480f"
"""Colors of text, of what a chart shows first, and of what it shows second."""

_DOTS: dict[str, Any] = {"color": ACCENT, "alpha": 0.6, "mec": "none"}
_DASHED: dict[str, Any] = {"color": INK, "lw": 0.9, "ls": "--", "alpha": 0.5}
_FLOODED = 10  # predicted over reference volume above which hits say nothing
_SKEWED = 20  # largest over median value from which on axes are logarithmic
_STYLE: list[str | dict[str, Any]] = [
    "seaborn-v0_8-whitegrid",
    {
        "figure.constrained_layout.use": True,
        # On the page the first one that the reader has; the chart is laid out for it.
        "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "lines.markersize": 5,
        "svg.fonttype": "none",
        "svg.hashsalt": "nnunet-cel",
    },
]

chart_style = partial(matplotlib.style.context, _STYLE)
"""Lets matplotlib draw in the style of the charts; a decorator, too."""


@dataclass(frozen=True)
class Chart:
    """A chart, ready for the page and for its files.

    Args:
        name: Name of its files, without ending.
        title: What stands above it.
        alt: What it shows, for those who cannot see it.
        caption: What one has to know to read it.
        svg: Content of its SVG file, without background.
        png: Content of its PNG file.
    """

    name: str
    title: str
    alt: str
    caption: str
    svg: str
    png: bytes

    @property
    def address(self) -> str:
        """The drawing as address of an image."""
        content = base64.b64encode(self.svg.encode()).decode()
        return f"data:image/svg+xml;base64,{content}"

    def save(self, folder: Path, prefix: str = "") -> None:
        """Write its files to a folder, with a prefix in front of their names."""
        write_whole(folder / f"{prefix}{self.name}.svg", self.svg)
        write_whole(folder / f"{prefix}{self.name}.png", self.png)


def new_axes(height: float = 3.4, rows: int = 1) -> Any:
    """Return empty axes in a figure of a height in inches, several for several rows.

    All charts have one width, so that their type has one size on the page.
    """
    return Figure(figsize=(4.6, height)).subplots(rows)


def render(
    axes: Axes, name: str, *, title: str = "", alt: str = "", caption: str = ""
) -> Chart:
    """Return what was drawn, with no date in it, as a :class:`Chart`."""
    svg, png, figure = io.BytesIO(), io.BytesIO(), cast("Figure", axes.figure)
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    figure.savefig(png, format="png", dpi=200)
    return Chart(name, title, alt, caption, svg.getvalue().decode(), png.getvalue())


def formatter(pattern: str) -> Callable[[float | None], str]:
    """Return a function that formats numbers, and None and NaN as a dash."""

    def apply(value: float | None) -> str:
        if value is None or math.isnan(value):
            return "\u2013"
        used = pattern if value else pattern.lstrip("+")  # zero has no sign
        return format(value, used).replace("-", "\u2212")

    return apply


def fit_scale(axes: Axes, values: Array, names: str) -> str:
    """Make axes logarithmic if the largest value is far above the others.

    Below the smallest positive value they stay linear, so that 0 is shown.

    Args:
        axes: What is drawn on.
        values: All values, none negative.
        names: The axes to scale, ``x``, ``y`` or ``xy``.

    Returns:
        What the caption says of the scale, empty if it is linear.
    """
    positive = values[values > 0]
    if not len(positive) or values.max() <= _SKEWED * np.median(positive):
        return ""
    for name in names:
        getattr(axes, f"set_{name}scale")("symlog", linthresh=positive.min())
        getattr(axes, f"{name}axis").set_major_formatter("{x:g}")
    return " The scale is logarithmic above the smallest value."


_signed, _three = formatter("+.3g"), formatter(".3f")


def draw_charts(results: Evaluation) -> list[Chart]:
    """Return the charts of an evaluation that have something to show."""
    cases, summary = results["cases.csv"], results["summary.json"]
    drawn = (
        draw_metrics(cases, summary["metrics"]),
        draw_volumes(cases),
        draw_bland_altman(cases),
        draw_sizes(summary["sizes_mm3"]),
        draw_froc(results.get("froc.csv")),
        draw_calibration(results.get("calibration.csv")),
    )
    return [chart for chart in drawn if chart is not None]


@chart_style()
def draw_metrics(cases: pd.DataFrame, metrics: Mapping[str, Any]) -> Chart | None:
    """Draw the paper's metrics of every case, with mean, interval and Table 6.

    Args:
        cases: One row for each case.
        metrics: Means and intervals by metric, as in ``summary.json``.
    """
    shown = pd.DataFrame(metrics).T.loc[list(PAPER_METRICS)]
    drawn = shown[["mean", "ci_low", "ci_high"]].astype(float).clip(upper=1)
    if drawn["mean"].isna().all():
        return None
    axes, names, means = new_axes(height=3.7), [], []
    for row, short in enumerate(PAPER_METRICS):
        values = np.sort(cases[short].dropna())
        beyond = int((values > 1).sum())
        note = f"\n{beyond} above 1" if beyond else "" if len(values) else "\nno value"
        names.append(f"{short}{note}")
        # Neighbors lie at other heights, so that they do not cover one another.
        heights = row - 0.16 - np.arange(len(values)) * 2 % 5 * 0.07
        axes.plot(values.clip(max=1), heights, "o", **_DOTS, ms=4)
        paper, here = TABLE_6[short][0], metrics[short]["mean"]
        axes.plot(paper, row + 0.2, "D", mfc="none", mec=SECOND)
        means.append(f"{short} {_three(here)}, in the paper {_three(paper)}")
    rows = np.arange(len(PAPER_METRICS)) + 0.2
    axes.hlines(rows, drawn["ci_low"], drawn["ci_high"], color=INK, lw=1.4)
    axes.plot(drawn["mean"], rows, "|", color=INK, ms=9, mew=2)
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(-0.02, 1.02))
    axes.grid(visible=False, axis="y")
    return render(
        axes,
        "metrics",
        title="Metrics, case by case",
        alt="Dots for each case on a line from 0 to 1 for each metric. Means: "
        + "; ".join(means),
        caption="Each dot is a case, the bar the mean with its 95 % interval, the "
        "diamond the mean in Table 6 of the paper, on other data. Values above 1 are "
        "drawn at 1. For VD and LFDR lower is better.",
    )


@chart_style()
def draw_sizes(sizes: Mapping[str, Any]) -> Chart | None:
    """Draw the sensitivity for lesions of each size with its interval.

    Args:
        sizes: Entry ``sizes_mm3`` of ``summary.json``.
    """
    found = pd.DataFrame({name: row["sensitivity"] for name, row in sizes.items()}).T
    if not found["n"].any():
        return None
    share = found.astype(float).fillna(0)
    counts = [f"{row['count']:.0f} of {row['n']:.0f}" for _, row in share.iterrows()]
    axes = new_axes()
    bars = axes.bar(
        found.index,
        share["value"],
        yerr=[share["value"] - share["ci_low"], share["ci_high"] - share["value"]],
        width=0.55,
        color=ACCENT,
        alpha=0.6,
        capsize=3,
    )
    axes.bar_label(bars, counts, padding=3)
    axes.grid(visible=False, axis="x")
    axes.set(
        ylim=(0, 1.15),
        xlabel="volume of the reference lesion (mm\u00b3)",
        ylabel="share that was found",
    )
    return render(
        axes,
        "sizes",
        title="Lesions found, by size",
        alt="Share of reference lesions that were found, by volume in mm3: "
        + "; ".join(map(": ".join, zip(found.index, counts, strict=True))),
        caption="Reference lesions of all cases together, with 95 % Wilson intervals.",
    )


@chart_style()
def draw_volumes(cases: pd.DataFrame) -> Chart | None:
    """Draw predicted over reference volume of every case."""
    true, predicted = cases["reference_ml"], cases["predicted_ml"]
    everything = np.concatenate([true, predicted])
    if not everything.any():
        return None
    axes, largest = new_axes(), everything.max()
    scale = fit_scale(axes, everything, "xy")
    axes.plot([0, largest], [0, largest], **_DASHED)
    axes.plot(true, predicted, "o", **_DOTS)
    axes.set(xlabel="reference volume (ml)", ylabel="predicted volume (ml)")
    axes.set_box_aspect(1)
    return render(
        axes,
        "volumes",
        title="Lesion volume of each case",
        alt=f"Predicted over reference lesion volume of {len(true)} cases, up to "
        f"{largest:.3g} ml. The predicted volume is larger in "
        f"{(predicted > true).sum()} of them.",
        caption="Each dot is a case. On the dashed line both volumes are equal; above "
        f"it the prediction is larger.{scale}",
    )


@chart_style()
def draw_bland_altman(cases: pd.DataFrame) -> Chart | None:
    """Draw the difference of the volumes of every case over their mean.

    The lines are the mean difference and, with at least 3 cases, 1.96 SD around it.
    """
    true, predicted = cases["reference_ml"], cases["predicted_ml"]
    if not true.any() and not predicted.any():
        return None
    mean, difference = (true + predicted) / 2, predicted - true
    bias = difference.mean()
    spread = 1.96 * difference.std() if len(cases) > 2 else np.nan
    words = "limits of agreement need at least 3 cases"
    if len(cases) > 2:
        words = (
            f"limits of agreement {_signed(bias - spread)} to {_signed(bias + spread)} "
            "ml (dashed; mean plus and minus 1.96 SD)"
        )
    far = cases.loc[(difference - bias).abs() > spread, "case"]
    outside = f" Beyond them: {', '.join(far)}." if len(far) else ""
    axes = new_axes()
    scale = fit_scale(axes, mean.to_numpy(), "x")
    axes.plot(mean, difference, "o", **_DOTS)
    for value, style in ((bias, "-"), (bias - spread, "--"), (bias + spread, "--")):
        if np.isfinite(value):
            axes.axhline(value, color=SECOND, lw=1, ls=style)
            place, text = axes.get_yaxis_transform(), f" {_signed(value)}"
            axes.text(1, value, text, transform=place, color=SECOND, va="center")
    axes.set(
        xlabel="mean of both volumes (ml)", ylabel="predicted minus reference (ml)"
    )
    caption = f"Mean difference {_signed(bias)} ml (solid line), {words}."
    return render(
        axes,
        "bland_altman",
        title="Agreement of volumes (Bland-Altman)",
        alt=f"Difference over mean of both volumes of {len(cases)} cases. {caption}",
        caption=f"{caption}{outside} Above 0 the prediction is larger.{scale}",
    )


@chart_style()
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
    x, y = shown["false_lesions_per_scan"], shown["sensitivity"]
    axes = new_axes()
    scale = fit_scale(axes, np.append(x, 1), "x")
    axes.plot(x, y, "o-", color=ACCENT, ms=4)
    half = np.isclose(shown["threshold"], 0.5)  # that of the label maps
    look: dict[str, Any] = {"ms": 10, "mfc": "none", "mec": INK}
    axes.plot(x[half], y[half], "o", label="threshold 0.5", **look)
    axes.legend(loc="lower right")
    axes.set(
        ylim=(-0.02, 1.04), xlabel="false lesions per scan", ylabel="lesion sensitivity"
    )
    return render(
        axes,
        "froc",
        title="Detection at other thresholds (FROC)",
        alt=f"Lesion sensitivity rises from {y.min():.2f} to {y.max():.2f} while false "
        f"lesions per scan rise from {x.min():.2f} to {x.max():.2f}.",
        caption="Each dot is a threshold of the lesion probability, from high (left) "
        "to low (right). Thresholds at which the predictions hold more than ten times "
        f"the volume of the references are left out.{scale}",
    )


@chart_style()
def draw_calibration(table: pd.DataFrame | None) -> Chart | None:
    """Draw the observed share over the predicted probability.

    Args:
        table: ``calibration.csv``, None without probabilities.
    """
    if table is None or table.empty:
        return None
    axes, found = new_axes(), []
    axes.plot([0, 1], [0, 1], **_DASHED)
    for level, label, color, line in (
        ("voxels", "voxels: share that is lesion", ACCENT, "o-"),
        ("lesions", "predicted lesions: share that is hit", SECOND, "s--"),
    ):
        rows = table[table["level"] == level]
        x, y = rows["mean_probability"], rows["observed"]
        axes.plot(x, y, line, color=color, label=label)
        found += [f"{level} {a:.2f}: {b:.2f}" for a, b in zip(x, y, strict=True)]
    axes.legend(loc="upper left")
    axes.set(xlabel="mean predicted probability", ylabel="observed share")
    return render(
        axes,
        "calibration",
        title="Calibration",
        alt=f"Observed share over mean predicted probability: {'; '.join(found)}",
        caption="On the dashed line probabilities are honest; below it they are too "
        "high. Voxels with a probability up to 0.01 are left out.",
    )
