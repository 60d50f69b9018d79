"""Sums up what was found in all cases.

Every metric is computed in each case first and summed up over cases then; voxels are
never pooled. A case in which a metric has no value (NaN) is left out of that metric,
and `n` says how many were left. Sensitivity by lesion size pools lesions, because most
cases have few of a size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from nnunet_cel.evaluation.lesions import size_bin_names
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.protocol import Protocol

__all__ = [
    "RESAMPLES",
    "bootstrap_interval",
    "summarize_metric",
    "summarize_metrics",
    "summarize_scans",
    "summarize_sizes",
    "summarize_values",
]

Array = npt.NDArray[Any]

RESAMPLES = 10_000
"""Number of bootstrap samples."""

_BLOCK = 2_000_000  # drawn at once, to bound memory


def summarize_metrics(cases: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return one row for each metric.

    Args:
        cases: One row for each case, with a column for each metric.
        seed: Seed of the bootstrap.
    """
    rows = [
        {
            "metric": short,
            **summarize_metric(short, cases[short].to_numpy(dtype=float), seed=seed),
        }
        for short in METRICS
    ]
    return pd.DataFrame(rows)


def summarize_metric(short: str, values: Array, *, seed: int = 0) -> dict[str, Any]:
    """Return what a metric is and :func:`summarize_values` of it."""
    metric = METRICS[short]
    return {
        "name": metric.name,
        "unit": metric.unit,
        "better": metric.better,
        **summarize_values(values, seed=seed),
    }


def summarize_values(values: Array, *, seed: int = 0) -> dict[str, float | int]:
    """Return number, mean, SD (ddof 1), median, extremes and 95 % interval of the mean.

    Args:
        values: One for each case; NaN are left out.
        seed: Seed of the bootstrap.
    """
    values = values[~np.isnan(values)]
    n = len(values)
    low, high = bootstrap_interval(values, seed=seed)
    return {
        "n": n,
        "mean": float(values.mean()) if n else math.nan,
        "sd": float(values.std(ddof=1)) if n > 1 else math.nan,
        "median": float(np.median(values)) if n else math.nan,
        "min": float(values.min()) if n else math.nan,
        "max": float(values.max()) if n else math.nan,
        "ci_low": low,
        "ci_high": high,
    }


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
        "sensitivity": _proportion(int((active & called).sum()), int(active.sum())),
        "specificity": _proportion(int((~active & ~called).sum()), len(free)),
        "lesion_free": {
            "n": len(free),
            "false_lesions": _mean(free["predicted_false"]),
            "false_ml": _mean(free["predicted_false_ml"]),
            "predicted_ml": _mean(free["predicted_ml"]),
        },
        "false_lesions_per_scan": _mean(cases["predicted_false"]),
    }


def summarize_sizes(lesions: pd.DataFrame, protocol: Protocol) -> dict[str, Any]:
    """Return how many lesions of each size were found, those of all cases together.

    Args:
        lesions: One row for each lesion of both maps.
        protocol: Its size bins.
    """
    table = {}
    for name in size_bin_names(protocol.size_bins_mm3):
        of_size = lesions[lesions["size_bin"] == name]
        counts: Mapping[tuple[str, str], int] = (
            of_size.groupby(["map", "status"]).size().to_dict()
        )
        hit = counts.get(("reference", "hit"), 0)
        missed = counts.get(("reference", "missed"), 0)
        table[name] = {
            "sensitivity": _proportion(hit, hit + missed),
            "predicted_hit": counts.get(("prediction", "hit"), 0),
            "predicted_false": counts.get(("prediction", "false"), 0),
        }
    return table


def _proportion(successes: int, total: int) -> dict[str, float | int]:
    """Return a proportion with its 95 % Wilson interval."""
    low = high = math.nan
    if total:
        # Wilson 1927, J Am Stat Assoc 22:209-212
        low, high = stats.binomtest(successes, total).proportion_ci(method="wilson")
    return {
        "value": successes / total if total else math.nan,
        "count": successes,
        "n": total,
        "ci_low": float(low),
        "ci_high": float(high),
    }


def _mean(values: pd.Series[Any]) -> float:
    """Return the mean, NaN without values."""
    return float(values.mean()) if len(values) else math.nan
