"""The look of all charts, and how numbers are written."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_cel.files import write_whole

__all__ = [
    "ACCENT",
    "INK",
    "SECOND",
    "Chart",
    "chart_style",
    "fit_scale",
    "formatter",
    "new_axes",
    "render",
]

Array = npt.NDArray[Any]

INK, ACCENT, SECOND = "#1d2733", "#1c5d99", "#a8480f"
"""Colors of text, of what a chart shows first, and of what it shows second."""

_DASH, _MINUS = "\u2013", "\u2212"
_SKEWED = 20  # largest over median value from which on axes are logarithmic
_STYLE: list[str | dict[str, Any]] = [
    "seaborn-v0_8-whitegrid",
    {
        "figure.constrained_layout.use": True,
        # On the page the first one that the reader has; the chart is laid out for it.
        "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
        "font.size": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "lines.markersize": 5,
        "svg.fonttype": "none",
        "svg.hashsalt": "nnunet-cel",
    },
]


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


@contextmanager
def chart_style() -> Iterator[None]:
    """Let matplotlib draw in the style of the charts; a decorator, too."""
    with matplotlib.style.context(_STYLE):
        yield


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
            return _DASH
        used = pattern if value else pattern.lstrip("+")  # zero has no sign
        return format(value, used).replace("-", _MINUS)

    return apply


def fit_scale(axes: Axes, values: Array, names: str, what: str) -> str:
    """Make axes logarithmic if the largest value is far above the others.

    Below the smallest positive value they stay linear, so that 0 is shown.

    Args:
        axes: What is drawn on.
        values: All values, none negative.
        names: The axes to scale, ``x``, ``y`` or ``xy``.
        what: What the values are.

    Returns:
        What the caption says of the scale, empty if it is linear.
    """
    positive = values[values > 0]
    if not len(positive) or values.max() <= _SKEWED * np.median(positive):
        return ""
    for name in names:
        getattr(axes, f"set_{name}scale")("symlog", linthresh=positive.min())
        getattr(axes, f"{name}axis").set_major_formatter("{x:g}")
    return f" The scale is logarithmic above the smallest {what}."
