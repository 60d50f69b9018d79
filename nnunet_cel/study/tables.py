"""Makes the tables of a study from the evaluations of its models.

Words:

- *group*: the cases of one fold (Table 3) or of one split (all others).
- *over*: what mean and SD of a number are taken over: the cases of the only group, or
  the means of several groups, as in Table 3 of the paper.
- *reference*: the method that the others of its block are tested against.

Every table has five files: ``NAME.csv`` (one row for each method and metric),
``NAME_tests.csv`` (differences from the reference), ``NAME_cases.csv`` (the rows of
``cases.csv`` that all is computed from), and ``NAME.md`` and ``NAME.tex`` to be read.
Table 2 is about networks, and has neither cases nor tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.comparison import (
    best_means,
    check_comparable,
    compare_pairs,
    read_evaluation,
)
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.summary import bootstrap_interval
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.files import write_whole
from nnunet_cel.report.paper import PRINTED_NAMES, paper_table
from nnunet_cel.report.training_log import read_training
from nnunet_cel.schema import closest
from nnunet_cel.study.layout import as_markdown, as_tex
from nnunet_cel.study.models import (
    FOLD,
    Method,
    cel_datasets,
    evaluation_folders,
    fold_folder,
    table_methods,
    table_names,
    wmh_dataset,
)
from nnunet_cel.study.plans import count_parameters
from nnunet_cel.study.study import Study

__all__ = [
    "PARAMETERS",
    "chosen_names",
    "make_network_table",
    "make_table",
    "read_cases",
    "summarize",
    "write_tables",
]

PARAMETERS = "Parameters (M)"
"""First row of Table 2."""

_KEYS = ["block", "method", "stage", "configuration", "group", "evaluation"]
_TEST_COLUMNS = [
    *("block", "split", "metric", "reference", "other", "n", "mean_difference"),
    *("ci_low", "ci_high", "median_difference", "effect", "p", "p_holm", "better"),
]


def write_tables(
    study: Study,
    home: Path,
    *,
    only: Collection[str] | None = None,
    partial: bool = False,
) -> list[Path]:
    """Write tables into the folder of a study and return those to be read.

    Args:
        study: The study.
        home: Its folder.
        only: Names of tables; None for all of the study.
        partial: Whether models that are not evaluated yet are left blank.

    Raises:
        FileNotFoundError: If a model is not evaluated yet and `partial` is False.
        ValueError: If a name is unknown, or evaluations cannot be compared.
    """
    folder = home / "tables"
    folder.mkdir(exist_ok=True)
    written = []
    for name in chosen_names(only, table_names(study), "table"):
        tests = None
        if name == "table2":
            values = make_network_table(study, home, partial=partial)
        else:
            values, tests, cases = make_table(study, home, name, partial=partial)
            write_table(folder / f"{name}_tests.csv", tests)
            write_table(folder / f"{name}_cases.csv", cases)
        write_table(folder / f"{name}.csv", values)
        write_whole(folder / f"{name}.tex", as_tex(name, values))
        written.append(folder / f"{name}.md")
        write_whole(written[-1], as_markdown(name, values, tests))
    return written


def chosen_names(
    only: Collection[str] | None, known: Sequence[str], what: str
) -> list[str]:
    """Return the names that are wanted, in their known order.

    Raises:
        ValueError: If one is not known.
    """
    for name in only or ():
        if name not in known:
            raise ValueError(
                f"The name of a {what} must be one of this study: {', '.join(known)}. "
                f"Got {name!r} instead.{closest(name, known)}"
            )
    return [name for name in known if only is None or name in only]


def make_table(
    study: Study, home: Path, name: str, *, partial: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Make one table of metrics.

    Args:
        study: The study.
        home: Its folder.
        name: Name of the table, ``table3`` to ``table8`` or ``transfer``.
        partial: Whether models that are not evaluated yet are left blank.

    Returns:
        Values, one row for each method and metric; tests, one for each metric and
        method that is tested against the reference; and cases, see :func:`read_cases`.

    Raises:
        FileNotFoundError: If a model is not evaluated yet and `partial` is False.
        ValueError: If evaluations cannot be compared.
    """
    methods = table_methods(study, name)
    cases = read_cases(study, home, methods, partial=partial)
    printed = paper_table(name) if study.paper else {}
    values, tests = [], []
    for block in dict.fromkeys(method.block for method in methods):
        own = [method for method in methods if method.block == block]
        rows = cases[cases["block"] == block]
        # Of Table 5 the paper has small windows only.
        values += _values(rows, own, printed if block == methods[0].block else {})
        tests += _tests(rows, own)
    renamed = {"first": "other", "second": "reference"}
    found = pd.DataFrame(tests).rename(columns=renamed).reindex(columns=_TEST_COLUMNS)
    return pd.DataFrame(values), found, cases


def read_cases(
    study: Study, home: Path, methods: Iterable[Method], *, partial: bool = False
) -> pd.DataFrame:
    """Return the cases of methods: one row for each method, group and case.

    Before the columns of ``cases.csv`` are ``block``, ``method`` (its title),
    ``stage``, ``configuration``, ``group`` and ``evaluation`` (its folder).

    Args:
        study: The study.
        home: Its folder.
        methods: The methods.
        partial: Whether evaluations that are missing are left out.

    Raises:
        FileNotFoundError: If an evaluation is missing and `partial` is False.
        ValueError: If one is damaged, or they did not measure the same thing.
    """
    tables: dict[tuple[str, ...], pd.DataFrame] = {}
    groups: dict[str, dict[str, tuple[pd.DataFrame, dict[str, Any]]]] = {}
    protocols = set()
    for method in methods:
        for group, folder in evaluation_folders(study, method).items():
            if partial and not (home / folder / "summary.json").is_file():
                continue
            evaluation = read_evaluation(home / folder)
            groups.setdefault(group, {})[folder] = evaluation
            names = (method.block, method.title, method.stage, method.configuration)
            key = (*names, group, folder)
            tables[key] = evaluation[0]
            protocols.add(str(evaluation[1]["protocol"]))
    if len(protocols) > 1:
        raise ValueError(
            "The evaluations of a table must be by the same protocol. They are by "
            f"{len(protocols)}: remove the folder 'evaluations' of the study and run "
            "it again."
        )
    for evaluations in groups.values():
        check_comparable(evaluations)
    if not tables:
        return pd.DataFrame(columns=[*_KEYS, "case", *METRICS])
    cases = pd.concat(tables, names=_KEYS).reset_index(_KEYS)
    return cases.reset_index(drop=True)


