"""Tests of the charts of metrics and sizes."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.report.charts import draw_metrics, draw_sizes
from nnunet_cel.report.paper import PAPER_METRICS

NOTHING = {"mean": None, "ci_low": None, "ci_high": None}


def share(count: int, n: int) -> dict[str, Any]:
    """Return a share as it stands in ``summary.json``."""
    value = count / n if n else None
    low, high = (0.1, 0.9) if n else (None, None)
    return {
        "sensitivity": {
            "value": value,
            "count": count,
            "n": n,
            "ci_low": low,
            "ci_high": high,
        }
    }


def texts(svg: str) -> list[str]:
    """Return the texts of a chart."""
    return [text for text in ElementTree.fromstring(svg).itertext() if text.strip()]


def test_metrics_beyond_the_axis_are_counted() -> None:
    """Cases with a VD above 1 are drawn at 1, and how many there are is written."""
    cases = pd.DataFrame({name: [0.5, 0.5, 0.5, np.nan] for name in PAPER_METRICS})
    cases["VD"] = [0.5, 3.0, 1.5, np.nan]
    values = {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    metrics = {name: values for name in PAPER_METRICS}

    chart = draw_metrics(cases, metrics | {"DSC": NOTHING})

    assert chart is not None
    assert "2 above 1" in texts(chart.svg)
    assert "no value" in texts(chart.svg)
    assert "VD 0.500, in the paper 0.388" in chart.alt


def test_no_metrics_no_chart() -> None:
    """Where no metric has a value there is nothing to draw."""
    cases = pd.DataFrame({name: [np.nan] for name in PAPER_METRICS})

    assert draw_metrics(cases, dict.fromkeys(PAPER_METRICS, NOTHING)) is None


def test_sizes_are_named_with_their_counts() -> None:
    """Every size says how many lesions are behind it."""
    chart = draw_sizes(
        {"<10": share(0, 0), "10 to 70": share(1, 3), ">70": share(2, 2)}
    )

    assert chart is not None
    assert {"none", "1 of 3", "2 of 2"} <= set(texts(chart.svg))
    assert "10 to 70: 1 of 3" in chart.alt


def test_no_lesions_no_sizes() -> None:
    """Where the references hold no lesion there is no sensitivity."""
    assert draw_sizes({"<10": share(0, 0), ">10": share(0, 0)}) is None
