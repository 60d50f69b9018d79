"""Tests of the summary over cases."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from nnunet_cel.evaluation.summary import (
    bootstrap_interval,
    summarize_scans,
    summarize_sizes,
    summarize_values,
)


def test_values_by_hand() -> None:
    """SD has one degree of freedom less, and NaN are left out."""
    row = summarize_values(np.array([math.nan, 1.0, 2.0, math.nan, 6.0]))

    assert (row["n"], row["mean"], row["median"]) == (3, 3, 2)
    assert row["sd"] == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert (row["min"], row["max"]) == (1, 6)
    single, none = (summarize_values(np.full(number, 0.5)) for number in (1, 0))
    assert (single["n"], single["mean"], none["n"]) == (1, 0.5, 0)
    missing = [single["sd"], single["ci_low"], none["mean"], none["max"]]
    assert all(map(math.isnan, missing))


def test_interval_is_that_of_theory(rng: np.random.Generator) -> None:
    """The interval of many cases is that of normal means, and the seed fixes it."""
    values = rng.normal(0, 1, 3000)
    spread = 1.96 * values.std() / math.sqrt(3000)

    low, high = bootstrap_interval(values)

    assert low == pytest.approx(values.mean() - spread, rel=0.1)
    assert high == pytest.approx(values.mean() + spread, rel=0.1)
    few = values[:10]
    assert bootstrap_interval(few) == bootstrap_interval(few)
    assert bootstrap_interval(few) != bootstrap_interval(few, seed=1)


def test_scans_by_hand() -> None:
    """Sensitivity and specificity of scans, and what is false on lesion-free ones."""
    cases = pd.DataFrame(
        {
            "reference_lesions": [2, 1, 1, 0, 0],
            "predicted_lesions": [3, 0, 1, 0, 4],
            "predicted_false": [1, 0, 0, 0, 4],
            "predicted_false_ml": [0.1, 0, 0, 0, 0.6],
            "predicted_ml": [0.5, 0, 0.3, 0, 0.7],
        }
    )

    scans = summarize_scans(cases)

    assert (scans["sensitivity"]["count"], scans["sensitivity"]["n"]) == (2, 3)
    assert scans["specificity"]["value"] == 1 / 2
    # 2 of 3, as R's prop.test(2, 3, correct = FALSE) has it
    limits = [scans["sensitivity"][name] for name in ("ci_low", "ci_high")]
    assert limits == pytest.approx([0.20765, 0.93851], abs=1e-5)
    assert scans["lesion_free"] == {
        "n": 2,
        "false_lesions": 2,
        "false_ml": 0.3,
        "predicted_ml": 0.35,
    }
    assert scans["false_lesions_per_scan"] == 1
    scans = summarize_scans(cases[:3])  # none without lesions
    assert math.isnan(scans["specificity"]["value"])
    assert math.isnan(scans["lesion_free"]["false_ml"])


def test_sizes_by_hand() -> None:
    """Lesions are counted by size, those that do not count are left out."""
    rows = [
        ("reference", "hit", "<10"),
        ("reference", "missed", "<10"),
        ("reference", "dropped", "<10"),
        ("prediction", "ignored", "<10"),
        ("prediction", "false", "10 to 70"),
        ("prediction", "hit", "10 to 70"),
        ("reference", "hit", ">500"),
    ]
    lesions = pd.DataFrame(rows, columns=["map", "status", "size_bin"])
    names = ["<10", "10 to 70", "70 to 500", ">500"]
    lesions["size_bin"] = pd.Categorical(lesions["size_bin"], names)

    table = summarize_sizes(lesions)

    assert list(table) == names
    assert table["<10"]["sensitivity"]["value"] == 1 / 2
    assert table["<10"]["predicted_false"] == 0
    found = table["10 to 70"]
    assert (found["predicted_hit"], found["predicted_false"]) == (1, 1)
    assert math.isnan(table["70 to 500"]["sensitivity"]["value"])
