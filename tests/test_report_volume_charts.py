"""Tests of the charts of volumes."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from nnunet_cel.report.volume_charts import (
    draw_bland_altman,
    draw_volumes,
    limits_of_agreement,
)


def table(true: list[float], predicted: list[float]) -> pd.DataFrame:
    """Return a table of cases with volumes."""
    return pd.DataFrame(
        {
            "case": [f"<b>case{i}</b>" for i in range(len(true))],
            "reference_ml": true,
            "predicted_ml": predicted,
        }
    )


def texts(svg: str) -> str:
    """Return all text of a chart."""
    return "|".join(ElementTree.fromstring(svg).itertext())


def test_limits_of_agreement_by_hand() -> None:
    """Differences 1, 2, 3 have the mean 2, the SD 1 and limits 1.96 away."""
    limits = limits_of_agreement(table([1, 1, 1], [2, 3, 4]))

    assert limits == pytest.approx({"bias": 2, "low": 0.04, "high": 3.96})


def test_two_cases_have_no_limits() -> None:
    """With fewer than three cases there is a mean difference and nothing else."""
    limits = limits_of_agreement(table([1, 1], [2, 4]))
    chart = draw_bland_altman(table([1, 1], [2, 4]))

    assert limits["bias"] == 2
    assert math.isnan(limits["low"])
    assert math.isnan(limits["high"])
    assert chart is not None
    assert "at least 3 cases" in chart.caption


def test_cases_outside_the_limits_are_named() -> None:
    """A case far off is named in the chart; its name stays text."""
    true = [1.0] * 12
    chart = draw_bland_altman(table(true, [1.01, 0.99] * 5 + [1.0, 9.0]))

    assert chart is not None
    assert "<b>case11</b>" in texts(chart.svg)
    assert "case3" not in texts(chart.svg)
    assert "<b>" not in chart.svg


def test_names_in_any_alphabet_can_be_drawn() -> None:
    """Letters that the font lacks become question marks, not an error."""
    cases = table([1.0] * 12, [1.01, 0.99] * 5 + [1.0, 9.0])
    cases["case"] = "患者" * 20

    chart = draw_bland_altman(cases)

    assert chart is not None
    assert "????" in texts(chart.svg)


def test_skewed_volumes_have_logarithmic_axes() -> None:
    """Volumes over several orders of magnitude, and 0, are told apart."""
    true = [0.0, *np.geomspace(0.01, 100, 20)]

    skewed, even = draw_volumes(table(true, true)), draw_volumes(table([1, 2], [2, 1]))

    assert skewed is not None
    assert "logarithmic" in skewed.caption
    assert {"0", "0.01", "100"} <= set(texts(skewed.svg).split("|"))
    assert even is not None
    assert "logarithmic" not in even.caption


def test_no_volume_no_chart() -> None:
    """Without a lesion voxel there is nothing to draw."""
    for draw in (draw_volumes, draw_bland_altman):
        assert draw(table([0, 0], [0, 0])) is None
        assert draw(table([], [])) is None
        assert draw(table([0.5], [0])) is not None
