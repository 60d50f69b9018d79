"""Tests of the style of charts, and of bringing them into a page."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest

from nnunet_cel.report.style import (
    COLORS,
    chart_style,
    inline_svg,
    new_figure,
    render,
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
