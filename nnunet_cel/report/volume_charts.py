"""Draws predicted against reference volumes.

Bland-Altman plot: Bland and Altman 1986, Lancet 327:307-310.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from nnunet_cel.report.rendering import formatter
from nnunet_cel.report.scales import describe_scale, set_scale
from nnunet_cel.report.style import COLORS, Chart, chart_style, new_figure, render

__all__ = ["draw_bland_altman", "draw_volumes", "limits_of_agreement"]

Array = npt.NDArray[Any]

_MUTED, _LINE, _ACCENT, _SECOND = (
    COLORS[name][0] for name in ("muted", "line", "accent", "second")
)
_signed = formatter("+.3g")
_NAMED = 4  # cases outside the limits of agreement that are named
_NAME_LENGTH = 18


def draw_volumes(cases: pd.DataFrame) -> Chart | None:
    """Draw predicted over reference volume of every case."""
    true, predicted = _volumes(cases)
    if not len(true) or not max(true.max(), predicted.max()) > 0:
        return None
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        everything = np.concatenate([true, predicted])
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
    if not len(true) or not max(true.max(), predicted.max()) > 0:
        return None
    mean, difference = (true + predicted) / 2, predicted - true
    lines = limits_of_agreement(cases)
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        ends = set_scale(axes, mean, "x")
        axes.axhline(0, color=_LINE, lw=0.9)
        for name, dashes in (("bias", ()), ("low", (4, 3)), ("high", (4, 3))):
            if np.isfinite(lines[name]):
                axes.axhline(lines[name], color=_SECOND, lw=1, dashes=dashes)
        axes.plot(mean, difference, "o", **_dots(len(mean)))
        axes.set(
            xlim=ends,
            xlabel="mean of both volumes (ml)",
            ylabel="predicted minus reference (ml)",
        )
        axes.margins(y=0.12)
        _name_lines(axes, lines)
        _name_outside(axes, cases["case"].tolist(), mean, difference, lines)
        known = np.isfinite(lines["low"])
        bias, low, high = (_signed(lines[name]) for name in ("bias", "low", "high"))
        limits = "limits of agreement need at least 3 cases"
        if known:
            limits = f"limits of agreement {low} to {high} ml"
        return Chart(
            name="bland_altman",
            title="Agreement of volumes (Bland-Altman)",
            alt=f"Difference over mean of both volumes of {len(mean)} cases: mean "
            f"difference {bias} ml, {limits}.",
            caption=f"Mean difference {bias} ml (solid line), {limits}"
            f"{' (dashed; mean plus and minus 1.96 SD)' if known else ''}. Above 0 "
            f"the prediction is larger.{describe_scale(mean, 'volume')}",
            **render(figure),
        )


def limits_of_agreement(cases: pd.DataFrame) -> dict[str, float]:
    """Return `bias`, `low` and `high`: mean difference in ml and mean -+ 1.96 SD.

    The difference is predicted minus reference volume. Limits are NaN below 3 cases.
    """
    true, predicted = _volumes(cases)
    difference = predicted - true
    bias = float(difference.mean()) if len(difference) else np.nan
    spread = 1.96 * float(difference.std(ddof=1)) if len(difference) > 2 else np.nan
    return {"bias": bias, "low": bias - spread, "high": bias + spread}


def _volumes(cases: pd.DataFrame) -> tuple[Array, Array]:
    """Return reference and predicted volume in ml of all cases."""
    return (
        cases["reference_ml"].to_numpy(dtype=float),
        cases["predicted_ml"].to_numpy(dtype=float),
    )


def _dots(count: int) -> dict[str, Any]:
    """Return the look of the dots of a scatter plot."""
    return {
        "ms": 6 if count <= 60 else 4,
        "mfc": _ACCENT,
        "mec": "none",
        "alpha": 0.75 if count <= 60 else 0.45,
    }


def _name_outside(
    axes: Axes,
    names: Sequence[str],
    mean: Array,
    difference: Array,
    lines: Mapping[str, float],
) -> None:
    """Write the names of cases outside the limits of agreement beside their dots."""
    outside = np.flatnonzero((difference < lines["low"]) | (difference > lines["high"]))
    for i in _apart(difference, outside):
        axes.annotate(
            _short_name(names[i]),
            (mean[i], difference[i]),
            xytext=(-5, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=_MUTED,
            fontsize=8,
            bbox={"facecolor": COLORS["paper"][0], "edgecolor": "none", "pad": 1},
        )


def _apart(heights: Array, chosen: Array) -> list[int]:
    """Return the outermost of the chosen dots whose names do not cover one another."""
    least = 0.06 * float(np.ptp(heights))
    apart: list[int] = []
    for i in sorted(chosen.tolist(), key=lambda i: -abs(heights[i])):
        if all(abs(heights[i] - heights[other]) > least for other in apart):
            apart.append(i)
    return apart[:_NAMED]


def _name_lines(axes: Axes, lines: Mapping[str, float]) -> None:
    """Write the values of bias and limits at the right of their lines."""
    for name, value in lines.items():
        if np.isfinite(value):
            axes.annotate(
                _signed(value),
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=_SECOND,
                fontsize=8.5,
                weight="bold" if name == "bias" else "normal",
            )


def _short_name(name: str) -> str:
    """Return the name of a case as far as it fits and the font has its letters."""
    text = name.encode("latin-1", "replace").decode("latin-1")
    return text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 2]}.."
