"""Puts evaluations of several models side by side, with paired tests.

OUT_A, OUT_B ... are folders that 'nnunet-cel evaluate' wrote for the same cases by the
same protocol. OUT gets models.csv (means), tests.csv (differences, Wilcoxon tests) and
comparison.json.

    nnunet-cel compare OUT_A OUT_B -o OUT --names FCA-DenseNet U-Net

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

import argparse
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from nnunet_cel.evaluation.dataset import Evaluation, add_options, write_evaluation
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.summary import summarize_metrics, summarize_values
from nnunet_cel.evaluation.tables import number, plain, read_table
from nnunet_cel.files import new_folder, read_json
from nnunet_cel.volumes import Array

__all__ = [
    "add_arguments",
    "compare_evaluations",
    "compare_pair",
    "compare_pairs",
    "holm",
    "is_best",
    "read_evaluation",
    "read_evaluations",
    "run",
]

_DECIMALS = 9  # of differences, so that rounding does not part what is equal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.add_argument(
        "evaluations", type=Path, nargs="+", metavar="OUT_A", help="two or more folders"
    )
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="names in place of the folders'"
    )
    add_options(parser, "seed")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    with new_folder(
        args.out,
        what="comparison",
        mark="comparison.json",
        inputs=args.evaluations,
        overwrite=args.overwrite,
    ) as folder:
        comparison = compare_evaluations(
            args.evaluations, names=args.names, seed=args.seed
        )
        write_evaluation(comparison, folder)
    print(f"{_describe(comparison)}\nWrote {args.out}")
    return 0


def _describe(comparison: Evaluation) -> str:
    """Return the comparison as text, in the manner of the paper's tables."""
    models, summary = comparison["models.csv"], comparison["comparison.json"]
    stars = models["best"].map({True: "*", False: " "})
    cells = models["mean"].map(number) + " (" + models["sd"].map(number) + ")" + stars
    table = models.assign(cell=cells).pivot(
        index="metric", columns="model", values="cell"
    )
    # in the order of the metrics and of the models
    table = table.loc[models["metric"].unique(), summary["models"]]
    if len(summary["models"]) == 2:
        columns = {"mean_difference": "difference", "ci_low": "95 % CI from"}
        columns |= {"ci_high": "to", "p": "p"}
        tests = comparison["tests.csv"].set_index("metric")[list(columns)]
        table = table.join(tests.map(number).rename(columns=columns))
    text = table.rename_axis(index=None, columns=None).to_string()
    return f"{summary['n']} cases, mean (SD), * best mean\n{text}"


def compare_evaluations(
    folders: Sequence[Path], *, names: Sequence[str] | None = None, seed: int = 0
) -> Evaluation:
    """Compare what `nnunet-cel evaluate` wrote for several models.

    Args:
        folders: Folder of each evaluation.
        names: What to call the models; None takes the names of the folders.
        seed: Seed of the bootstrap.

    Returns:
        ``models.csv`` with one row for each metric and model, ``tests.csv`` with one
        for each metric and pair of models, and ``comparison.json``.

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
    found = read_evaluations(folders)
    models, tests = [], []
    for short, metric in METRICS.items():
        columns = [found[folder][0][short].astype(float) for folder in folders]
        values = pd.concat(columns, axis=1, keys=names)
        rows = pd.DataFrame([summarize_values(values[n], seed=seed) for n in names])
        best = is_best(rows["mean"], metric.better)
        keys = pd.DataFrame({"metric": short, "model": names, "best": best})
        models.append(keys.join(rows))
        pairs = itertools.combinations(names, 2)
        tests += compare_pairs(short, values, pairs, seed=seed)
    cases, summary = found[folders[0]]
    content = {
        "models": list(names),
        "protocol": summary["protocol"],
        "n": len(cases),
        "test": "Wilcoxon signed-rank, two-sided, Holm over pairs of models per metric",
        "seed": seed,
    }
    return {
        "models.csv": pd.concat(models, ignore_index=True),
        "tests.csv": pd.DataFrame(tests),
        "comparison.json": content,
    }


def read_evaluations(
    folders: Iterable[Path],
) -> dict[Path, tuple[pd.DataFrame, dict[str, Any]]]:
    """Return cases and summary of evaluations that measured the same thing.

    Args:
        folders: Folder of each, see :func:`read_evaluation`.

    Raises:
        FileNotFoundError: If a folder holds no evaluation.
        ValueError: If one is damaged, or protocols, cases or references differ.
    """
    found = {folder: read_evaluation(folder) for folder in folders}
    (first, (cases, summary)), *others = found.items()
    columns = ["reference_ml", "reference_lesions"]
    for folder, (other_cases, other_summary) in others:
        differing = set(cases["case"]) ^ set(other_cases["case"])
        what = "on the same cases"
        if other_summary["protocol"] != summary["protocol"]:
            differing, what = {"the protocol"}, "by the same protocol"
        elif not differing:
            same = np.isclose(cases[columns], other_cases[columns], rtol=1e-6)
            differing = set(cases["case"][~same.all(axis=1)])
            what = "on the same references"
        if differing:
            raise ValueError(
                f"The evaluations {first}/cases.csv and {folder}/cases.csv must be "
                f"made {what}. They differ in {', '.join(sorted(differing))}: evaluate "
                "one again, with --subset if it lacks predictions."
            )
    return found


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
    differences = pd.Series(np.round(second - first, _DECIMALS)).dropna()
    changed = differences[differences != 0]
    p, effect = (1.0, 0.0) if len(differences) else (math.nan, math.nan)
    if len(changed):
        ranks = changed.abs().rank()
        effect = float((ranks * np.sign(changed)).sum() / ranks.sum())
        p = float(stats.wilcoxon(changed).pvalue)
    found = summarize_values(differences.to_numpy(), seed=seed)
    return {
        "n": found["n"],
        "mean_difference": found["mean"],
        "ci_low": found["ci_low"],
        "ci_high": found["ci_high"],
        "median_difference": found["median"],
        "effect": effect,
        "p": p,
    }


def compare_pairs(
    short: str,
    values: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the tests of one metric, corrected together, a row for each pair.

    Args:
        short: Name of the metric.
        values: Values of each model, a column of its name, a row for each case.
        pairs: Names of the first and the second model of each pair.
        seed: Seed of the bootstrap.
    """
    rows: list[dict[str, Any]] = [
        {"metric": short, "first": first, "second": second}
        | compare_pair(values[first], values[second], seed=seed)
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
    p = pd.Series(p_values, dtype=float)
    rising = p.dropna().sort_values()
    corrected = (rising * np.arange(len(rising), 0, -1)).cummax().clip(upper=1)
    return [float(value) for value in corrected.reindex(p.index)]


def is_best(means: pd.Series, better: str) -> pd.Series:
    """Return whether each mean is the best, or one of the best; NaN never is.

    Args:
        means: Means of one metric.
        better: Which values are better: ``higher``, ``lower`` or ``zero``.
    """
    scores = {"higher": means, "lower": -means, "zero": -means.abs()}[better]
    return scores == scores.max()
