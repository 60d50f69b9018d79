"""Sums up what was found in all cases.

Every metric is computed in each case first and summed up over cases then; voxels are
never pooled. A case in which a metric has no value (NaN) is left out of that metric,
and `n` says how many were left. Sensitivity by lesion size pools lesions, because most
cases have few of a size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from nnunet_cel.evaluation.metrics import METRICS

__all__ = [
    "RESAMPLES",
    "bootstrap_interval",
    "summarize_metrics",
    "summarize_scans",
    "summarize_sizes",
    "summarize_values",
]

Array = npt.NDArray[Any]

RESAMPLES = 10_000
"""Number of bootstrap samples."""

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
    known = pd.Series(values[~np.isnan(values)])
    low, high = bootstrap_interval(known.to_numpy(), seed=seed)
    return {
        "n": len(known),
        "mean": float(known.mean()),
        "sd": float(known.std()),
        "median": float(known.median()),
        "min": float(known.min()),
        "max": float(known.max()),
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
    kinds = lesions.groupby(["size_bin", "map", "status"], observed=True)
    counts = kinds.size().to_dict()
    table = {}
    for name in lesions["size_bin"].cat.categories:
        hit = counts.get((name, "reference", "hit"), 0)
        missed = counts.get((name, "reference", "missed"), 0)
        table[name] = {
            "sensitivity": _proportion(hit, hit + missed),
            "predicted_hit": counts.get((name, "prediction", "hit"), 0),
            "predicted_false": counts.get((name, "prediction", "false"), 0),
        }
    return table


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
