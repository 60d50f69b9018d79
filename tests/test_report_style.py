"""Scales and numbers of charts, and the colors of the page."""

from __future__ import annotations

import importlib.resources
import itertools
import math
import re

import numpy as np
import pytest

from nnunet_cel.report.style import (
    Chart,
    chart_style,
    fit_scale,
    formatter,
    new_axes,
    render,
)


@chart_style()
def draw() -> Chart:
    """Draw a line with a text at it."""
    axes = new_axes()
    axes.plot([0, 1], [0, 1])
    axes.annotate("text", (0.5, 0.5))
    return render(axes, "chart")


def luminance(color: str) -> float:
    """Return the relative luminance of WCAG 2."""
    channels = [value / 255 for value in bytes.fromhex(color)]
    red, green, blue = (
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_has_contrast(mode: int) -> None:
    """Every color of text has a contrast of 4.5 on every background (WCAG 2 AA)."""
    style = importlib.resources.files("nnunet_cel.report") / "templates" / "report.css"
    for text, ground in itertools.product(
        ("ink", "muted", "accent"), ("paper", "band")
    ):
        bright, dim = sorted(
            (
                luminance(re.findall(rf"--{name}: #(\w+);", style.read_text())[mode])
                for name in (text, ground)
            ),
            reverse=True,
        )
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (text, ground)


def test_charts_are_the_same_bytes_twice() -> None:
    """Nothing of a chart depends on time or chance."""
    assert draw() == draw()


def test_scales_follow_the_values() -> None:
    """Values of several magnitudes make an axis logarithmic, others do not."""
    axes, skewed = new_axes(), np.array([0, 0.02, 0.3, 0.5, 60])

    assert fit_scale(axes, np.array([0.0, 1, 2, 4]), "xy", "volume") == ""
    assert fit_scale(axes, np.zeros(3), "xy", "volume") == ""
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert "above the smallest volume" in fit_scale(axes, skewed, "x", "volume")
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "linear")


@pytest.mark.parametrize(
    ("pattern", "value", "text"),
    [
        (".3f", 0.12345, "0.123"),
        (".3f", -1.0, "\u22121.000"),
        (".3f", None, "\u2013"),
        (".3f", math.nan, "\u2013"),
        ("+.3g", 0.5, "+0.5"),
        ("+.3g", 0.0, "0"),
    ],
)
def test_numbers_are_written_for_readers(
    pattern: str, value: float | None, text: str
) -> None:
    """Minus is a minus sign, no value a dash, and zero has no sign."""
    assert formatter(pattern)(value) == text
