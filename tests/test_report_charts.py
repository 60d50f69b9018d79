"""What charts say of the numbers they draw."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnunet_cel.report.charts import (
    draw_bland_altman,
    draw_calibration,
    draw_froc,
    draw_metrics,
    draw_sizes,
    draw_volumes,
    formatter,
)
from nnunet_cel.report.paper import PAPER_METRICS

NOTHING = {"mean": None, "ci_low": None, "ci_high": None}


def share(count: int, n: int) -> dict[str, Any]:
    """Return a share as it stands in ``summary.json``."""
    known = {"value": count / n, "ci_low": 0.0, "ci_high": 1.0} if n else {}
    nothing = {"value": None, "ci_low": None, "ci_high": None}
    return {"sensitivity": {"count": count, "n": n, **nothing, **known}}


def texts(svg: str) -> list[str]:
    """Return the texts of a chart."""
    return [text for text in ElementTree.fromstring(svg).itertext() if text.strip()]


def test_metrics_beyond_the_axis_are_counted() -> None:
    """Cases with a VD above 1 are drawn at 1, and how many there are is written."""
    cases = pd.DataFrame({name: [0.5, 0.5, 0.5, np.nan] for name in PAPER_METRICS})
    cases["VD"] = [0.5, 3.0, 1.5, np.nan]
    cases["DSC"] = np.nan
    values = {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    metrics = {name: values for name in PAPER_METRICS} | {"DSC": NOTHING}

    chart = draw_metrics(cases, metrics)

    assert chart is not None
    assert {"2 above 1", "no value"} <= set(texts(chart.svg))
    assert "VD 0.500, in the paper 0.388" in chart.alt
    assert draw_metrics(cases, dict.fromkeys(PAPER_METRICS, NOTHING)) is None


def test_sizes_are_named_with_their_counts() -> None:
    """Every size says how many lesions are behind it; without any there is no chart."""
    chart = draw_sizes(
        {"<10": share(0, 0), "10 to 70": share(1, 3), ">70": share(2, 2)}
    )

    assert chart is not None
    assert {"0 of 0", "1 of 3", "2 of 2"} <= set(texts(chart.svg))
    assert "10 to 70: 1 of 3" in chart.alt
    assert draw_sizes({"<10": share(0, 0), ">10": share(0, 0)}) is None


def table(true: list[float], predicted: list[float]) -> pd.DataFrame:
    """Return a table of cases with volumes."""
    return pd.DataFrame(
        {
            "case": [f"<b>case{i}</b>" for i in range(len(true))],
            "reference_ml": true,
            "predicted_ml": predicted,
        }
    )


def test_limits_of_agreement_by_hand() -> None:
    """Differences 1, 2, 3 have the mean 2, the SD 1 and limits 1.96 away."""
    chart = draw_bland_altman(table([1, 1, 1], [2, 3, 4]))
    two = draw_bland_altman(table([1, 1], [2, 4]))

    assert chart is not None
    assert {" +2", " +0.04", " +3.96"} <= set(texts(chart.svg))
    assert two is not None
    assert "Mean difference +2 ml" in two.caption
    assert "at least 3 cases" in two.caption


def test_cases_outside_the_limits_are_named() -> None:
    """They are the ones to look at."""
    chart = draw_bland_altman(table([1.0] * 12, [1.01, 0.99] * 5 + [1.0, 9.0]))

    assert chart is not None
    assert "Beyond them: <b>case11</b>. Above 0" in chart.caption


def test_skewed_volumes_have_logarithmic_axes() -> None:
    """Volumes over several orders of magnitude, and 0, are told apart."""
    true = [0.0, *np.geomspace(0.01, 100, 20)]

    skewed, even = draw_volumes(table(true, true)), draw_volumes(table([1, 2], [2, 1]))

    assert skewed is not None
    assert "logarithmic" in skewed.caption
    assert {"0", "0.01", "100"} <= set(texts(skewed.svg))
    assert even is not None
    assert "logarithmic" not in even.caption
    for draw in (draw_volumes, draw_bland_altman):
        assert draw(table([0, 0], [0, 0])) is None
        assert draw(table([0.5], [0])) is not None


def test_flooded_thresholds_are_not_drawn() -> None:
    """Only thresholds whose predictions hold at most ten times the volume count."""
    curve = pd.DataFrame(
        {
            "threshold": [0.25, 0.5, 0.75],
            "sensitivity": [0.9, 0.7, 0.5],
            "false_lesions_per_scan": [4.0, 3, 2],
            "volume_ratio": [50.0, 1, 0.5],
        }
    )

    chart = draw_froc(curve)

    assert chart is not None
    assert "from 0.50 to 0.70" in chart.alt
    assert "threshold 0.5" in texts(chart.svg)
    assert draw_froc(curve.assign(volume_ratio=math.nan)) is None
    assert draw_froc(None) is None


def test_calibration_names_its_levels() -> None:
    """Voxels and lesions have lines of their own, and the numbers stand in the text."""
    table = pd.DataFrame(
        {
            "level": ["voxels", "lesions"],
            "mean_probability": [0.25, 0.75],
            "observed": [0.125, 1.0],
        }
    )

    chart = draw_calibration(table)

    assert chart is not None
    assert "voxels 0.25: 0.12; lesions 0.75: 1.00" in chart.alt
    assert "voxels: share that is lesion" in texts(chart.svg)
    assert draw_calibration(None) is None
    assert draw_calibration(table.iloc[:0]) is None


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
