"""Compares evaluations of several models on the same cases.

Words:

- *difference*: value of the second model minus that of the first, case by case, over
  the cases in which both have a value.
- *effect*: matched-pairs rank-biserial correlation, from -1 (the second model is lower
  in all cases) to 1 (higher in all).

Tests are two-sided Wilcoxon signed-rank tests. Those of one metric are corrected
together for the number of pairs of models (Holm). Metrics are not corrected for one
another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.summary import (
    bootstrap_interval,
    summarize_metrics,
    summarize_values,
)
from nnunet_cel.evaluation.tables import plain, read_table
from nnunet_cel.files import read_json

__all__ = [
    "Comparison",
    "best_means",
    "check_comparable",
    "compare_evaluations",
    "compare_pair",
    "compare_pairs",
    "holm",
    "read_evaluation",
]

Array = npt.NDArray[Any]

_DECIMALS = 9  # of differences, so that rounding does not part what is equal


@dataclass(frozen=True)
class Comparison:
    """Several models side by side.

    Args:
        models: One row for each metric and model.
        tests: One row for each metric and pair of models.
        summary: What was compared.
    """

    models: pd.DataFrame
    tests: pd.DataFrame
    summary: dict[str, Any]


def compare_evaluations(
    folders: Sequence[Path], *, names: Sequence[str] | None = None, seed: int = 0
) -> Comparison:
    """Compare what `nnunet-cel evaluate` wrote for several models.

    Args:
        folders: Folder of each evaluation.
        names: What to call the models; None takes the names of the folders.
        seed: Seed of the bootstrap.

    Raises:
        FileNotFoundError: If a folder holds no evaluation.
        ValueError: If protocols, cases or references differ, or names are not distinct.
    """
    names = [folder.resolve().name for folder in folders] if names is None else names
    if len(folders) < 2 or len(names) != len(folders) or len(set(names)) < len(names):
        raise ValueError(
            "There must be at least two models, each with a name of its own. Got "
            f"{len(folders)} folders and the names {', '.join(names)}: give one name "
            "for each with --names."
        )
    evaluations = {
        name: read_evaluation(folder)
        for name, folder in zip(names, folders, strict=True)
    }
    check_comparable(
        {str(f): found for f, found in zip(folders, evaluations.values(), strict=True)}
    )
    models: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for short, metric in METRICS.items():
        values = {
            name: cases[short].to_numpy(dtype=float)
            for name, (cases, _) in evaluations.items()
        }
        rows = [summarize_values(v, seed=seed) for v in values.values()]
        best = best_means([row["mean"] for row in rows], metric.better)
        models += [
            {"metric": short, "model": name, "best": number in best, **row}
            for number, (name, row) in enumerate(zip(names, rows, strict=True))
        ]
        pairs = itertools.combinations(names, 2)
        tests += compare_pairs(short, values, pairs, seed=seed)
    cases, summary = evaluations[names[0]]
    content = {
        "models": list(names),
        "protocol": summary["protocol"],
        "n": len(cases),
        "test": "Wilcoxon signed-rank, two-sided, Holm over pairs of models per metric",
        "seed": seed,
    }
    return Comparison(pd.DataFrame(models), pd.DataFrame(tests), content)


def read_evaluation(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the cases, in the order of their names, and the summary of an evaluation.

    Metrics that were added after it was written have no value in it.

    Raises:
        FileNotFoundError: If the folder holds no evaluation.
        ValueError: If it is damaged.
    """
    files = folder / "summary.json", folder / "cases.csv"
    if not all(file.is_file() for file in files):
        raise FileNotFoundError(
            f"There is no evaluation in {folder}. Make one with 'nnunet-cel evaluate'."
        )
    summary, cases = read_json(files[0]), read_table(files[1])
    later = {s: m.edge_case for s, m in METRICS.items() if m.edge_case}
    later = {short: row for short, row in later.items() if short not in cases}
    needed = {"case", "reference_ml", "reference_lesions", *METRICS}
    missing = sorted(needed - set(cases.columns) - set(later))
    protocol = summary.get("protocol") if isinstance(summary, dict) else None
    if missing or not isinstance(protocol, dict):
        raise ValueError(
            f"The evaluation in {folder} must have all metrics and a protocol. It "
            f"lacks {', '.join(missing) or 'the protocol'}. Evaluate again."
        )
    cases = cases.assign(**dict.fromkeys(later, math.nan))
    for short, edge_case in later.items():
        metric = summarize_metrics(cases, [short]).set_index("metric")
        summary.setdefault("metrics", {}).update(plain(metric.to_dict("index")))
        protocol.setdefault("edge_cases", {})[short] = plain(edge_case.model_dump())
    return cases.sort_values("case", ignore_index=True), summary


