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
from matplotlib.axes import Axes

from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6
from nnunet_cel.report.results import Results
from nnunet_cel.report.style import (
    COLORS,
    Chart,
    chart_style,
    describe_scale,
    formatter,
    new_figure,
    render,
    set_scale,
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

_INK, _MUTED, _LINE, _ACCENT, _SECOND = (
    COLORS[name][0] for name in ("ink", "muted", "line", "accent", "second")
)
_signed, _three = formatter("+.3g"), formatter(".3f")
_MANY = 60  # cases from which on dots are small and faint
_NAMED = 4  # cases outside the limits of agreement that are named
_FLOODED = 10  # predicted over reference volume above which hits say nothing
_MARKED = 0.5  # threshold of a label map


def draw_charts(results: Results) -> dict[str, Chart | None]:
    """Return the charts of an evaluation by their name."""
    return {
        "metrics": draw_metrics(results.cases, results.summary["metrics"]),
        "volumes": draw_volumes(results.cases),
        "bland_altman": draw_bland_altman(results.cases),
        "sizes": draw_sizes(results.summary["sizes_mm3"]),
        "froc": draw_froc(results.froc),
        "calibration": draw_calibration(results.calibration),
    }


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
            values = np.sort(cases[short].dropna().to_numpy(dtype=float))
            shown = np.minimum(values, 1)
            # Neighbors lie at other heights, so that they do not cover one another.
            heights = row - 0.16 - np.arange(len(values)) * 2 % 5 * 0.07
            axes.plot(shown, heights, "o", **_dots(len(values), size=4))
            if beyond := int((values > 1).sum()):
                text = f"{beyond} above 1"
                axes.text(1.01, row + 0.3, text, ha="right", va="top")
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


def _dots(count: int, size: float = 6) -> dict[str, Any]:
    """Return the look of the dots of a chart with so many cases."""
    few = count <= _MANY
    return {
        "ms": size if few else 4,
        "mfc": _ACCENT,
        "mec": "none",
        "alpha": 0.7 if few else 0.4,
    }


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
            ends = [row["ci_low"], row["ci_high"]]
            axes.bar(place, row["value"], width=0.55, color=_ACCENT, alpha=0.25)
            axes.plot([place, place], ends, color=_ACCENT, lw=1.6)
            axes.plot(place, row["value"], "o", ms=6, color=_ACCENT)
            height = min(row["value"] + 0.03, 1.02)
            axes.text(place + 0.08, height, f"{row['count']} of {row['n']}")
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


def draw_volumes(cases: pd.DataFrame) -> Chart | None:
    """Draw predicted over reference volume of every case."""
    true, predicted = _volumes(cases)
    everything = np.concatenate([true, predicted])
    if not everything.any():
        return None
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        ends = set_scale(axes, everything, "xy")
        axes.plot(ends, ends, color=_MUTED, lw=0.9, dashes=(4, 3))
        axes.plot(true, predicted, "o", **_dots(len(true)))
        axes.set(
            xlim=ends,
            ylim=ends,
            xlabel="reference volume (ml)",
            ylabel="predicted volume (ml)",
        )
        axes.set_box_aspect(1)
        return Chart(
            name="volumes",
            title="Lesion volume of each case",
            alt=f"Predicted over reference lesion volume of {len(true)} cases, up to "
            f"{everything.max():.3g} ml. The predicted volume is larger in "
            f"{int((predicted > true).sum())} of them.",
            caption="Each dot is a case. On the dashed line both volumes are equal; "
            f"above it the prediction is larger.{describe_scale(everything, 'volume')}",
            **render(figure),
        )


def draw_bland_altman(cases: pd.DataFrame) -> Chart | None:
    """Draw the difference of the volumes of every case over their mean."""
    true, predicted = _volumes(cases)
    if not true.any() and not predicted.any():
        return None
    mean, difference = (true + predicted) / 2, predicted - true
    lines = limits_of_agreement(cases)
    limits = "limits of agreement need at least 3 cases"
    bias, low, high = (_signed(value) for value in lines.values())
    outside = ""
    if np.isfinite(lines["low"]):
        limits = f"limits of agreement {low} to {high} ml"
        beyond = (difference < lines["low"]) | (difference > lines["high"])
        order = cases.loc[beyond, "case"].iloc[np.argsort(-abs(difference[beyond]))]
        if named := ", ".join(order[:_NAMED]):
            more = f" and {len(order) - _NAMED} more" if len(order) > _NAMED else ""
            outside = f" Beyond them: {named}{more}."
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        ends = set_scale(axes, mean, "x")
        axes.axhline(0, color=_LINE, lw=0.9)
        axes.plot(mean, difference, "o", **_dots(len(mean)))
        for name, value in lines.items():
            if np.isfinite(value):
                is_bias = name == "bias"
                dashes: Any = () if is_bias else (4, 3)
                axes.axhline(value, color=_SECOND, lw=1, dashes=dashes)
                axes.annotate(
                    _signed(value),
                    (1, value),
                    xycoords=("axes fraction", "data"),
                    xytext=(4, 0),
                    textcoords="offset points",
                    va="center",
                    color=_SECOND,
                    fontsize=8.5,
                    weight="bold" if is_bias else "normal",
                )
        axes.set(
            xlim=ends,
            xlabel="mean of both volumes (ml)",
            ylabel="predicted minus reference (ml)",
        )
        axes.margins(y=0.12)
        dashed = " (dashed; mean plus and minus 1.96 SD)"
        return Chart(
            name="bland_altman",
            title="Agreement of volumes (Bland-Altman)",
            alt=f"Difference over mean of both volumes of {len(mean)} cases: mean "
            f"difference {bias} ml, {limits}.",
            caption=f"Mean difference {bias} ml (solid line), {limits}"
            f"{dashed if np.isfinite(lines['low']) else ''}.{outside} Above 0 the "
            f"prediction is larger.{describe_scale(mean, 'volume')}",
            **render(figure),
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
    reach = np.append(x.to_numpy(dtype=float), 1)
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        axes.plot(x, y, "o-", color=_ACCENT, ms=4, lw=1.4)
        half = shown[np.isclose(shown["threshold"], _MARKED)]
        for place in zip(
            half["false_lesions_per_scan"], half["sensitivity"], strict=True
        ):
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
            xlim=set_scale(axes, reach, "x"),
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
            f"{describe_scale(reach, 'rate of false lesions')}",
            **render(figure),
        )


def draw_calibration(table: pd.DataFrame | None) -> Chart | None:
    """Draw the observed share over the predicted probability.

    Args:
        table: ``calibration.csv``, None without probabilities.
    """
    if table is None or table.empty:
        return None
    looks: dict[str, tuple[str, dict[str, Any]]] = {
        "voxels": ("voxels: share that is lesion", {"color": _ACCENT}),
        "lesions": (
            "predicted lesions: share that is hit",
            {"color": _SECOND, "marker": "s", "ls": "--"},
        ),
    }
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        axes.axline((0, 0), slope=1, color=_MUTED, lw=0.9, dashes=(4, 3))
        for level, (label, look) in looks.items():
            rows = table[table["level"] == level]
            line = {"marker": "o", "ms": 5, "lw": 1.4, **look}
            axes.plot(rows["mean_probability"], rows["observed"], label=label, **line)
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
