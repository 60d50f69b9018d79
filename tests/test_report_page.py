"""How templates write what they get, and what a protocol counts, in words."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.report.page import describe_protocol, environment


@pytest.mark.parametrize(
    ("name", "changes", "texts"),
    [
        (
            "paper",
            {"ignore_label": 2},
            [
                "Protocol paper, version 1: Huang et al.",
                "share a face, an edge or a corner",
                "from 3 voxels on and above 0 mm",
                "shares at least one voxel",
                "neither hit nor false",
                "have the value 2 in the reference are left out",
            ],
        ),
        (
            "anima",
            {},
            [
                "that share a face.",
                "from 1 voxels on and above 3 mm3",
                "more than 0.1 of it",
                "0.65 of the overlap",
                "at most 0.7 of their own volume outside",
                "does not count is false",
            ],
        ),
        ("paper", {"connectivity": 18}, ["share a face or an edge."]),
        (
            "paper",
            {"overlap": {"rule": "fraction", "fraction": 0.5}},
            ["at least 0.5 of it"],
        ),
    ],
)
def test_every_rule_is_said(
    name: str, changes: dict[str, Any], texts: list[str]
) -> None:
    """Connectivity, smallest lesion, overlap and what is ignored are in the words."""
    ignored = changes.pop("ignore_label", None)
    protocol = load_protocol(name).to_dict() | changes
    summary = {"protocol": protocol, "label": 1, "ignore_label": ignored}

    words = " ".join(describe_protocol(summary))

    assert [text for text in texts if text not in words] == []
    assert ("left out of everything" in words) == (ignored is not None)


def test_p_values_are_never_zero() -> None:
    """Below what three digits can say a p value is smaller than, not equal to."""
    template = environment().from_string("{{ p|probability }}")

    texts = [template.render(p=p) for p in (1e-9, 0.0005, 0.0312, 1.0, math.nan, None)]
    assert texts == ["&lt; 0.001", "0.001", "0.031", "1.000", "\u2013", "\u2013"]
