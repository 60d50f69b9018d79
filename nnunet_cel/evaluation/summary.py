"""Sums up what was found in all cases.

Every metric is computed in each case first and summed up over cases then; voxels are
never pooled. A case in which a metric has no value (NaN) is left out of that metric,
and `n` says how many were left. Sensitivity by lesion size pools lesions, because most
cases have few of a size.

Words:

- *threshold*: voxels with a lesion probability above it are lesion.
- *flooded*: the predictions of all scans together hold more than ten times the lesion
  volume of the references. Hits say nothing then.
- *FROC*: lesion sensitivity against false lesions per scan, over all thresholds.
- *calibration*: whether of the voxels with probability p a share of p is lesion.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nnunet_cel.evaluation.cases import BINS, count_reliability
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.volumes import Array

__all__ = [
    "RESAMPLES",
    "bootstrap_interval",
    "calibrate",
    "froc",
    "summarize_metrics",
    "summarize_scans",
    "summarize_sizes",
    "summarize_thresholds",
    "summarize_values",
]

RESAMPLES = 10_000
"""Number of bootstrap samples."""

_FLOODED = 10.0
_BLOCK = 2_000_000  # drawn at once, to bound memory


def summarize_metrics(
    cases: pd.DataFrame, names: Iterable[str] = METRICS, *, seed: int = 0
) -> pd.DataFrame:
    """Return one row for each metric.

    Args:
        cases: One row for each case, with a column for each metric.
        names: Short names of the metrics.
        seed: Seed of the bootstrap.
    """
    return pd.DataFrame(
        [
            {
                "metric": short,
                "name": METRICS[short].name,
                "unit": METRICS[short].unit,
                "better": METRICS[short].better,
                **summarize_values(cases[short].to_numpy(dtype=float), seed=seed),
            }
            for short in names
        ]
    )


def summarize_values(values: Array, *, seed: int = 0) -> dict[str, float | int]:
    """Return number, mean, SD (ddof 1), median, extremes and 95 % interval of the mean.

    Args:
        values: One for each case; NaN are left out.
        seed: Seed of the bootstrap.
    """
    known = pd.Series(values).dropna()
    low, high = bootstrap_interval(known.to_numpy(), seed=seed)
    found = known.agg(["mean", "std", "median", "min", "max"]).rename({"std": "sd"})
    return {"n": len(known), **found.to_dict(), "ci_low": low, "ci_high": high}


def bootstrap_interval(values: Array, *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean, NaN below 2 values.

    Args:
        values: One for each case, without NaN.
        seed: The same one gives the same interval.
    """
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _BLOCK // n),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def summarize_scans(cases: pd.DataFrame) -> dict[str, Any]:
    """Return what the prediction says of scans: is there a lesion?

    A scan has lesions if at least one counts, in the reference or in the prediction.

    Args:
        cases: One row for each case.
    """
    active = cases["reference_lesions"] > 0
    called = cases["predicted_lesions"] > 0
    free = cases[~active]
    return {
        "sensitivity": _proportion(called[active].sum(), len(cases) - len(free)),
        "specificity": _proportion((~called[~active]).sum(), len(free)),
        "lesion_free": {
            "n": len(free),
            "false_lesions": free["predicted_false"].mean(),
            "false_ml": free["predicted_false_ml"].mean(),
            "predicted_ml": free["predicted_ml"].mean(),
        },
        "false_lesions_per_scan": cases["predicted_false"].mean(),
    }


def summarize_sizes(lesions: pd.DataFrame) -> dict[str, Any]:
    """Return how many lesions of each size were found, those of all cases together.

    Args:
        lesions: One row for each lesion of both maps.
    """
    columns = lesions[["size_bin", "map", "status"]]
    counts = Counter(columns.itertuples(index=False, name=None))
    table = {}
    for name in lesions["size_bin"].cat.categories:
        hit = counts[name, "reference", "hit"]
        table[name] = {
            "sensitivity": _proportion(hit, hit + counts[name, "reference", "missed"]),
            "predicted_hit": counts[name, "prediction", "hit"],
            "predicted_false": counts[name, "prediction", "false"],
        }
    return table


def froc(sweeps: pd.DataFrame) -> pd.DataFrame:
    """Return detection at every threshold, one row each, thresholds rising.

    `sensitivity` is that of the lesions of all scans, `precision` the share of hit
    reference lesions among them and the false lesions so far, `volume_ratio` predicted
    over reference volume. `L-sens`, `LFDR` and `DSC` are means over scans by the
    protocol, LFDR from the false lesions so far: at that threshold it is at most this.

    Args:
        sweeps: What :func:`~nnunet_cel.evaluation.cases.sweep_thresholds` returned,
            of all scans.
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


def calibrate(reliability: pd.DataFrame, lesions: pd.DataFrame) -> pd.DataFrame:
    """Return mean probability and share of true ones in each bin that is not empty.

    Args:
        reliability: What :func:`~nnunet_cel.evaluation.cases.count_reliability`
            returned, of the voxels of all cases.
        lesions: One row for each lesion of both maps; true are hits.
    """
    judged = lesions[
        (lesions["map"] == "prediction") & lesions["status"].isin(["hit", "false"])
    ]
    probabilities = judged["mean_probability"].to_numpy(dtype=float)
    found = count_reliability(probabilities, (judged["status"] == "hit").to_numpy())
    voxels = reliability.groupby("bin", as_index=False)[["count", "sum", "true"]].sum()
    levels = [voxels.assign(level="voxels"), found.assign(level="lesions")]
    bins = pd.concat(levels, ignore_index=True)
    table = pd.DataFrame(
        {
            "level": bins["level"],
            "from": BINS[bins["bin"]],
            "to": BINS[bins["bin"] + 1],
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
        rows = calibration[of_level & (calibration["from"] >= BINS[1])]
        distance = (rows["mean_probability"] - rows["observed"]).abs()
        total = rows["count"].sum() or math.nan
        errors[level] = float((distance * rows["count"]).sum() / total)
    return {
        "average_precision": area if curve["sensitivity"].notna().any() else math.nan,
        "for_lfdr": chosen,
        "calibration_error": errors,
    }


def _proportion(successes: int, total: int) -> dict[str, float | int]:
    """Return a proportion with its 95 % Wilson interval."""
    value = low = high = math.nan
    if total:
        found = stats.binomtest(int(successes), int(total))
        value = found.statistic
        # Wilson 1927, J Am Stat Assoc 22:209-212
        low, high = found.proportion_ci(method="wilson")
    return {
        "value": float(value),
        "count": int(successes),
        "n": int(total),
        "ci_low": float(low),
        "ci_high": float(high),
    }
