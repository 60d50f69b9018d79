"""What other thresholds than one half would give, and how honest probabilities are.

Words:

- *threshold*: voxels with a lesion probability above it are lesion.
- *false lesions so far*: the most false lesions that a scan has at a threshold or at
  any higher one. Below some threshold everything flows together into one lesion that
  touches all others. Counted as it is, it would be one hit and no false lesion.
- *flooded*: the predictions of all scans together hold more than ten times the lesion
  volume of the references. Hits say nothing then.
- *FROC*: lesion sensitivity against false lesions per scan, over all thresholds.
- *calibration*: whether of the voxels with probability p a share of p is lesion.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnunet_cel.evaluation.lesions import bounding_box, find_lesions, match_lesions
from nnunet_cel.evaluation.metrics import Counts, compute_metrics
from nnunet_cel.evaluation.protocol import Protocol

__all__ = [
    "THRESHOLDS",
    "average_precision",
    "calibrate",
    "count_reliability",
    "expected_calibration_error",
    "froc",
    "sweep_thresholds",
    "threshold_for_lfdr",
]

Array = npt.NDArray[Any]

THRESHOLDS = (0.01, 0.02, *(round(0.05 * i, 2) for i in range(1, 20)), 0.98, 0.99)
"""The thresholds that are tried."""

_FLOODED = 10.0
_LOWEST = THRESHOLDS[0]
_BINS = np.array([_LOWEST, *np.arange(1, 11) / 10])


def sweep_thresholds(
    probabilities: Array, reference: Array, protocol: Protocol, voxel_volume: float
) -> list[Counts]:
    """Return the counts of a case at every threshold.

    Args:
        probabilities: Lesion probability, shape (X, Y, Z).
        reference: Reference mask of the same shape.
        protocol: The rules.
        voxel_volume: Volume of a voxel in mm3.
    """
    box = bounding_box((probabilities > _LOWEST) | reference)
    probabilities = probabilities[box]
    connectivity = protocol.connectivity
    true = find_lesions(reference[box], connectivity=connectivity)
    counts = []
    for threshold in THRESHOLDS:
        found = find_lesions(probabilities > threshold, connectivity=connectivity)
        counts.append(match_lesions(true, found, protocol, voxel_volume).counts)
    return counts


def froc(sweeps: Iterable[Sequence[Counts]], protocol: Protocol) -> pd.DataFrame:
    """Return detection at every threshold, one row each, thresholds rising.

    `sensitivity` is that of the lesions of all scans, `precision` the share of hit
    reference lesions among them and the false lesions so far, `volume_ratio` predicted
    over reference volume. `L-sens`, `LFDR` and `DSC` are means over scans by the
    protocol, LFDR from the false lesions so far: at that threshold it is at most this.

    Args:
        sweeps: Counts at :data:`THRESHOLDS` of each scan.
        protocol: The rules.
    """
    scans = [_with_false_lesions_so_far(counts) for counts in sweeps]
    rows = []
    for threshold, counts in zip(THRESHOLDS, zip(*scans, strict=True), strict=True):
        hit = sum(c.reference_hit for c in counts)
        lesions = sum(c.reference_lesions for c in counts)
        false = sum(c.predicted_false for c in counts)
        reference = sum(c.reference for c in counts)
        predicted = sum(c.predicted for c in counts)
        metrics = pd.DataFrame(
            [compute_metrics(c, protocol.edge_cases) for c in counts]
        ).mean()
        rows.append(
            {
                "threshold": threshold,
                "sensitivity": hit / lesions if lesions else math.nan,
                "false_lesions_per_scan": false / len(counts),
                "precision": hit / (hit + false) if hit + false else math.nan,
                "volume_ratio": predicted / reference if reference else math.nan,
                **{name: metrics[name] for name in ("L-sens", "LFDR", "DSC")},
            }
        )
    return pd.DataFrame(rows)


def average_precision(curve: pd.DataFrame) -> float:
    """Return the area under precision over sensitivity, in steps, NaN if no lesions.

    Thresholds at which the predictions are flooded are left out.

    Args:
        curve: What :func:`froc` returned.
    """
    if curve["sensitivity"].isna().all():
        return math.nan
    falling = curve[curve["volume_ratio"] <= _FLOODED].iloc[::-1]
    sensitivity = falling["sensitivity"].cummax()
    steps = sensitivity.diff().fillna(sensitivity)
    return float((steps * falling["precision"].fillna(0)).sum())


def threshold_for_lfdr(curve: pd.DataFrame, wanted: float) -> dict[str, float] | None:
    """Return the row with the highest L-sens whose LFDR is at most what is wanted.

    Of equals it is the one with the lowest LFDR, then the highest threshold. Rows with
    flooded predictions are left out. None if no row is left.

    Args:
        curve: What :func:`froc` returned.
        wanted: LFDR from 0 to 1.
    """
    good = curve[
        (curve["LFDR"] <= wanted)
        & curve["L-sens"].notna()
        & (curve["volume_ratio"] <= _FLOODED)
    ]
    if good.empty:
        return None
    best = good.sort_values(
        ["L-sens", "LFDR", "threshold"], ascending=[False, True, False]
    ).iloc[0]
    return {name: float(best[name]) for name in ("threshold", "LFDR", "L-sens", "DSC")}


def count_reliability(probabilities: Array, truth: Array) -> Array:
    """Return count, sum of probability and number of true ones in bins of 0.1.

    Probabilities up to 0.01 are left out, as those of air.

    Args:
        probabilities: From 0 to 1, any shape.
        truth: Whether each is lesion, same shape.

    Returns:
        Shape (10, 3).
    """
    chosen = probabilities > _LOWEST
    values, true = probabilities[chosen].astype(float), truth[chosen]
    bins = np.clip(np.digitize(values, _BINS) - 1, 0, len(_BINS) - 2)
    size = len(_BINS) - 1
    return np.stack(
        [
            np.bincount(bins, minlength=size).astype(float),
            np.bincount(bins, values, size),
            np.bincount(bins, true, size),
        ],
        axis=1,
    )


def calibrate(counts: Mapping[str, Array]) -> pd.DataFrame:
    """Return mean probability and share of true ones in each bin that is not empty.

    Args:
        counts: What :func:`count_reliability` returned, by its name in the table.
    """
    rows = []
    for name, table in counts.items():
        for low, high, (count, total, true) in zip(
            _BINS, _BINS[1:], table, strict=False
        ):
            if count:
                rows.append((name, low, high, int(count), total / count, true / count))
    columns = ["level", "from", "to", "count", "mean_probability", "observed"]
    return pd.DataFrame(rows, columns=columns)


def expected_calibration_error(calibration: pd.DataFrame, level: str) -> float:
    """Return the mean distance of probability and observed share, NaN without data.

    Bins below 0.1 are left out: nearly all voxels are in there, and would hide the
    others.

    Args:
        calibration: What :func:`calibrate` returned.
        level: Name of the rows to use.
    """
    rows = calibration[
        (calibration["level"] == level) & (calibration["from"] >= _BINS[1])
    ]
    if rows.empty:
        return math.nan
    distance = (rows["mean_probability"] - rows["observed"]).abs()
    return float((distance * rows["count"]).sum() / rows["count"].sum())


def _with_false_lesions_so_far(counts: Sequence[Counts]) -> list[Counts]:
    """Return counts with as many false lesions as any higher threshold has."""
    falling, most = [], 0
    for count in reversed(counts):
        most = max(most, count.predicted_false)
        falling.append(replace(count, predicted_false=most))
    return falling[::-1]
