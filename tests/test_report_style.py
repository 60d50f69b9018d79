"""Colors, scales and numbers of charts, and bringing charts into a page."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from nnunet_cel.report.style import (
    COLORS,
    chart_style,
    describe_scale,
    formatter,
    inline_svg,
    new_figure,
    render,
    set_scale,
)


def draw(text: str) -> dict[str, object]:
    """Draw a line with a text at it."""
    with chart_style():
        figure = new_figure()
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1])
        axes.annotate(text, (0.5, 0.5))
        return render(figure)


def luminance(color: str) -> float:
    """Return the relative luminance of WCAG 2."""
    channels = [value / 255 for value in bytes.fromhex(color[1:])]
    red, green, blue = (
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_has_contrast(mode: int) -> None:
    """Every color of text has a contrast of 4.5 on every background (WCAG 2 AA)."""
    for text, ground in itertools.product(
        ("ink", "muted", "accent", "second"), ("paper", "band")
    ):
        bright, dim = sorted(
            (luminance(COLORS[name][mode]) for name in (text, ground)), reverse=True
        )
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (text, ground)


def test_charts_are_the_same_bytes_twice() -> None:
    """Nothing of a chart depends on time or chance."""
    assert draw("a") == draw("a")


def test_text_in_charts_is_text() -> None:
    """Tags and formulas in a name stay text, in the file and on the page."""
    name = "<script>alert(1)</script> $x^2$"
    svg = str(draw(name)["svg"])

    assert "<script" not in svg + inline_svg("chart", svg)
    assert name in "".join(ElementTree.fromstring(svg).itertext())


def test_charts_follow_the_colors_of_the_page() -> None:
    """On the page no color of a chart is fixed, and none of its styles leaks out."""
    inline = inline_svg("chart", str(draw("a")["svg"]))

    assert "<style" not in inline
    assert "var(--ink)" in inline
    assert set(re.findall(r"#[0-9a-f]{6}", inline)) <= {
        "#1f77b4"
    }  # of this test's line


def test_ids_of_charts_do_not_meet() -> None:
    """Two charts on a page share no id, and refer to their own."""
    svg = str(draw("a")["svg"])
    first, second = (inline_svg(name, svg) for name in ("one", "two"))

    def ids(text: str) -> set[str]:
        return set(re.findall(r'\bid="([^"]*)"', text))

    assert ids(first)
    assert not ids(first) & ids(second)
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]*)', first)) <= ids(first)


def test_values_near_each_other_are_on_a_linear_axis() -> None:
    """The axis goes from just below 0 to just above the largest value."""
    axes, values = new_figure().add_subplot(), np.array([0.0, 1, 2, 4])

    assert set_scale(axes, values, "xy") == pytest.approx((-0.12, 4.24))
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert describe_scale(values, "volume") == ""


def test_values_of_several_magnitudes_are_on_a_logarithmic_axis() -> None:
    """Powers of ten are marked, 0 too, and only the named axis changes."""
    axes, values = new_figure().add_subplot(), np.array([0, 0.02, 0.3, 0.5, 60])

    low, high = set_scale(axes, values, "x")

    assert -0.02 < low < 0
    assert high > 60
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "linear")
    assert axes.get_xticks().tolist() == [0, 0.1, 1, 10]
    assert "above the smallest volume" in describe_scale(values, "volume")


def test_nothing_but_zero_is_linear() -> None:
    """Where no value is positive there is no magnitude to tell apart."""
    assert describe_scale(np.zeros(3), "volume") == ""


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
