"""Writes CSV tables with text of others, such as names of patients, cases and files.

A cell that begins with ``=``, ``+``, ``-`` or ``@``, or with a tab or line break, could
run as a formula when a spreadsheet opens the table. It gets an apostrophe in front,
which reading takes away. Numbers are no text and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["guard", "to_csv", "unguard"]

_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def guard(cell: Any) -> Any:
    """Return a cell that no spreadsheet runs."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_STARTS) else cell


def unguard(cell: Any) -> Any:
    """Return what :func:`guard` got."""
    guarded = isinstance(cell, str) and cell[:1] == "'" and cell[1:].startswith(_STARTS)
    return cell[1:] if guarded else cell


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as CSV text; all cells that are text are guarded."""
    lines = [",".join(_quote(guard(str(cell))) for cell in row) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _quote(cell: str) -> str:
    """Return a cell in quotes, where it needs them."""
    # Python's csv leaves a carriage return bare, which reading takes for a line's end.
    if cell and not any(sign in cell for sign in ',;"\t\r\n'):
        return cell
    return '"' + cell.replace('"', '""') + '"' if cell else ""
