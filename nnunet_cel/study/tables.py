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

To be read, methods are columns and metrics are rows, as in the paper; a cell is a mean
with its SD, and a star marks the best mean of a row. The paper's numbers are below.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.comparison import (
    compare_pairs,
    is_best,
    read_evaluations,
)
from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.summary import bootstrap_interval
from nnunet_cel.evaluation.tables import number, write_table
from nnunet_cel.files import write_whole
from nnunet_cel.report.paper import PAPER_METRICS, PRINTED_NAMES, paper_table
from nnunet_cel.report.training_log import read_training
from nnunet_cel.schema import closest
from nnunet_cel.study.models import (
    FOLD,
    TRANSFER,
    Method,
    cel_datasets,
    evaluation_folders,
    model_folder,
    table_methods,
    table_names,
    wmh_dataset,
)
from nnunet_cel.study.plans import count_parameters
from nnunet_cel.study.study import Study

__all__ = [
    "as_markdown",
    "as_tex",
    "chosen_names",
    "read_cases",
    "summarize",
    "write_tables",
]

TITLES: Mapping[str, str] = {
    "table2": "Table 2. Networks",
    "table3": "Table 3. Networks in the cross-validation of their pretraining",
    "table4": "Table 4. Pretrained models on the CEL test half",
    "table5": "Table 5. Models trained directly, on the CEL test half",
    "table6": "Table 6. Fine-tuned models on the CEL test half",
    "table7": "Table 7. FCA-DenseNet fine-tuned with different losses",
    "table8": "Table 8. FCA-DenseNet with different numbers of neighbors, fine-tuned",
    TRANSFER: "Fine-tuning and direct training of every network",
}
"""Title of each table, by its name."""

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
            values = _network_table(study, home, partial)
        else:
            cases = read_cases(study, home, table_methods(study, name), partial=partial)
            values, tests = _compare(study, name, cases)
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
    keys = [
        (method.block, method.title, method.stage, method.configuration, group, folder)
        for method in methods
        for group, folder in evaluation_folders(study, method).items()
        if not partial or (home / folder / "summary.json").is_file()
    ]
    if not keys:
        return pd.DataFrame(columns=[*_KEYS, "case", *METRICS])
    groups: dict[str, list[Path]] = {}
    for *_, group, folder in keys:
        groups.setdefault(group, []).append(home / folder)
    found: dict[Path, Any] = {}
    for folders in groups.values():
        found |= read_evaluations(folders)
    tables = [found[home / folder][0] for *_, folder in keys]
    joined = pd.concat(tables, keys=keys, names=_KEYS)
    return joined.reset_index(_KEYS).reset_index(drop=True)


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