def summarize(cases: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Return `over`, `n`, `mean`, `sd` and the 95 % interval of a metric.

    With several groups `n` is their number, and mean and SD are those of their means.
    The interval comes from a bootstrap over all cases; there is none for several
    splits, which share patients.

    Args:
        cases: Cases of one method, see :func:`read_cases`.
        metric: Name of the metric.
    """
    values = cases[metric].dropna().astype(float)
    interval, over = bootstrap_interval(values.to_numpy()), "cases"
    if cases["group"].nunique() > 1:
        over = cases["group"].iloc[0].split()[0] + "s"  # folds or splits
        values = values.groupby(cases["group"]).mean()
    low, high = interval if over != "splits" else (np.nan, np.nan)
    mean, sd = values.mean(), values.std(ddof=1)
    found = {"n": len(values), "mean": mean, "sd": sd, "ci_low": low, "ci_high": high}
    return {"over": over, **found}


def make_network_table(
    study: Study, home: Path, *, partial: bool = False
) -> pd.DataFrame:
    """Return Table 2: one row for each network and quantity.

    Times are sums over the epochs of a training, those that were repeated once, and
    means over folds and splits.

    Args:
        study: The study.
        home: Its folder.
        partial: Whether trainings that are missing are left blank.

    Raises:
        FileNotFoundError: If a training is missing and `partial` is False.
        ValueError: If its log has no epoch, likewise.
    """
    printed = paper_table("table2") if study.paper else {}
    folds, wmh = range(study.training.folds), wmh_dataset(study)
    rows: list[dict[str, Any]] = []
    for method in table_methods(study, "table2"):
        name = method.configuration
        pretrained = [fold_folder(study, "pretrained", wmh, name, n) for n in folds]
        finetuned = [
            fold_folder(study, "finetuned", dataset, name, FOLD)
            for dataset in cel_datasets(study)
        ]
        values = {
            PARAMETERS: count_parameters(study, name) / 1e6,
            "Training time (h)": _mean_hours(home, pretrained, partial=partial),
            "Fine-tuning time (h)": _mean_hours(home, finetuned, partial=partial),
        }
        names = {"block": "", "method": method.title, "configuration": name}
        cells = printed.get(method.title, {})
        rows += [
            names | {"metric": metric, "mean": value, "paper": cells.get(metric, "")}
            for metric, value in values.items()
        ]
    return pd.DataFrame(rows)


def _mean_hours(home: Path, folds: Iterable[str], *, partial: bool) -> float:
    """Return the mean time of trainings in hours."""
    hours = []
    for fold in folds:
        try:
            hours.append(read_training(home / fold)["seconds"].sum() / 3600)
        except (FileNotFoundError, ValueError):
            if not partial:
                raise
    return float(np.mean(hours)) if hours else np.nan


def _values(
    cases: pd.DataFrame,
    methods: Sequence[Method],
    printed: Mapping[str, Mapping[str, str]],
) -> list[dict[str, Any]]:
    """Return one row for each metric and method of a block.

    Args:
        cases: Cases of the block.
        methods: Its methods.
        printed: The paper's cells, by title and metric.
    """
    rows: list[dict[str, Any]] = []
    for short, metric in METRICS.items():
        of_metric = []
        for method in methods:
            own = cases[cases["method"] == method.title]
            cells = printed.get(method.title, {})
            of_metric.append(
                {
                    "block": method.block,
                    "method": method.title,
                    "stage": method.stage,
                    "configuration": method.configuration,
                    "metric": short,
                    **summarize(own, short),
                    "best": False,
                    "paper": cells.get(PRINTED_NAMES.get(short, short), ""),
                    "evaluations": "; ".join(own["evaluation"].unique()),
                }
            )
        means = [row["mean"] for row in of_metric]
        best = best_means(means, metric.better)
        if len(best) < np.count_nonzero(~np.isnan(means)):  # not all the same
            for number in best:
                of_metric[number]["best"] = True
        rows += of_metric
    return rows


def _tests(cases: pd.DataFrame, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Return the differences of the reference of a block from the others.

    An effect above 0 stands for higher values of the reference. Every case is in one
    fold, but may be in several splits, each of which is tested for itself.

    Args:
        cases: Cases of the block.
        methods: Its methods.
    """
    reference = next((method.title for method in methods if method.reference), None)
    splits = cases["group"].str.extract(r"split (\d+)")[0].fillna("")
    rows: list[dict[str, Any]] = []
    for split, own in cases.groupby(splits, sort=False):
        own = own.set_index(["group", "case", "method"])
        place = {"block": methods[0].block, "split": split}
        for short in METRICS:
            table = own[short].unstack(sort=False)
            values = {name: table[name].to_numpy(dtype=float) for name in table}
            if reference is not None and reference in values:
                pairs = [(name, reference) for name in values if name != reference]
                tests = compare_pairs(short, values, pairs)
                rows += [place | test for test in tests]
    return rows
