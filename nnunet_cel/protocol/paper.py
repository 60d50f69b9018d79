"""The paper's own numbers, as it printed them.

Huang L, Zhao Z, An L, et al. Quant Imaging Med Surg 2024;14(1):273-290, Tables 2 to 8.
They are in ``workflow/paper``, one CSV file for each table. Stars mark the best there;
`NA/0` is a model whose output was blank.
"""

from __future__ import annotations

import csv
import math
import re

from nnunet_cel.protocol.workflow import workflow_file

__all__ = ["mean_and_sd", "paper_table"]

_CELL = re.compile(r"~?(\d+(?:\.\d+)?)\*?(?: \((\d+(?:\.\d+)?)\*?\)\*?)?")


def paper_table(name: str) -> dict[str, dict[str, str]]:
    """Return a table of the paper: method, then metric, then the cell as printed.

    Args:
        name: Name of the table, such as ``table6``; another one has no cells.
    """
    path = workflow_file("paper", f"{name}.csv")
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        (_, *methods), *rows = csv.reader(stream)
    return {
        method: {metric: cells[number] for metric, *cells in rows}
        for number, method in enumerate(methods)
    }


def mean_and_sd(cell: str) -> tuple[float, float]:
    """Return mean and standard deviation of a cell, NaN where it has none."""
    match = _CELL.fullmatch(cell)
    if match is None:
        return math.nan, math.nan
    mean, sd = match.groups()
    return float(mean), float(sd) if sd else math.nan
