"""Makes the tables of a study from the evaluations of its models.

Words:

- *group*: see :mod:`nnunet_cel.study.measured`.
- *reference*: the method that the others of its block are tested against.

Every table has five files: ``NAME.csv`` (one row for each method and metric),
``NAME_tests.csv`` (differences from the reference), ``NAME_cases.csv`` (the rows of
``cases.csv`` that all is computed from), and ``NAME.md`` and ``NAME.tex`` to be read.
Table 2 is about networks, and has neither cases nor tests.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.comparison import (
    best_means,
    better_model,
    compare_pair,
    holm,
)
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.files import write_whole
from nnunet_cel.report.paper import PRINTED_NAMES, mean_and_sd, paper_table
from nnunet_cel.schema import closest
from nnunet_cel.study.layout import as_markdown, as_tex
from nnunet_cel.study.measured import Measured, read_measured, summarize
from nnunet_cel.study.models import Method, table_methods, table_names
from nnunet_cel.study.network_table import make_network_table
from nnunet_cel.study.study import Study

__all__ = ["Table", "chosen_names", "make_table", "write_tables"]

_KEYS = ("block", "method", "stage", "configuration")
_TEST_COLUMNS = [
    *("block", "split", "metric", "reference", "other", "n", "mean_difference"),
    *("ci_low", "ci_high", "median_difference", "effect", "p", "p_holm", "better"),
]


@dataclass(frozen=True)
class Table:
    """A table of metrics.

    Args:
        name: Its name, such as ``table6``.
        values: One row for each method and metric.
        tests: One row for each metric and method that is tested against the reference.
        cases: One row for each method and case.
    """

    name: str
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
        if name == "table2":
            networks = make_network_table(study, home, partial=partial)
            write_table(folder / f"{name}.csv", networks)
            markdown, tex = (
                write(name, networks, paper=study.paper)
                for write in (as_markdown, as_tex)
            )
        else:
            table = make_table(study, home, name, partial=partial)
            write_table(folder / f"{name}.csv", table.values)
            write_table(folder / f"{name}_tests.csv", table.tests)
            write_table(folder / f"{name}_cases.csv", table.cases)
            markdown = as_markdown(name, table.values, table.tests, paper=study.paper)
            tex = as_tex(name, table.values, paper=study.paper)
        write_whole(folder / f"{name}.tex", tex)
        write_whole(folder / f"{name}.md", markdown)
        written.append(folder / f"{name}.md")
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
    measured = [
        read_measured(study, home, method, partial=partial)
        for method in table_methods(study, name)
    ]
    printed = paper_table(name) if study.paper else {}
    values, tests = [], []
    for block in dict.fromkeys(m.method.block for m in measured):
        rows = [m for m in measured if m.method.block == block]
        # Of Table 5 the paper has small windows only.
        known = printed if block == measured[0].method.block else {}
        values += _values(rows, known)
        tests += _tests(rows)
    return Table(
        name=name,
        values=pd.DataFrame(values),
        tests=pd.DataFrame(tests, columns=_TEST_COLUMNS),
        cases=_cases(measured),
    )


def _values(rows: Sequence[Measured], printed: dict[str, dict[str, str]]) -> list[Any]:
    """Return one row for each method of a block and metric."""
    found = []
    for short, metric in METRICS.items():
        summaries = [summarize(m, short) for m in rows]
        best = best_means([s["mean"] for s in summaries], metric.better)
        if len(best) == sum(not math.isnan(s["mean"]) for s in summaries):
            best = set()  # all the same
        for number, (measured, summary) in enumerate(zip(rows, summaries, strict=True)):
            cell = printed.get(measured.method.title, {}).get(
                PRINTED_NAMES.get(short, short), ""
            )
            mean, sd = mean_and_sd(cell)
            found.append(
                {
                    **_keys(measured.method),
                    "metric": short,
                    **summary,
                    "best": number in best,
                    "paper": cell,
                    "paper_mean": mean,
                    "paper_sd": sd,
                    "evaluations": "; ".join(measured.folders.values()),
                }
            )
    return found


def _tests(rows: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return the differences of the reference of a block from the others."""
    reference = next((m for m in rows if m.method.reference and m.groups), None)
    others = [m for m in rows if m is not reference and m.groups]
    if reference is None or not others:
        return []
    folds = reference.in_folds
    tests: list[dict[str, Any]] = []
    # Every case is in one fold, but may be in several splits.
    for groups in (
        [list(reference.groups)] if folds else [[g] for g in reference.groups]
    ):
        pairs = [m for m in others if set(groups) <= set(m.groups)]
        base = reference.cases(groups)
        joined = [other.cases(groups) for other in pairs]
        for other, cases in zip(pairs, joined, strict=True):
            _check_comparable(reference.method, base, other.method, cases)
        for short, metric in METRICS.items():
            found = [
                compare_pair(
                    cases[short].to_numpy(dtype=float),
                    base[short].to_numpy(dtype=float),
                )
                for cases in joined
            ]
            corrected = holm([row["p"] for row in found])
            for other, row, p_holm in zip(pairs, found, corrected, strict=True):
                # an effect above 0 stands for higher values of the reference
                titles = (other.method.title, reference.method.title)
                tests.append(
                    {
                        "block": reference.method.block,
                        "split": "" if folds else groups[0].removeprefix("split "),
                        "metric": short,
                        "reference": reference.method.title,
                        "other": other.method.title,
                        **row,
                        "p_holm": p_holm,
                        "better": better_model(row["effect"], metric.better, titles),
                    }
                )
    return tests


def _check_comparable(
    first: Method, cases: pd.DataFrame, second: Method, others: pd.DataFrame
) -> None:
    """Refuse evaluations that did not measure the same thing."""
    same = list(cases["case"]) == list(others["case"])
    if not same or not np.allclose(cases["reference_ml"], others["reference_ml"]):
        rule = "of the same cases with the same references"
    elif list(cases["protocol"]) != list(others["protocol"]):
        rule = "by the same protocol"
    else:
        return
    raise ValueError(
        f"The evaluations of {first.stage} {first.configuration} and {second.stage} "
        f"{second.configuration} must be {rule}. They are not: remove the folder "
        "'evaluations' of the study and run it again."
    )


def _cases(measured: Sequence[Measured]) -> pd.DataFrame:
    """Return the cases of all methods in one table."""
    found = []
    for method in measured:
        for group, cases in method.groups.items():
            table = cases.drop(columns="protocol")
            table.insert(0, "evaluation", method.folders[group])
            table.insert(0, "group", group)
            for key, value in reversed(_keys(method.method).items()):
                table.insert(0, key, value)
            found.append(table)
    columns = [*_KEYS, "group", "evaluation", "case"]
    return (
        pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)
    )


def _keys(method: Method) -> dict[str, str]:
    """Return what names a method in a table."""
    values = (method.block, method.title, method.stage, method.configuration)
    return dict(zip(_KEYS, values, strict=True))
