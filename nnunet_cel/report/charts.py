"""Draws the numbers of an evaluation.

Functions return None where there is nothing to draw. Bland-Altman plot: Bland and
Altman 1986, Lancet 327:307-310.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6
from nnunet_cel.report.results import Results
from nnunet_cel.report.style import (
    ACCENT,
    INK,
    SECOND,
    Chart,
    chart_style,
    fit_scale,
    formatter,
    new_axes,
    render,
)

__all__ = [
    "draw_bland_altman",
    "draw_calibration",
    "draw_charts",
    "draw_froc",
    "draw_metrics",
    "draw_sizes",
    "draw_volumes",
    "limits_of_agreement",
]

Array = npt.NDArray[Any]

_signed, _three = formatter("+.3g"), formatter(".3f")
_DOTS: dict[str, Any] = {"color": ACCENT, "alpha": 0.6, "mec": "none"}
_DASHED: dict[str, Any] = {"color": INK, "lw": 0.9, "ls": "--", "alpha": 0.5}
_NAMED = 4  # cases outside the limits of agreement that are named
_FLOODED = 10  # predicted over reference volume above which hits say nothing


def draw_charts(results: Results) -> list[Chart]:
    """Return the charts of an evaluation that have something to show."""
    drawn = (
        draw_metrics(results.cases, results.summary["metrics"]),
        draw_volumes(results.cases),
        draw_bland_altman(results.cases),
        draw_sizes(results.summary["sizes_mm3"]),
        draw_froc(results.froc),
        draw_calibration(results.calibration),
    )
    return [chart for chart in drawn if chart is not None]


@chart_style()
def draw_metrics(cases: pd.DataFrame, metrics: Mapping[str, Any]) -> Chart | None:
    """Draw the paper's metrics of every case, with mean, interval and Table 6.

    Args:
        cases: One row for each case.
        metrics: Means and intervals by metric, as in ``summary.json``.
    """
    shown = pd.DataFrame([metrics[short] for short in PAPER_METRICS])
    mean, low, high = (
        shown[name].to_numpy(dtype=float) for name in ("mean", "ci_low", "ci_high")
    )
    if np.isnan(mean).all():
        return None
    axes, names = new_axes(height=3.7), []
    for row, short in enumerate(PAPER_METRICS):
        values = np.sort(cases[short].dropna().to_numpy(dtype=float))
        beyond = int((values > 1).sum())
        note = f"\n{beyond} above 1" if beyond else "" if len(values) else "\nno value"
        names.append(f"{short}{note}")
        # Neighbors lie at other heights, so that they do not cover one another.
        heights = row - 0.16 - np.arange(len(values)) * 2 % 5 * 0.07
        axes.plot(values.clip(max=1), heights, "o", **_DOTS, ms=4)
    rows = np.arange(len(PAPER_METRICS)) + 0.2
    axes.hlines(rows, low.clip(max=1), high.clip(max=1), color=INK, lw=1.4)
    axes.plot(mean.clip(max=1), rows, "|", color=INK, ms=9, mew=2)
    paper = [TABLE_6[short][0] for short in PAPER_METRICS]
    axes.plot(paper, rows, "D", mfc="none", mec=SECOND)
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlim=(-0.02, 1.02))
    axes.grid(visible=False, axis="y")
    return render(
        axes,
        "metrics",
        title="Metrics, case by case",
        alt="Dots for each case on a line from 0 to 1 for each metric. Means: "
        + "; ".join(
            f"{short} {_three(value)}, in the paper {_three(TABLE_6[short][0])}"
            for short, value in zip(PAPER_METRICS, mean, strict=True)
        ),
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
    shares = [row["sensitivity"] for row in sizes.values()]
    found = pd.DataFrame(shares, index=list(sizes))
    if not found["n"].any():
        return None
    counts = [f"{row.count} of {row.n}" for row in found.itertuples(index=False)]
    share = found[["value", "ci_low", "ci_high"]].astype(float).fillna(0)
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
        yticks=np.linspace(0, 1, 6),
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
    true, predicted = _volumes(cases)
    everything = np.concatenate([true, predicted])
    if not everything.any():
        return None
    axes, largest = new_axes(), everything.max()
    scale = fit_scale(axes, everything, "xy", "volume")
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
        f"{int((predicted > true).sum())} of them.",
        caption="Each dot is a case. On the dashed line both volumes are equal; above "
        f"it the prediction is larger.{scale}",
    )


@chart_style()
def draw_bland_altman(cases: pd.DataFrame) -> Chart | None:
    """Draw the difference of the volumes of every case over their mean."""
    true, predicted = _volumes(cases)
    if not true.any() and not predicted.any():
        return None
    mean, difference = (true + predicted) / 2, predicted - true
    lines = limits_of_agreement(cases)
    bias, low, high = (_signed(value) for value in lines.values())
    limits, dashed = "limits of agreement need at least 3 cases", ""
    if np.isfinite(lines["low"]):
        limits = f"limits of agreement {low} to {high} ml"
        dashed = " (dashed; mean plus and minus 1.96 SD)"
    beyond = (difference < lines["low"]) | (difference > lines["high"])
    order = cases.loc[beyond, "case"].iloc[np.argsort(-abs(difference[beyond]))]
    outside = ", ".join(order[:_NAMED])
    if len(order) > _NAMED:
        outside += f" and {len(order) - _NAMED} more"
    axes = new_axes()
    scale = fit_scale(axes, mean, "x", "volume")
    axes.plot(mean, difference, "o", **_DOTS)
    for name, value in lines.items():
        if np.isfinite(value):
            style = "-" if name == "bias" else "--"
            axes.axhline(value, color=SECOND, lw=1, ls=style)
            place, text = axes.get_yaxis_transform(), f" {_signed(value)}"
            axes.text(1, value, text, transform=place, color=SECOND, va="center")
    axes.set(
        xlabel="mean of both volumes (ml)", ylabel="predicted minus reference (ml)"
    )
    return render(
        axes,
        "bland_altman",
        title="Agreement of volumes (Bland-Altman)",
        alt=f"Difference over mean of both volumes of {len(mean)} cases: mean "
        f"difference {bias} ml, {limits}.",
        caption=f"Mean difference {bias} ml (solid line), {limits}{dashed}."
        f"{f' Beyond them: {outside}.' if outside else ''} Above 0 the prediction is "
        f"larger.{scale}",
    )


def limits_of_agreement(cases: pd.DataFrame) -> dict[str, float]:
    """Return `bias`, `low` and `high`: mean difference in ml and mean -+ 1.96 SD.

    The difference is predicted minus reference volume. Limits are NaN below 3 cases.
    """
    true, predicted = _volumes(cases)
    difference = predicted - true
    bias = float(difference.mean())
    spread = 1.96 * float(difference.std(ddof=1)) if len(difference) > 2 else np.nan
    return {"bias": bias, "low": bias - spread, "high": bias + spread}


def _volumes(cases: pd.DataFrame) -> tuple[Array, Array]:
    """Return reference and predicted volume in ml of all cases."""
    return (
        cases["reference_ml"].to_numpy(dtype=float),
        cases["predicted_ml"].to_numpy(dtype=float),
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
    reach = np.append(x.to_numpy(dtype=float), 1)
    scale = fit_scale(axes, reach, "x", "rate of false lesions")
    axes.plot(x, y, "o-", color=ACCENT, ms=4)
    half = np.isclose(shown["threshold"], 0.5)  # that of the label maps
    if half.any():
        axes.plot(
            x[half], y[half], "o", ms=10, mfc="none", mec=INK, label="threshold 0.5"
        )
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
    axes = new_axes()
    axes.plot([0, 1], [0, 1], **_DASHED)
    for level, label, color, style in (
        ("voxels", "voxels: share that is lesion", ACCENT, "o-"),
        ("lesions", "predicted lesions: share that is hit", SECOND, "s--"),
    ):
        rows = table[table["level"] == level]
        axes.plot(
            rows["mean_probability"], rows["observed"], style, color=color, label=label
        )
    axes.legend(loc="upper left")
    axes.set(xlabel="mean predicted probability", ylabel="observed share")
    return render(
        axes,
        "calibration",
        title="Calibration",
        alt="Observed share over mean predicted probability: "
        + "; ".join(
            f"{row.level} {row.mean_probability:.2f}: {row.observed:.2f}"
            for row in table.itertuples()
        ),
        caption="On the dashed line probabilities are honest; below it they are too "
        "high. Voxels with a probability up to 0.01 are left out.",
    )
