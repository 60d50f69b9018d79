"""Lays out the tables of a study in Markdown and TeX, as the paper does.

Methods are columns and metrics are rows; a cell is a mean with its SD, and a star marks
the best mean of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import pandas as pd

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

_PAPER = "Huang et al. 2024"


def as_markdown(
    name: str,
    values: pd.DataFrame,
    tests: pd.DataFrame | None = None,
    *,
    paper: bool = True,
) -> str:
    """Return a table as Markdown.

    Args:
        name: Name of the table.
        values: One row for each method and metric, with ``mean`` and ``paper``.
        tests: Differences from the reference, None or empty for none.
        paper: Whether the paper's numbers follow.
    """
    lines = [f"# {TITLES[name]}", "", _note(values), ""]
    for block, grid, printed in _grids(name, values):
        if block:
            lines += [f"## {block}", ""]
        lines += [*_markdown(grid), ""]
        if paper and printed is not None:
            lines += [f"In the paper ({_PAPER}):", "", *_markdown(printed), ""]
        if tests is not None:
            lines += _differences(name, tests[tests["block"] == block])
    return "\n".join(lines).rstrip() + "\n"


def as_tex(name: str, values: pd.DataFrame, *, paper: bool = True) -> str:
    """Return a table as TeX, for the package booktabs.

    Args:
        name: Name of the table.
        values: One row for each method and metric, with ``mean`` and ``paper``.
        paper: Whether the paper's numbers follow.
    """
    caption = TITLES[name].partition(". ")[2] or TITLES[name]
    lines = [r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{_tex(caption)}. {_tex(_note(values))}}}"]
    for block, grid, printed in _grids(name, values):
        lines += _tabular(block, grid)
        if paper and printed is not None:
            title = f"{block}, {_PAPER}" if block else _PAPER
            lines += [r"\medskip", "", *_tabular(title, printed)]
        lines.append("")
    lines[-1:] = [r"\end{table}", ""]
    return "\n".join(lines)


def _note(values: pd.DataFrame) -> str:
    """Return what has to be said of the numbers."""
    if "sd" not in values:
        return "Times are sums over the epochs of a training, on the study's machine."
    counts = values[values["n"] > 0].groupby("over", sort=False)["n"].max()
    over = " and ".join(f"{n} {what}" for what, n in counts.items()) or "no cases"
    return f"Mean (standard deviation) over {over}; *, best mean."


def _grids(
    name: str, values: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame | None]]:
    """Yield each block with its cells and those of the paper, if it has any."""
    for block, rows in values.groupby("block", sort=False):
        printed = rows.groupby("method")["paper"].transform(lambda cells: cells.any())
        yield (
            block,
            _grid(name, rows, _cell),
            _grid(name, rows[printed], lambda row: str(row["paper"]))
            if printed.any()
            else None,
        )


def _grid(
    name: str,
    rows: pd.DataFrame,
    text: Callable[[pd.Series], str],
    columns: str = "method",
) -> pd.DataFrame:
    """Return the cells of a block as texts, one row for each metric.

    Args:
        name: Name of the table.
        rows: One row for each cell.
        text: Returns the text of a cell.
        columns: What the columns of the table are.
    """
    shown = {"table2": list(rows["metric"].unique()), "table3": PAPER_METRICS[:4]}
    metrics = list(shown.get(name, PAPER_METRICS))
    cells = rows.assign(text=[text(row) for _, row in rows.iterrows()])
    grid = cells.pivot(index="metric", columns=columns, values="text")
    return grid.loc[metrics, rows[columns].unique()].rename(index=PRINTED_NAMES)


def _cell(row: pd.Series) -> str:
    """Return a mean with its SD and its star."""
    if math.isnan(row["mean"]):
        return "-"
    mean = f"{row['mean']:.3f}"
    if "sd" not in row:
        return mean
    sd = "-" if math.isnan(row["sd"]) else f"{row['sd']:.3f}"
    return f"{mean}{'*' if row['best'] else ''} ({sd})"


def _differences(name: str, tests: pd.DataFrame) -> Iterator[str]:
    """Yield the differences of a block as Markdown, of every split."""
    for split, rows in tests.groupby("split", sort=False):
        where = f" in split {split}" if tests["split"].nunique() > 1 else ""
        others = rows["other"].nunique()
        yield (
            f"{rows['reference'].iloc[0]} minus the others{where}: mean difference, "
            "its 95 % bootstrap interval, and p of a Wilcoxon signed-rank test with "
            f"Holm's correction for {others} comparison{'s' * (others > 1)}."
        )
        yield ""
        yield from _markdown(_grid(name, rows, _difference, columns="other"))
        yield ""


def _difference(row: pd.Series) -> str:
    """Return a difference with interval and p as text."""
    if math.isnan(row["mean_difference"]):
        return "-"
    text = f"{row['mean_difference']:+.3f}"
    if not math.isnan(row["ci_low"]):
        text += f" ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
    p = row["p_holm"]
    return f"{text}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def _lines(grid: pd.DataFrame) -> list[list[str]]:
    """Return header and rows of a table, each with its name before it."""
    return [["", *grid.columns], *([index, *row] for index, *row in grid.itertuples())]


def _markdown(grid: pd.DataFrame) -> list[str]:
    """Return the lines of a Markdown table."""
    header, *body = _lines(grid)
    lines = [header, ["---"] * len(header), *body]
    return [f"| {' | '.join(cells)} |".replace("*", r"\*") for cells in lines]


def _tabular(block: str, grid: pd.DataFrame) -> list[str]:
    """Return the lines of a tabular."""
    width = len(grid.columns)
    title = [rf"\multicolumn{{{width + 1}}}{{l}}{{{_tex(block)}}} \\"] if block else []
    header, *body = [" & ".join(map(_tex, cells)) + r" \\" for cells in _lines(grid)]
    return [
        rf"\begin{{tabular}}{{l{'r' * width}}}",
        r"\toprule",
        *title,
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _tex(text: str) -> str:
    """Return a text in which nothing is a command of TeX."""
    for character in "&%_#$":
        text = text.replace(character, f"\\{character}")
    return text.replace("~", r"$\sim$").replace("*", r"$^*$")
