"""Tests of detection across thresholds and of calibration."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.evaluation.thresholds import (
    THRESHOLDS,
    average_precision,
    calibrate,
    count_reliability,
    expected_calibration_error,
    froc,
    sweep_thresholds,
    threshold_for_lfdr,
)

PAPER = load_protocol("paper")


def lesions(*probabilities: float) -> np.ndarray:
    """Return a volume with a lesion of 8 voxels for each probability."""
    volume = np.zeros((3 * len(probabilities), 4, 4), dtype=np.float32)
    for number, probability in enumerate(probabilities):
        volume[3 * number : 3 * number + 2, 1:3, 1:3] = probability
    return volume


@pytest.fixture
def curve() -> pd.DataFrame:
    """Two scans: lesions of 0.9 and 0.3, a false one of 0.6; one of 0.7 found."""
    first, second = lesions(0.9, 0.3, 0.6), lesions(0.7)
    truth = first.copy()
    truth[6:] = 0
    return (
        froc(
            [
                sweep_thresholds(first, truth > 0, PAPER, 1.0),
                sweep_thresholds(second, second > 0, PAPER, 1.0),
            ],
            PAPER,
        )
        .set_index("threshold", drop=False)
        .rename_axis(None)
    )


def test_froc_by_hand(curve: pd.DataFrame) -> None:
    """Sensitivity and false lesions are those counted by hand."""
    assert list(curve["threshold"]) == list(THRESHOLDS)
    expected = {
        0.95: (0, 0, math.nan),
        0.8: (1 / 3, 0, 1),
        0.65: (2 / 3, 0, 1),
        0.5: (2 / 3, 1 / 2, 2 / 3),
        0.2: (1, 1 / 2, 3 / 4),
    }
    for threshold, values in expected.items():
        row = curve.loc[threshold]
        found = (row["sensitivity"], row["false_lesions_per_scan"], row["precision"])
        assert found == pytest.approx(values, nan_ok=True)


def test_average_precision_by_hand(curve: pd.DataFrame) -> None:
    """The area has the steps 1/3 at 1, 1/3 at 1 and 1/3 at 3/4."""
    assert average_precision(curve) == pytest.approx((1 + 1 + 0.75) / 3)


def test_means_are_those_of_the_protocol(curve: pd.DataFrame) -> None:
    """L-sens, LFDR and DSC are means over scans, blank ones by the protocol."""
    row = curve.loc[0.8]  # one of two lesions in the first scan, the second is blank

    assert row["L-sens"] == pytest.approx((1 / 2 + 0) / 2)
    assert row["LFDR"] == pytest.approx((0 + 1) / 2)
    assert row["DSC"] == pytest.approx((2 * 8 / 24 + 0) / 2)


def test_threshold_for_a_wanted_rate(curve: pd.DataFrame) -> None:
    """The threshold is the one that finds most within the wanted rate."""
    strict = threshold_for_lfdr(curve, 0.0)
    loose = threshold_for_lfdr(curve, 0.2)

    assert strict is not None
    assert loose is not None
    assert (strict["threshold"], strict["L-sens"]) == (0.65, 0.75)
    assert (loose["threshold"], loose["L-sens"]) == (0.25, 1)
    assert loose["LFDR"] <= 0.2


def test_false_lesions_that_flow_together_stay_false() -> None:
    """A false lesion of a higher threshold is still counted when it has merged."""
    volume = lesions(0.9, 0.8)
    truth = volume > 0.85
    volume[2, 1:3, 1:3] = 0.3  # below this both are one lesion, which is a hit
    sweep = sweep_thresholds(volume, truth, PAPER, 1.0)

    curve = froc([sweep], PAPER).set_index("threshold")

    assert sweep[THRESHOLDS.index(0.2)].predicted_false == 0
    assert curve.loc[0.2, "false_lesions_per_scan"] == 1


def test_flood_earns_nothing() -> None:
    """A threshold at which everything is lesion adds neither area nor a choice."""
    shape = (20, 20, 20)
    truth = np.zeros(shape, dtype=bool)
    truth[2:4, 2:4, 2:4] = truth[10:12, 10:12, 10:12] = True
    volume = np.full(shape, 0.03, dtype=np.float32)
    volume[2:4, 2:4, 2:4] = 0.9

    curve = froc([sweep_thresholds(volume, truth, PAPER, 1.0)], PAPER)

    assert curve["sensitivity"].max() == 1
    assert average_precision(curve) == pytest.approx(0.5)
    found = threshold_for_lfdr(curve, 0.0)
    assert found is not None
    assert found["L-sens"] == 0.5


def test_ends_of_the_scale() -> None:
    """Probability 1 and nothing else is an area of 1; no lesion, none."""
    volume = lesions(1.0, 1.0)
    perfect = froc([sweep_thresholds(volume, volume > 0, PAPER, 1.0)], PAPER)
    false = froc([sweep_thresholds(volume, volume > 2, PAPER, 1.0)], PAPER)

    assert average_precision(perfect) == 1
    assert math.isnan(average_precision(false))
    assert threshold_for_lfdr(false, 1.0) is None


def test_honest_probabilities_are_calibrated(rng: np.random.Generator) -> None:
    """Truth drawn with the stated probability gives an error near 0, doubts do not."""
    probabilities = rng.random(200_000)
    truth = rng.random(200_000) < probabilities

    def error(values: np.ndarray) -> float:
        table = calibrate({"voxels": count_reliability(values, truth)})
        return expected_calibration_error(table, "voxels")

    assert error(probabilities) < 0.01
    assert error(probabilities**2) == pytest.approx(0.185, abs=0.02)
    assert math.isnan(error(probabilities * 0))


def test_calibration_by_hand() -> None:
    """Each bin has its count, its mean probability and its share of lesion."""
    probabilities = np.array([0.0, 0.05, 0.62, 0.68, 0.64, 1.0])
    truth = np.array([True, False, True, True, False, True])

    table = calibrate({"lesions": count_reliability(probabilities, truth)})

    assert table.round(6).to_numpy().tolist() == [
        ["lesions", 0.01, 0.1, 1, 0.05, 0],
        ["lesions", 0.6, 0.7, 3, 0.646667, 0.666667],
        ["lesions", 0.9, 1.0, 1, 1, 1],
    ]
