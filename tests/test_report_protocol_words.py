"""Tests of saying in words what a protocol counts."""

from __future__ import annotations

from typing import Any

import pytest

from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.report.protocol_words import describe_protocol


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
