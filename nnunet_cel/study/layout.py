"""Lays out the tables of a study in Markdown and TeX, as the paper does.

Methods are columns and metrics are rows; a cell is a mean with its SD, and a star marks
the best mean of a row. The paper's numbers are further rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.tables import number
from nnunet_cel.report.paper import PAPER_METRICS, PRINTED_NAMES
from nnunet_cel.study.models import TRANSFER

__all__ = ["TITLES", "as_markdown", "as_tex"]

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
    """Return a table as TeX, for the package booktabs.

    Args:
        name: Name of the table.
        values: One row for each method and metric, with ``mean`` and ``paper``.
    """
    caption = f"{TITLES[name].partition('. ')[2] or TITLES[name]}. {_note(values)}"
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
    ours = values.assign(
        numbers="this study", text=[_mean(row) for _, row in values.iterrows()]
    )
    paper = values[values["paper"] != ""]
    paper = paper.assign(numbers="Huang et al. 2024", text=paper["paper"])
    return _grid(name, pd.concat([ours, paper]), "method")


def _grid(name: str, rows: pd.DataFrame, columns: str) -> pd.DataFrame:
    """Return texts in the order and under the names of the paper's tables.

    Args:
        name: Name of the table.
        rows: One row for each ``text``, with its ``metric``.
        columns: What the columns of the table are.
    """
    if name != "table2":
        shown = PAPER_METRICS[: 4 if name == "table3" else None]
        rows = rows[rows["metric"].isin(shown)]
    parts = [
        part
        for part in ("block", "numbers", "split")
        if part in rows and rows[part].nunique() > 1
    ]
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


def _mean(row: pd.Series) -> str:
    """Return a mean with its SD and its star."""
    mean = number(row["mean"])
    if "sd" not in row or np.isnan(row["mean"]):
        return mean
    return f"{mean}{'*' if row['best'] else ''} ({number(row['sd'])})"


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
