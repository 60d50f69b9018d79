"""Tests of the summary over cases, of detection across thresholds, of calibration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nnunet_cel.evaluation.cases import (
    THRESHOLDS,
    count_reliability,
    sweep_thresholds,
)
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.evaluation.summary import (
    bootstrap_interval,
    calibrate,
    froc,
    summarize_scans,
    summarize_sizes,
    summarize_thresholds,
    summarize_values,
)

NO_LESIONS = pd.DataFrame(columns=["map", "status", "mean_probability"])


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
    expected = (values.mean() - spread, values.mean() + spread)

    assert bootstrap_interval(values) == pytest.approx(expected, rel=0.1)
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


def lesions(*probabilities: float) -> np.ndarray:
    """Return a volume with a lesion of 8 voxels for each probability."""
    volume = np.zeros((3 * len(probabilities), 4, 4), dtype=np.float32)
    for number, probability in enumerate(probabilities):
        volume[3 * number : 3 * number + 2, 1:3, 1:3] = probability
    return volume


def make_curve(*scans: tuple[np.ndarray, np.ndarray]) -> pd.DataFrame:
    """Return the curve of pairs of probabilities and truth."""
    protocol = load_protocol("paper")
    sweeps = [sweep_thresholds(*scan, protocol, 1.0) for scan in scans]
    return froc(pd.concat(sweeps))


def summarize(curve: pd.DataFrame, *wanted: float) -> dict[str, Any]:
    """Return what is said of a curve where no voxel was calibrated."""
    nothing = count_reliability(np.zeros(1), np.zeros(1, dtype=bool))
    return summarize_thresholds(curve, calibrate(nothing, NO_LESIONS), wanted)


@pytest.fixture
def curve() -> pd.DataFrame:
    """Two scans: lesions of 0.9 and 0.3, a false one of 0.6; one of 0.7 found."""
    first, second = lesions(0.9, 0.3, 0.6), lesions(0.7)
    truth = first > 0
    truth[6:] = False
    return make_curve((first, truth), (second, second > 0))


def test_froc_by_hand(curve: pd.DataFrame) -> None:
    """Sensitivity, false lesions, precision and means are those counted by hand."""
    assert list(curve["threshold"]) == list(THRESHOLDS)
    expected = {
        0.95: (0, 0, math.nan),
        0.8: (1 / 3, 0, 1),
        0.65: (2 / 3, 0, 1),
        0.5: (2 / 3, 1 / 2, 2 / 3),
        0.2: (1, 1 / 2, 3 / 4),
    }
    rows = curve.set_index("threshold")
    for threshold, values in expected.items():
        row = rows.loc[threshold]
        found = (row["sensitivity"], row["false_lesions_per_scan"], row["precision"])
        assert found == pytest.approx(values, nan_ok=True)
    row = rows.loc[0.8]  # one of two lesions in the first scan, the second is blank
    assert (row["L-sens"], row["LFDR"]) == ((1 / 2 + 0) / 2, (0 + 1) / 2)
    assert row["DSC"] == pytest.approx((2 * 8 / 24 + 0) / 2)


def test_area_and_thresholds_by_hand(curve: pd.DataFrame) -> None:
    """The area has its three steps; the threshold finds most within the rate."""
    found = summarize(curve, 0.0, 0.2)

    assert found["average_precision"] == pytest.approx((1 + 1 + 0.75) / 3)
    strict, loose = (entry["found"] for entry in found["for_lfdr"])
    assert (strict["threshold"], strict["L-sens"]) == (0.65, 0.75)
    assert (loose["threshold"], loose["L-sens"]) == (0.25, 1)
    assert loose["LFDR"] <= 0.2


def test_false_lesions_that_flow_together_stay_false() -> None:
    """A false lesion of a higher threshold is still counted when it has merged."""
    volume = lesions(0.9, 0.8)
    truth = volume > 0.85
    volume[2, 1:3, 1:3] = 0.3  # below this both are one lesion, which is a hit

    row = make_curve((volume, truth)).set_index("threshold").loc[0.2]

    assert (row["sensitivity"], row["false_lesions_per_scan"]) == (1, 1)


def test_flood_earns_nothing() -> None:
    """A threshold at which everything is lesion adds neither area nor a choice."""
    truth = np.zeros((20, 20, 20), dtype=bool)
    truth[2:4, 2:4, 2:4] = truth[10:12, 10:12, 10:12] = True
    volume = np.full(truth.shape, 0.03, dtype=np.float32)
    volume[2:4, 2:4, 2:4] = 0.9

    curve = make_curve((volume, truth))

    assert curve["sensitivity"].max() == 1
    found = summarize(curve, 0.0)
    assert found["average_precision"] == pytest.approx(0.5)
    assert found["for_lfdr"][0]["found"]["L-sens"] == 0.5


def test_calibration_by_hand(curve: pd.DataFrame) -> None:
    """Each bin has count, mean probability and share of lesion; 0 is in none."""
    probabilities = np.array([0.0, 0.05, 0.62, 0.68, 0.64, 1.0])
    truth = np.array([True, False, True, True, False, True])

    table = calibrate(count_reliability(probabilities, truth), NO_LESIONS)

    assert table.round(6).to_numpy().tolist() == [
        ["voxels", 0.01, 0.1, 1, 0.05, 0],
        ["voxels", 0.6, 0.7, 3, 0.646667, 0.666667],
        ["voxels", 0.9, 1.0, 1, 1, 1],
    ]
    error = summarize_thresholds(curve, table, ())["calibration_error"]["voxels"]
    assert error == pytest.approx(3 * 0.02 / 4)  # without the first bin
    assert math.isnan(summarize(curve)["calibration_error"]["voxels"])
