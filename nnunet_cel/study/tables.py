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

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.comparison import (
    best_means,
    better_model,
    compare_pair,
    holm,
    read_evaluation,
)
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.summary import bootstrap_interval, summarize_values
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.files import write_whole
from nnunet_cel.report.paper import PRINTED_NAMES, mean_and_sd, paper_table
from nnunet_cel.report.training_log import read_training
from nnunet_cel.schema import closest
from nnunet_cel.study.layout import as_markdown, as_tex
from nnunet_cel.study.models import (
    CROSS_VALIDATION,
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
    "Table",
    "chosen_names",
    "make_network_table",
    "make_table",
    "read_cases",
    "summarize",
    "write_tables",
]

PARAMETERS = "Parameters (M)"
"""First row of Table 2."""

_KEYS = ["block", "method", "stage", "configuration"]
_TEST_COLUMNS = [
    *("block", "split", "metric", "reference", "other", "n", "mean_difference"),
    *("ci_low", "ci_high", "median_difference", "effect", "p", "p_holm", "better"),
]


class Table(NamedTuple):
    """A table of metrics.

    Args:
        values: One row for each method and metric.
        tests: One row for each metric and method that is tested against the reference.
        cases: One row for each method and case.
    """

    values: pd.DataFrame
    tests: pd.DataFrame
    cases: pd.DataFrame


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
        tex = as_tex(name, values, paper=study.paper)
        write_whole(folder / f"{name}.tex", tex)
        written.append(folder / f"{name}.md")
        markdown = as_markdown(name, values, tests, paper=study.paper)
        write_whole(written[-1], markdown)
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


def make_table(study: Study, home: Path, name: str, *, partial: bool = False) -> Table:
    """Make one table of metrics.

    Args:
        study: The study.
        home: Its folder.
        name: Name of the table, ``table3`` to ``table8`` or ``transfer``.
        partial: Whether models that are not evaluated yet are left blank.

    Raises:
        FileNotFoundError: If a model is not evaluated yet and `partial` is False.
        ValueError: If evaluations cannot be compared.
    """
    methods = table_methods(study, name)
    cases = read_cases(study, home, methods, partial=partial)
    printed = paper_table(name) if study.paper else {}
    values, tests = [], []
    for block in dict.fromkeys(method.block for method in methods):
        rows = cases[cases["block"] == block]
        measured = [
            (method, rows[rows["method"] == method.title])
            for method in methods
            if method.block == block
        ]
        # Of Table 5 the paper has small windows only.
        values += _values(measured, printed if block == methods[0].block else {})
        tests += _tests(measured)
    return Table(
        pd.DataFrame(values), pd.DataFrame(tests, columns=_TEST_COLUMNS), cases
    )


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
        ValueError: If one is damaged, or they are of several protocols.
    """
    tables, protocols = [], set()
    for method in methods:
        for group, folder in evaluation_folders(study, method).items():
            if partial and not (home / folder / "summary.json").is_file():
                continue
            cases, summary = read_evaluation(home / folder)
            protocols.add(str(summary["protocol"]))
            names = {**_keys(method), "group": group, "evaluation": folder}
            tables.append(
                pd.concat([pd.DataFrame(names, index=cases.index), cases], axis=1)
            )
    if len(protocols) > 1:
        raise ValueError(
            "The evaluations of a table must be by the same protocol. They are by "
            f"{len(protocols)}: remove the folder 'evaluations' of the study and run "
            "it again."
        )
    if not tables:
        columns = [*_KEYS, "group", "evaluation", "case", *METRICS]
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)


def summarize(cases: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Return `over`, `n`, `mean`, `sd` and the 95 % interval of a metric.

    With several groups `n` is their number, and mean and SD are those of their means.
    The interval comes from a bootstrap over all cases; there is none for several
    splits, which share patients.

    Args:
        cases: Cases of one method, see :func:`read_cases`.
        metric: Name of the metric.
    """
    columns = [
        values.dropna().to_numpy(dtype=float)
        for _, values in cases.groupby("group", sort=False)[metric]
    ]
    pooled = np.concatenate([*columns, []])
    if len(columns) < 2:
        over, summary = "cases", summarize_values(pooled)
    else:
        over = cases["group"].iloc[0].split()[0] + "s"
        summary = summarize_values(np.array([c.mean() for c in columns if len(c)]))
        summary["ci_low"], summary["ci_high"] = (
            bootstrap_interval(pooled) if over == "folds" else (math.nan, math.nan)
        )
    keep = ("n", "mean", "sd", "ci_low", "ci_high")
    return {"over": over, **{key: summary[key] for key in keep}}


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
    rows: list[dict[str, Any]] = []
    for method in table_methods(study, "table2"):
        name, wmh = method.configuration, wmh_dataset(study)
        pretrained = [
            home / fold_folder(study, "pretrained", wmh, name, fold)
            for fold in range(study.training.folds)
        ]
        finetuned = [
            home / fold_folder(study, "finetuned", dataset, name, FOLD)
            for dataset in cel_datasets(study)
        ]
        values = {
            PARAMETERS: count_parameters(study, name) / 1e6,
            "Training time (h)": _mean_hours(pretrained, partial=partial),
            "Fine-tuning time (h)": _mean_hours(finetuned, partial=partial),
        }
        rows += [
            {
                "block": "",
                "method": method.title,
                "configuration": name,
                "metric": quantity,
                "mean": value,
                "paper": printed.get(method.title, {}).get(quantity, ""),
            }
            for quantity, value in values.items()
        ]
    return pd.DataFrame(rows)