def compare_pair(first: Array, second: Array, *, seed: int = 0) -> dict[str, float]:
    """Return differences of two models with interval, test and effect.

    Args:
        first: Values of the first model in each case; NaN are left out.
        second: Values of the second model in the same cases.
        seed: Seed of the bootstrap.
    """
    differences = np.round(second - first, _DECIMALS)
    differences = differences[~np.isnan(differences)]
    n = len(differences)
    changed = differences[differences != 0]
    p, effect = (1.0, 0.0) if n else (math.nan, math.nan)
    if len(changed):
        ranks = stats.rankdata(abs(changed))
        effect = float((ranks * np.sign(changed)).sum() / ranks.sum())
        p = float(stats.wilcoxon(changed).pvalue)
    low, high = bootstrap_interval(differences, seed=seed)
    known = pd.Series(differences)
    return {
        "n": n,
        "mean_difference": float(known.mean()),
        "ci_low": low,
        "ci_high": high,
        "median_difference": float(known.median()),
        "effect": effect,
        "p": p,
    }


def compare_pairs(
    short: str,
    values: Mapping[str, Array],
    pairs: Iterable[tuple[str, str]],
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the tests of one metric, corrected together, a row for each pair.

    Args:
        short: Name of the metric.
        values: Values of each model in the same cases, by the name of the model.
        pairs: Names of the first and the second model of each pair.
        seed: Seed of the bootstrap.
    """
    rows: list[dict[str, Any]] = [
        {
            "metric": short,
            "first": first,
            "second": second,
            **compare_pair(values[first], values[second], seed=seed),
        }
        for first, second in pairs
    ]
    better = METRICS[short].better
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row |= {"p_holm": p, "better": ""}
        if better != "zero" and abs(row["effect"]) > 0:  # not NaN
            second = (row["effect"] > 0) == (better == "higher")
            row["better"] = row["second" if second else "first"]
    return rows


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, NaN left out.

    Reference: Holm 1979, Scand J Stat 6:65-70.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN come last
    factors = np.arange(len(order), 0, -1)
    corrected = np.full(len(p), math.nan)
    corrected[order] = np.maximum.accumulate(p[order] * factors).clip(max=1)
    return [float(value) for value in corrected]


def best_means(means: Sequence[float], better: str) -> set[int]:
    """Return which means are the best, as numbers; none if all are NaN.

    Args:
        means: Means of one metric.
        better: Which values are better: ``higher``, ``lower`` or ``zero``.
    """
    sign = {"higher": 1, "lower": -1, "zero": -1}[better]
    scores = [sign * (abs(m) if better == "zero" else m) for m in means]
    known = [score for score in scores if not math.isnan(score)]
    return {i for i, score in enumerate(scores) if known and score == max(known)}


def check_comparable(
    evaluations: Mapping[str, tuple[pd.DataFrame, dict[str, Any]]],
) -> None:
    """Refuse evaluations that did not measure the same thing.

    Args:
        evaluations: Cases and summary of each, see :func:`read_evaluation`, by its
            folder.

    Raises:
        ValueError: If protocols, cases or references differ.
    """
    (first, (cases, summary)), *others = evaluations.items()
    for name, (other_cases, other_summary) in others:
        columns = ["reference_ml", "reference_lesions"]
        differing = set(cases["case"]) ^ set(other_cases["case"])
        what = "on the same cases"
        if not differing:
            same = np.isclose(cases[columns], other_cases[columns], rtol=1e-6)
            differing = set(cases["case"][~same.all(axis=1)])
            what = "on the same references"
        if other_summary["protocol"] != summary["protocol"]:
            differing, what = {"the protocol"}, "by the same protocol"
        if differing:
            raise ValueError(
                f"The evaluations {first}/cases.csv and {name}/cases.csv must be made "
                f"{what}. They differ in {', '.join(sorted(differing))}: evaluate one "
                "again, with --subset if it lacks predictions."
            )
