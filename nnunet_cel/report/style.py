"""Colors, type and scales of charts and page, each defined once.

Charts are drawn in the light colors. On the page their colors become variables of the
page's style sheet, so that charts follow the reader into dark mode.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

__all__ = [
    "COLORS",
    "Chart",
    "chart_style",
    "describe_scale",
    "formatter",
    "inline_svg",
    "new_figure",
    "render",
    "set_scale",
]

Array = npt.NDArray[Any]

COLORS = {
    "ink": ("#1d2733", "#e4e8ed"),
    "muted": ("#5b6672", "#a0aab5"),
    "line": ("#d9dee4", "#39424d"),
    "paper": ("#ffffff", "#161b21"),
    "band": ("#f4f6f8", "#1e252d"),
    "accent": ("#1c5d99", "#7db7ee"),
    "second": ("#a8480f", "#f0a06a"),
}
"""Name of each color of charts and page: its light and its dark value."""

_LIGHT = {name: light for name, (light, _) in COLORS.items()}
_PNG_DPI = 200
_SKEWED = 20  # largest over median value from which on axes are logarithmic
_DASH, _MINUS = "\u2013", "\u2212"
_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": _LIGHT["muted"],
    "axes.edgecolor": _LIGHT["line"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": _LIGHT["line"],
    "grid.linewidth": 0.6,
    "xtick.color": _LIGHT["line"],
    "ytick.color": _LIGHT["line"],
    "xtick.labelcolor": _LIGHT["muted"],
    "ytick.labelcolor": _LIGHT["muted"],
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": _LIGHT["ink"],
    "text.parse_math": False,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": _LIGHT["paper"],
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "nnunet-cel",
}


@dataclass(frozen=True)
class Chart:
    """A chart, ready for the page and for its files.

    Args:
        name: Name of its files, without ending.
        title: What stands above it.
        alt: What it shows, for those who cannot see it.
        caption: What one has to know to read it.
        svg: Content of its SVG file.
        png: Content of its PNG file.
    """

    name: str
    title: str
    alt: str
    caption: str
    svg: str
    png: bytes


@contextmanager
def chart_style() -> Iterator[None]:
    """Let matplotlib draw in the style of the charts until the block ends."""
    with mpl.rc_context(_SETTINGS):
        yield


def new_figure(*, width: float = 4.6, height: float = 3.4) -> Figure:
    """Return an empty figure of a size in inches; not of pyplot, which wants a screen.

    All charts have one width, so that their type has one size on the page.
    """
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def render(figure: Figure) -> dict[str, Any]:
    """Return ``svg`` and ``png`` of a figure, with no date and no program's name."""
    svg, png = io.BytesIO(), io.BytesIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(svg, format="svg", metadata=metadata)
    figure.savefig(png, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    text = svg.getvalue().decode()
    # The page's own font is on every machine, matplotlib's is not.
    text = re.sub(r"'DejaVu Sans'", "system-ui, 'DejaVu Sans'", text)
    return {"svg": text, "png": png.getvalue()}


def inline_svg(name: str, svg: str) -> str:
    """Return an SVG of :func:`render` as an element of the page.

    Args:
        name: Goes in front of all ids, which must be unique on a page.
        svg: Content of the SVG file.
    """
    start, end = svg.index("<svg "), svg.index(">", svg.index("<svg "))
    box = re.search(r'viewBox="[^"]*"', svg[start:end])
    if box is None:
        raise ValueError(f"The drawing {name} must have a viewBox. It has none.")
    # Matplotlib's style sheet would apply to the whole page.
    body = re.sub(r"<style.*?</style>", "", svg[end:], count=1, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for color, value in _LIGHT.items():
        body = body.replace(value, f"var(--{color})")
    return f'<svg {box[0]} stroke-linejoin="round" aria-hidden="true"{body.rstrip()}'


def formatter(pattern: str) -> Callable[[float | None], str]:
    """Return a function that formats numbers, and None and NaN as a dash."""

    def apply(value: float | None) -> str:
        if value is None or math.isnan(value):
            return _DASH
        used = pattern if value else pattern.lstrip("+")  # zero has no sign
        return format(value, used).replace("-", _MINUS)

    return apply


def set_scale(axes: Axes, values: Array, names: str) -> tuple[float, float]:
    """Scale axes to values from 0 on, and return their lower and upper end.

    A scale is linear where the largest value is near the others; where it is not, it is
    logarithmic above the smallest positive value.

    Args:
        axes: What is drawn on.
        values: All values, none negative, at least one positive.
        names: The axes to scale, ``x``, ``y`` or ``xy``.
    """
    top = float(values.max())
    if not _is_skewed(values):
        return -top * 0.03, top * 1.06
    smallest = float(values[values > 0].min())
    exponents = range(math.ceil(math.log10(smallest)), math.floor(math.log10(top)) + 1)
    for name in names:
        getattr(axes, f"set_{name}scale")("symlog", linthresh=smallest, linscale=0.5)
        axis = getattr(axes, f"{name}axis")
        axis.set_ticks([0.0, *(10.0**exponent for exponent in exponents)])
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    return -smallest * 0.15, top * 1.4


def describe_scale(values: Array, what: str) -> str:
    """Return a sentence on the scale of values, empty if it is linear."""
    if not _is_skewed(values):
        return ""
    return f" The scale is logarithmic above the smallest {what}."


def _is_skewed(values: Array) -> bool:
    """Return whether values differ too much for a linear axis."""
    positive = values[values > 0]
    return len(positive) > 0 and bool(values.max() > _SKEWED * np.median(positive))
