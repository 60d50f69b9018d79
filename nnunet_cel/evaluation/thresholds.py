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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnunet_cel.evaluation.lesions import bounding_box, find_lesions, match_lesions
from nnunet_cel.evaluation.metrics import compute_metrics
from nnunet_cel.evaluation.protocol import Protocol

__all__ = [
    "THRESHOLDS",
    "calibrate",
    "count_reliability",
    "froc",
    "summarize_thresholds",
    "sweep_thresholds",
]

Array = npt.NDArray[Any]

THRESHOLDS = (0.01, 0.02, *(round(0.05 * i, 2) for i in range(1, 20)), 0.98, 0.99)
"""The thresholds that are tried."""

_FLOODED = 10.0
_BINS = np.array([THRESHOLDS[0], *np.arange(1, 11) / 10])


def sweep_thresholds(
    probabilities: Array, reference: Array, protocol: Protocol, voxel_volume: float
) -> pd.DataFrame:
    """Return what a case has at every threshold, one row each.

    False lesions, and LFDR with them, are those so far.

    Args:
        probabilities: Lesion probability, shape (X, Y, Z).
        reference: Reference mask of the same shape.
        protocol: The rules.
        voxel_volume: Volume of a voxel in mm3.
    """
    box = bounding_box((probabilities > THRESHOLDS[0]) | reference)
    connectivity = protocol.connectivity
    true = find_lesions(reference, connectivity, box)
    rows, false = [], 0
    for threshold in reversed(THRESHOLDS):
        found = find_lesions(probabilities > threshold, connectivity, box)
        counts = match_lesions(true, found, protocol, voxel_volume).counts
        false = max(false, counts.predicted_false)
        counts = replace(counts, predicted_false=false)
        rows.append(
            {
                "threshold": threshold,
                "hit": counts.reference_hit,
                "lesions": counts.reference_lesions,
                "false": false,
                "predicted": counts.predicted,
                "reference": counts.reference,
                **compute_metrics(counts, protocol.edge_cases),
            }
        )
    return pd.DataFrame(rows)


def froc(sweeps: pd.DataFrame) -> pd.DataFrame:
    """Return detection at every threshold, one row each, thresholds rising.

    `sensitivity` is that of the lesions of all scans, `precision` the share of hit
    reference lesions among them and the false lesions so far, `volume_ratio` predicted
    over reference volume. `L-sens`, `LFDR` and `DSC` are means over scans by the
    protocol, LFDR from the false lesions so far: at that threshold it is at most this.

    Args:
        sweeps: What :func:`sweep_thresholds` returned, of all scans.
    """
    scans = sweeps.groupby("threshold")
    sums, means = scans.sum(numeric_only=True), scans.mean(numeric_only=True)
    curve = pd.DataFrame(
        {
            "sensitivity": sums["hit"] / sums["lesions"],
            "false_lesions_per_scan": means["false"],
            "precision": sums["hit"] / (sums["hit"] + sums["false"]),
            "volume_ratio": sums["predicted"]
            / sums["reference"].where(lambda v: v > 0),
        }
    )
    return curve.join(means[["L-sens", "LFDR", "DSC"]]).reset_index()


def count_reliability(probabilities: Array, truth: Array) -> pd.DataFrame:
    """Return count, sum of probability and number of true ones in bins of 0.1.

    Probabilities up to 0.01 are left out, as those of air.

    Args:
        probabilities: From 0 to 1, any shape.
        truth: Whether each is lesion, same shape.
    """
    chosen = probabilities > _BINS[0]
    values, true = probabilities[chosen].astype(float), truth[chosen]
    size = len(_BINS) - 1
    bins = np.clip(np.digitize(values, _BINS) - 1, 0, size - 1)
    return pd.DataFrame(
        {
            "count": np.bincount(bins, minlength=size),
            "sum": np.bincount(bins, values, size),
            "true": np.bincount(bins, true, size),
        }
    )


def calibrate(counts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return mean probability and share of true ones in each bin that is not empty.

    Args:
        counts: What :func:`count_reliability` returned, by its name in the table.
    """
    bins = pd.concat(counts, names=["level"]).reset_index("level")
    table = pd.DataFrame(
        {
            "level": bins["level"],
            "from": _BINS[bins.index],
            "to": _BINS[bins.index + 1],
            "count": bins["count"],
            "mean_probability": bins["sum"] / bins["count"],
            "observed": bins["true"] / bins["count"],
        }
    )
    return table[table["count"] > 0].reset_index(drop=True)


def summarize_thresholds(
    curve: pd.DataFrame, calibration: pd.DataFrame, wanted_lfdr: Sequence[float]
) -> dict[str, Any]:
    """Return what is said about thresholds.

    - `average_precision`: area under precision over sensitivity, in steps, without
      thresholds at which the predictions are flooded; NaN if there are no lesions.
    - `for_lfdr`: for each wanted LFDR the threshold with the highest L-sens whose LFDR
      is at most that. Of equals it is the one with the lowest LFDR, then the highest.
      Flooded ones are left out. None if no threshold is left.
    - `calibration_error`: mean distance of probability and observed share, NaN without
      data. Bins below 0.1 are left out: nearly all voxels are in there, and would hide
      the others.

    Args:
        curve: What :func:`froc` returned.
        calibration: What :func:`calibrate` returned.
        wanted_lfdr: Values from 0 to 1.
    """
    falling = curve[curve["volume_ratio"] <= _FLOODED].iloc[::-1]
    sensitivity = falling["sensitivity"].cummax()
    steps = sensitivity.diff().fillna(sensitivity)
    area = (steps * falling["precision"].fillna(0)).sum()
    ranked = falling.dropna(subset="L-sens").sort_values(
        ["L-sens", "LFDR", "threshold"], ascending=[False, True, False]
    )[["threshold", "LFDR", "L-sens", "DSC"]]
    chosen = []
    for wanted in wanted_lfdr:
        rows = ranked[ranked["LFDR"] <= wanted].to_dict("records")
        chosen.append({"wanted": wanted, "found": rows[0] if rows else None})
    errors = {}
    for level in ("voxels", "lesions"):
        of_level = calibration["level"] == level
        rows = calibration[of_level & (calibration["from"] >= _BINS[1])]
        distance = (rows["mean_probability"] - rows["observed"]).abs()
        total = rows["count"].sum() or math.nan
        errors[level] = float((distance * rows["count"]).sum() / total)
    return {
        "average_precision": area if curve["sensitivity"].notna().any() else math.nan,
        "for_lfdr": chosen,
        "calibration_error": errors,
    }
