"""Scales of axes on which values from 0 to many times the usual one can be told apart.

A scale is linear from 0 where the largest value is near the others, and logarithmic
above the smallest positive value where it is not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

__all__ = ["describe_scale", "set_scale"]

Array = npt.NDArray[Any]

_SKEWED = 20  # largest over median value from which on axes are logarithmic


def set_scale(axes: Axes, values: Array, names: str) -> tuple[float, float]:
    """Scale axes to values from 0 on, and return their lower and upper end.

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
