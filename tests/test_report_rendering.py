"""Tests of the templates' environment."""

from __future__ import annotations

import math

import jinja2
import pytest

from nnunet_cel.report.rendering import environment, formatter


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


def test_p_values_are_never_zero() -> None:
    """Below what three digits can say a p value is smaller than, not equal to."""
    template = environment().from_string("{{ p|probability }}")

    texts = [template.render(p=p) for p in (1e-9, 0.0005, 0.0312, 1.0, math.nan, None)]
    assert texts == ["&lt; 0.001", "0.001", "0.031", "1.000", "\u2013", "\u2013"]


@pytest.mark.parametrize(
    "name", ["report.html", "lesion.html", "lesion.svg", "report.css"]
)
def test_every_template_escapes(name: str) -> None:
    """No ending of a template switches escaping off, as it would by default."""
    templates = environment()
    probe = templates.from_string("{{ text }}")

    assert templates.get_template(name).environment.autoescape is True
    assert probe.render(text="<script>'\"&") == "&lt;script&gt;&#39;&#34;&amp;"


def test_forgotten_values_are_errors() -> None:
    """A template that names what it does not get fails, rather than leave a gap."""
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        environment().from_string("{{ missing }}").render()
