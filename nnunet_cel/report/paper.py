"""The paper's own numbers, as it printed them, to put others beside them.

Huang L, Zhao Z, An L, et al. Quant Imaging Med Surg 2024;14(1):273-290, Tables 2 to 8.
They are in ``workflow/paper``, one CSV file for each table. Stars mark the best there;
`NA/0` is a model whose output was blank.
"""

from __future__ import annotations

import importlib.resources
import math
import re
from collections.abc import Mapping

import pandas as pd

__all__ = [
    "PAPER_METRICS",
    "PRINTED_NAMES",
    "TABLE_6",
    "mean_and_sd",
    "paper_table",
]

PAPER_METRICS = ("DSC", "PPV", "TPR", "VD", "LFDR", "L-sens")
"""The paper's metrics, in the order of its tables."""

PRINTED_NAMES: Mapping[str, str] = {"L-sens": "L-sensitivity"}
"""What the tables of the paper call metrics that have another name here."""

_CELL = re.compile(r"~?(\d+(?:\.\d+)?)\*?(?: \((\d+(?:\.\d+)?)\*?\)\*?)?")


def paper_table(name: str) -> dict[str, dict[str, str]]:
    """Return a table of the paper: method, then metric, then the cell as printed.

    Args:
        name: Name of the table, such as ``table6``; another one has no cells.
    """
    path = importlib.resources.files("nnunet_cel.workflow") / "paper" / f"{name}.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        table = pd.read_csv(file, index_col=0, dtype=str, keep_default_na=False)
    return table.to_dict()


def mean_and_sd(cell: str) -> tuple[float, float]:
    """Return mean and standard deviation of a cell, NaN where it has none."""
    match = _CELL.fullmatch(cell)
    if match is None:
        return math.nan, math.nan
    mean, sd = match.groups()
    return float(mean), float(sd) if sd else math.nan


TABLE_6: Mapping[str, tuple[float, float]] = {
    metric: mean_and_sd(
        paper_table("table6")["FCA-DenseNet"][PRINTED_NAMES.get(metric, metric)]
    )
    for metric in PAPER_METRICS
}
"""Mean and standard deviation of FCA-DenseNet after fine-tuning, by metric."""
