"""Tables as CSV files and as text."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.csv_text import guard, unguard
from nnunet_cel.files import write_whole

__all__ = ["format_table", "number", "plain", "read_table", "write_table"]


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file, whole or not at all; NaN becomes an empty cell."""
    safe = table.copy()
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            safe[name] = safe[name].map(guard)
    # Python's csv leaves a carriage return bare, which reading takes for a line's end.
    bare = any("\r" in str(cell) for name in safe.columns for cell in safe[name])
    quoting = csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL
    text = safe.to_csv(
        index=False, lineterminator="\n", float_format="%.10g", quoting=quoting
    )
    write_whole(path, text)


def read_table(path: Path, *, text: Sequence[str] = ("case",)) -> pd.DataFrame:
    """Read a CSV file that :func:`write_table` wrote.

    Args:
        path: The file.
        text: Columns that are text even where all cells look like numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such table.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no table {path}.")
    try:
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values=[""],
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
        raise ValueError(f"The table {path} cannot be read: {error}.") from error
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = table[name].map(unguard)
    return table


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text, the first column to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def number(value: float, *, sign: bool = False) -> str:
    """Return a number with three decimals, a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:{'+' if sign else ''}.3f}"


def plain(content: Any) -> Any:
    """Return content that JSON can hold, with None for NaN."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
