"""How templates write what they get, and what a protocol counts, in words."""

from __future__ import annotations

import math
from typing import Any

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


@pytest.mark.parametrize(
    ("name", "changes", "texts"),
    [
        (
            "paper",
            {},
            [
                "Protocol paper, version 1: Huang et al.",
                "share a face, an edge or a corner",
                "fewer than 3 voxels do not count",
                "shares at least one voxel",
                "neither hit nor false",
                "10000 samples",
            ],
        ),
        (
            "anima",
            {},
            [
                "that share a face.",
                "at most 3 mm\u00b3",
                "more than 10 % of it",
                "65 % of the overlap",
                "at most 70 % of their own volume outside",
                "such a reference lesion is false",
            ],
        ),
        ("paper", {"connectivity": 18}, ["share a face or an edge"]),
        ("paper", {"min_voxels": 1, "above_mm3": 0}, ["No lesion is too small"]),
        ("paper", {"above_mm3": 10}, ["fewer than 3 voxels or at most 10 mm"]),
        (
            "paper",
            {"overlap": {"rule": "fraction", "fraction": 0.5}},
            ["at least 50 % of it"],
        ),
        ("paper", {"ignore": 2}, ["have the value 2 in the reference are left out"]),
    ],
)
def test_every_rule_is_said(
    name: str, changes: dict[str, Any], texts: list[str]
) -> None:
    """Connectivity, smallest lesion, overlap and what is ignored are in the words."""
    words = describe(name, **changes)

    assert all(text in words for text in texts)
    assert ("left out of everything" in words) == ("ignore" in changes)


def test_p_values_are_never_zero() -> None:
    """Below what three digits can say a p value is smaller than, not equal to."""
    template = environment().from_string("{{ p|probability }}")

    texts = [template.render(p=p) for p in (1e-9, 0.0005, 0.0312, 1.0, math.nan, None)]
    assert texts == ["&lt; 0.001", "0.001", "0.031", "1.000", "\u2013", "\u2013"]


def test_texts_are_escaped() -> None:
    """Names that contain HTML are shown as text."""
    probe = environment().from_string("{{ text }}")

    assert probe.render(text="<script>'\"&") == "&lt;script&gt;&#39;&#34;&amp;"
