"""Tables as CSV files, and numbers as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.files import write_whole

__all__ = ["number", "plain", "read_table", "write_table"]

_FORMULA = tuple("=+-@\t\r")  # what a spreadsheet would run


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV file, whole or not at all.

    NaN becomes an empty cell. Text that a spreadsheet would run gets an apostrophe in
    front, which :func:`read_table` takes away.
    """
    safe = table.copy()
    for name in safe.select_dtypes(exclude="number"):
        safe[name] = safe[name].map(
            lambda c: f"'{c}" if isinstance(c, str) and c.startswith(_FORMULA) else c
        )
    text = safe.to_csv(index=False, lineterminator="\n", float_format="%.10g")
    write_whole(path, text)


def read_table(path: Path, *, text: Sequence[str] = ("case",)) -> pd.DataFrame:
    """Read a CSV file that :func:`write_table` wrote.

    Args:
        path: The file.
        text: Columns that are text even where all cells look like numbers.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is no such table.
    """
    kinds = dict.fromkeys(text, str)
    try:
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise ValueError(f"The table {path} cannot be read: {error}.") from error
    for name in table.select_dtypes(exclude="number"):
        table[name] = table[name].map(
            lambda c: c[1:] if str(c)[:1] == "'" and c[1:].startswith(_FORMULA) else c
        )
    return table


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
