"""Lays out the tables of a study in Markdown and TeX, as the paper does.

Methods are columns and metrics are rows; a cell is a mean with its SD, and a star marks
the best mean of a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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

_WITHOUT_LESIONS = PAPER_METRICS[:4]  # Table 3
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
    lines = [f"# {TITLES[name]}", "", *_notes(values), ""]
    for block in dict.fromkeys(values["block"]):
        rows = values[values["block"] == block]
        if block:
            lines += [f"## {block}", ""]
        lines += [*_markdown(*_grid(name, rows)), ""]
        if paper and rows["paper"].any():
            lines += [f"In the paper ({_PAPER}):", ""]
            lines += [*_markdown(*_grid(name, rows, printed=True)), ""]
        if tests is not None and len(tests):
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
    lines += [rf"\caption{{{_tex(caption)}. {_tex(' '.join(_notes(values)))}}}"]
    for block in dict.fromkeys(values["block"]):
        rows = values[values["block"] == block]
        lines += _tabular(block, *_grid(name, rows))
        if paper and rows["paper"].any():
            title = f"{block}, {_PAPER}" if block else _PAPER
            lines += [
                r"\medskip",
                "",
                *_tabular(title, *_grid(name, rows, printed=True)),
            ]
        lines.append("")
    lines[-1:] = [r"\end{table}", ""]
    return "\n".join(lines)


def _notes(values: pd.DataFrame) -> list[str]:
    """Return what has to be said of the numbers."""
    if "sd" not in values:
        return ["Times are sums over the epochs of a training, on the study's machine."]
    known = values[values["n"] > 0]
    counts = {
        over: int(rows["n"].max()) for over, rows in known.groupby("over", sort=False)
    }
    over = " and ".join(f"{n} {what}" for what, n in counts.items()) or "no cases"
    return [f"Mean (standard deviation) over {over}; *, best mean."]


def _grid(
    name: str, rows: pd.DataFrame, *, printed: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of a block; those of the paper if ``printed``."""
    if name == "table2":
        metrics: Sequence[str] = list(dict.fromkeys(rows["metric"]))
    else:
        metrics = _WITHOUT_LESIONS if name == "table3" else PAPER_METRICS
    methods = list(dict.fromkeys(rows["method"]))
    if printed:
        methods = [m for m in methods if rows[rows["method"] == m]["paper"].any()]
    cells = rows.set_index(["metric", "method"])
    body = [
        [
            PRINTED_NAMES.get(metric, metric),
            *(_cell(cells.loc[metric, method], printed=printed) for method in methods),
        ]
        for metric in metrics
    ]
    return ["", *methods], body


def _cell(row: pd.Series, *, printed: bool) -> str:
    """Return the text of a cell."""
    if printed:
        return str(row["paper"])
    if math.isnan(row["mean"]):
        return "-"
    mean = f"{row['mean']:.3f}"
    if "sd" not in row:
        return mean
    sd = "-" if math.isnan(row["sd"]) else f"{row['sd']:.3f}"
    return f"{mean}{'*' if row['best'] else ''} ({sd})"


def _differences(name: str, tests: pd.DataFrame) -> list[str]:
    """Return the differences of a block as Markdown, of every split."""
    lines: list[str] = []
    metrics = _WITHOUT_LESIONS if name == "table3" else PAPER_METRICS
    for split in dict.fromkeys(tests["split"]):
        rows = tests[tests["split"] == split]
        cells = rows.set_index(["metric", "other"])
        others = list(dict.fromkeys(rows["other"]))
        where = f" in split {split}" if tests["split"].nunique() > 1 else ""
        lines += [
            f"{rows['reference'].iloc[0]} minus the others{where}: mean difference, "
            "its 95 % bootstrap interval, and p of a Wilcoxon signed-rank test with "
            f"Holm's correction for {len(others)} comparison{'s' * (len(others) > 1)}.",
            "",
        ]
        body = [
            [
                PRINTED_NAMES.get(m, m),
                *(_difference(cells.loc[m, other]) for other in others),
            ]
            for m in metrics
        ]
        lines += [*_markdown(["", *others], body), ""]
    return lines


def _difference(row: pd.Series) -> str:
    """Return a difference with interval and p as text."""
    if math.isnan(row["mean_difference"]):
        return "-"
    text = f"{row['mean_difference']:+.3f}"
    if not math.isnan(row["ci_low"]):
        text += f" ({row['ci_low']:+.3f} to {row['ci_high']:+.3f})"
    p = row["p_holm"]
    return f"{text}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def _markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return [f"| {' | '.join(cells)} |".replace("*", r"\*") for cells in lines]


def _tabular(
    block: str, header: Sequence[str], body: Sequence[Sequence[str]]
) -> list[str]:
    """Return the lines of a tabular."""
    width = len(header)
    title = [rf"\multicolumn{{{width}}}{{l}}{{{_tex(block)}}} \\"] if block else []
    lines = [" & ".join(map(_tex, cells)) + r" \\" for cells in (header, *body)]
    return [
        rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\toprule",
        *title,
        lines[0],
        r"\midrule",
        *lines[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _tex(text: str) -> str:
    """Return a text in which nothing is a command of TeX."""
    for character in "&%_#$":
        text = text.replace(character, f"\\{character}")
    return text.replace("~", r"$\sim$").replace("*", r"$^*$")
