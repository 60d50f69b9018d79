"""Tables as CSV files and as text.

A cell that begins with one of ``= + - @`` could run as a formula when a spreadsheet
opens the file, so it gets an apostrophe in front, which reading takes away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.files import write_whole

__all__ = ["format_table", "number", "plain", "read_table", "write_table"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file, whole or not at all; NaN becomes an empty cell."""
    safe = table.copy()
    for name in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[name]):
            safe[name] = safe[name].map(_escape)
    write_whole(
        path, safe.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    )


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
            table[name] = table[name].map(_unescape)
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


def _escape(cell: Any) -> Any:
    """Return a cell that no spreadsheet runs."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _unescape(cell: Any) -> Any:
    """Return what :func:`_escape` got."""
    escaped = (
        isinstance(cell, str) and cell[:1] == "'" and cell[1:].startswith(_FORMULA)
    )
    return cell[1:] if escaped else cell
