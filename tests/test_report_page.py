"""How templates write what they get, and what a protocol counts, in words."""

from __future__ import annotations

import math
from typing import Any

import jinja2
import pytest

from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.report.page import describe_protocol, environment


def describe(name: str = "paper", ignore: int | None = None, **changes: Any) -> str:
    """Return the description of a protocol with other rules."""
    return " ".join(
        describe_protocol(
            {
                "protocol": load_protocol(name).to_dict() | changes,
                "label": 1,
                "ignore_label": ignore,
                "bootstrap": {"resamples": 10_000},
            }
        )
    )


def test_the_protocol_of_the_paper() -> None:
    """Connectivity, smallest lesion, overlap and what is ignored are all said."""
    text = describe()

    assert "Protocol paper, version 1: Huang et al." in text
    assert "share a face, an edge or a corner" in text
    assert "fewer than 3 voxels do not count" in text
    assert "shares at least one voxel" in text
    assert "neither hit nor false" in text
    assert "10000 samples" in text
    assert "left out of everything" not in text


def test_the_protocol_of_anima() -> None:
    """Its fractions are said in percent."""
    text = describe("anima")

    assert "that share a face." in text
    assert "at most 3 mm\u00b3" in text
    assert "more than 10 % of it" in text
    assert "65 % of the overlap" in text
    assert "at most 70 % of their own volume outside" in text
    assert "such a reference lesion is false" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"connectivity": 18}, "share a face or an edge"),
        ({"min_voxels": 1, "above_mm3": 0}, "No lesion is too small"),
        ({"min_voxels": 4, "above_mm3": 10}, "fewer than 4 voxels or at most 10 mm"),
        ({"overlap": {"rule": "fraction", "fraction": 0.5}}, "at least 50 % of it"),
        ({"ignore": 2}, "have the value 2 in the reference are left out"),
    ],
)
def test_other_rules_have_other_words(changes: dict[str, Any], text: str) -> None:
    """Every rule that a protocol can have is said."""
    assert text in describe(**changes)


def test_p_values_are_never_zero() -> None:
    """Below what three digits can say a p value is smaller than, not equal to."""
    template = environment().from_string("{{ p|probability }}")

    texts = [template.render(p=p) for p in (1e-9, 0.0005, 0.0312, 1.0, math.nan, None)]
    assert texts == ["&lt; 0.001", "0.001", "0.031", "1.000", "\u2013", "\u2013"]


def test_texts_are_escaped() -> None:
    """Names that contain HTML are shown as text."""
    probe = environment().from_string("{{ text }}")

    assert probe.render(text="<script>'\"&") == "&lt;script&gt;&#39;&#34;&amp;"


def test_forgotten_values_are_errors() -> None:
    """A template that names what it does not get fails, rather than leave a gap."""
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        environment().from_string("{{ missing }}").render()