def _mean_hours(folds: list[Path], *, partial: bool) -> float:
    """Return the mean time of trainings in hours."""
    hours = []
    for fold in folds:
        try:
            hours.append(float(read_training(fold)["seconds"].sum()) / 3600)
        except (FileNotFoundError, ValueError):
            if not partial:
                raise
    return sum(hours) / len(hours) if hours else math.nan


def _values(
    measured: Sequence[tuple[Method, pd.DataFrame]], printed: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    """Return one row for each method of a block and metric.

    Args:
        measured: The methods with their cases.
        printed: The paper's cells, by title and metric.
    """
    found = []
    for short, metric in METRICS.items():
        summaries = [summarize(cases, short) for _, cases in measured]
        best = best_means([s["mean"] for s in summaries], metric.better)
        if len(best) == sum(not math.isnan(s["mean"]) for s in summaries):
            best = set()  # all the same
        for number, (method, cases) in enumerate(measured):
            cells = printed.get(method.title, {})
            cell = cells.get(PRINTED_NAMES.get(short, short), "")
            paper_mean, paper_sd = mean_and_sd(cell)
            found.append(
                {
                    **_keys(method),
                    "metric": short,
                    **summaries[number],
                    "best": number in best,
                    "paper": cell,
                    "paper_mean": paper_mean,
                    "paper_sd": paper_sd,
                    "evaluations": "; ".join(cases["evaluation"].unique()),
                }
            )
    return found


def _tests(measured: Sequence[tuple[Method, pd.DataFrame]]) -> list[dict[str, Any]]:
    """Return the differences of the reference of a block from the others.

    Args:
        measured: The methods of the block with their cases.
    """
    known = {method: cases for method, cases in measured if len(cases)}
    reference = next((method for method in known if method.reference), None)
    if reference is None:
        return []
    base = known.pop(reference)
    groups = list(base["group"].unique())
    # Every case is in one fold, but may be in several splits.
    folds = reference.stage == CROSS_VALIDATION
    tests: list[dict[str, Any]] = []
    for part in [groups] if folds else [[group] for group in groups]:
        ours = base[base["group"].isin(part)]
        theirs = {
            method.title: cases[cases["group"].isin(part)]
            for method, cases in known.items()
            if set(part) <= set(cases["group"])
        }
        for cases in theirs.values():
            _check_comparable(ours, cases)
        for short, metric in METRICS.items():
            values = ours[short].to_numpy(dtype=float)
            found = [
                compare_pair(cases[short].to_numpy(dtype=float), values)
                for cases in theirs.values()
            ]
            corrected = holm([row["p"] for row in found])
            for other, row, p_holm in zip(theirs, found, corrected, strict=True):
                # an effect above 0 stands for higher values of the reference
                titles = (other, reference.title)
                tests.append(
                    {
                        "block": reference.block,
                        "split": "" if folds else part[0].removeprefix("split "),
                        "metric": short,
                        "reference": reference.title,
                        "other": other,
                        **row,
                        "p_holm": p_holm,
                        "better": better_model(row["effect"], metric.better, titles),
                    }
                )
    return tests


def _check_comparable(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Refuse evaluations that did not measure the same thing."""
    if list(ours["case"]) == list(theirs["case"]) and np.allclose(
        ours["reference_ml"], theirs["reference_ml"]
    ):
        return
    first, second = (
        f"{cases['stage'].iloc[0]} {cases['configuration'].iloc[0]}"
        for cases in (ours, theirs)
    )
    raise ValueError(
        f"The evaluations of {first} and {second} must be of the same cases with the "
        "same references. They are not: remove the folder 'evaluations' of the study "
        "and run it again."
    )


def _keys(method: Method) -> dict[str, str]:
    """Return what names a method in a table."""
    values = (method.block, method.title, method.stage, method.configuration)
    return dict(zip(_KEYS, values, strict=True))