def _compare(
    study: Study, name: str, cases: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return values and tests of a table of metrics, block by block."""
    printed = paper_table(name) if study.paper else {}
    every = table_methods(study, name)
    values: list[pd.DataFrame] = []
    tests: list[dict[str, Any]] = []
    for block in dict.fromkeys(method.block for method in every):
        methods = [method for method in every if method.block == block]
        own = cases[cases["block"] == block]
        values += _values(own, methods, printed)
        tests += _tests(own, methods)
        printed = {}  # of Table 5 the paper has the first block only
    renamed = {"first": "other", "second": "reference"}
    found = pd.DataFrame(tests).rename(columns=renamed).reindex(columns=_TEST_COLUMNS)
    return pd.concat(values, ignore_index=True), found


def _values(
    cases: pd.DataFrame,
    methods: Sequence[Method],
    printed: Mapping[str, Mapping[str, str]],
) -> list[pd.DataFrame]:
    """Return one row for each method of a block, metric by metric, with the paper's."""
    parts = []
    for short, metric in METRICS.items():
        rows: list[dict[str, Any]] = []
        for method in methods:
            own = cases[cases["method"] == method.title]
            cells = printed.get(method.title, {})
            rows.append(
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
        parts.append(pd.DataFrame(rows))
        best = is_best(parts[-1]["mean"], metric.better)
        if best.sum() < parts[-1]["mean"].notna().sum():  # not all the same
            parts[-1]["best"] = best
    return parts


def _tests(cases: pd.DataFrame, methods: Sequence[Method]) -> list[dict[str, Any]]:
    """Return the differences of the reference of a block from the others.

    An effect above 0 stands for higher values of the reference. Every case is in one
    fold, but may be in several splits, each of which is tested for itself.
    """
    reference = next((method.title for method in methods if method.reference), "")
    splits = cases["group"].str.extract(r"split (\d+)")[0].fillna("")
    rows: list[dict[str, Any]] = []
    for split, own in cases.groupby(splits, sort=False):
        own = own.set_index(["group", "case", "method"])
        for short in METRICS:
            table = own[short].astype(float).unstack(sort=False)
            if reference in table:
                pairs = [(name, reference) for name in table if name != reference]
                place = {"block": methods[0].block, "split": split}
                rows += [place | test for test in compare_pairs(short, table, pairs)]
    return rows


def _network_table(study: Study, home: Path, partial: bool) -> pd.DataFrame:
    """Return Table 2: one row for each network and quantity.

    Times are sums over the epochs of a training, those that were repeated once, and
    means over folds and splits.
    """
    printed = paper_table("table2") if study.paper else {}
    pretrained = [(wmh_dataset(study), fold) for fold in range(study.training.folds)]
    finetuned = [(dataset, FOLD) for dataset in cel_datasets(study)]
    rows: list[dict[str, Any]] = []
    for method in table_methods(study, "table2"):
        name = method.configuration
        values = {"Parameters (M)": count_parameters(study, name) / 1e6}
        for metric, stage, models in (
            ("Training time (h)", "pretrained", pretrained),
            ("Fine-tuning time (h)", "finetuned", finetuned),
        ):
            folders = [model_folder(study, stage, data, name, n) for data, n in models]
            hours = [_hours(home / folder, partial) for folder in folders]
            values[metric] = pd.Series(hours).mean()
        names = {"block": "", "method": method.title, "configuration": name}
        cells = printed.get(method.title, {})
        rows += [
            names | {"metric": metric, "mean": value, "paper": cells.get(metric, "")}
            for metric, value in values.items()
        ]
    return pd.DataFrame(rows)


def _hours(fold: Path, partial: bool) -> float:
    """Return the time of a training."""
    try:
        return float(read_training(fold)["seconds"].sum()) / 3600
    except (FileNotFoundError, ValueError):
        if partial:
            return np.nan
        raise


def as_markdown(
    name: str, values: pd.DataFrame, tests: pd.DataFrame | None = None
) -> str:
    """Return a table as Markdown.

    Args:
        name: Name of the table.
        values: One row for each method and metric, with ``mean`` and ``paper``.
        tests: Differences from the reference, None or empty for none.
    """
    parts = [f"# {TITLES[name]}", _note(values), _markdown(_means(name, values))]
    if tests is not None and len(tests):
        parts.append(
            f"{tests['reference'].iloc[0]} minus the others: mean difference, its 95 % "
            "bootstrap interval, and p of a Wilcoxon signed-rank test with Holm's "
            "correction for the number of others."
        )
        texts = [_difference(row) for _, row in tests.iterrows()]
        parts.append(_markdown(_grid(name, tests.assign(text=texts), "other")))
    return "\n\n".join(parts) + "\n"


def as_tex(name: str, values: pd.DataFrame) -> str:
    """Return a table as TeX, for the package booktabs, see :func:`as_markdown`."""
    caption = f"{TITLES[name].rpartition('. ')[2]}. {_note(values)}"
    table = _means(name, values).to_latex(index=False, escape=True, caption=caption)
    return f"% needs \\usepackage{{booktabs}}\n{table}"


def _note(values: pd.DataFrame) -> str:
    """Return what has to be said of the numbers."""
    if "sd" not in values:
        return "Times are sums over the epochs of a training, on the study's machine."
    counts = values[values["n"] > 0].groupby("over", sort=False)["n"].max()
    over = " and ".join(f"{n} {what}" for what, n in counts.items()) or "no cases"
    return f"Mean (standard deviation) over {over}; *, best mean."


def _means(name: str, values: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of a table, with those of the paper below."""
    texts = values["mean"].map(number)
    if "sd" in values:
        stars = values["best"].map({True: "*", False: ""})
        whole = texts + stars + " (" + values["sd"].map(number) + ")"
        texts = whole.where(values["mean"].notna(), texts)
    ours = values.assign(numbers="this study", text=texts)
    paper = values[values["paper"] != ""]
    paper = paper.assign(numbers="Huang et al. 2024", text=paper["paper"])
    return _grid(name, pd.concat([ours, paper]), "method")


def _grid(name: str, rows: pd.DataFrame, columns: str) -> pd.DataFrame:
    """Return the `text` of rows in the order and under the names of the paper."""
    if name != "table2":
        shown = PAPER_METRICS[: 4 if name == "table3" else None]
        rows = rows[rows["metric"].isin(shown)]
    parts = [part for part in ("block", "numbers", "split") if part in rows]
    parts = [part for part in parts if rows[part].nunique() > 1]
    grid = rows.replace({"metric": PRINTED_NAMES}).pivot_table(
        index=[*parts, "metric"],
        columns=columns,
        values="text",
        aggfunc="first",
        fill_value="-",
        sort=False,
    )
    return grid.rename_axis(columns=None).reset_index()


def _markdown(grid: pd.DataFrame) -> str:
    """Return a table as Markdown, in which stars are no emphasis."""
    plain = grid.replace(r"\*", r"\\*", regex=True)
    return str(plain.to_markdown(index=False, disable_numparse=True))


def _difference(row: pd.Series) -> str:
    """Return a difference with interval and p as text."""
    if np.isnan(row["mean_difference"]):
        return "-"
    text = number(row["mean_difference"], sign=True)
    if not np.isnan(row["ci_low"]):
        low, high = (number(row[end], sign=True) for end in ("ci_low", "ci_high"))
        text += f" ({low} to {high})"
    p = row["p_holm"]
    return f"{text}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
