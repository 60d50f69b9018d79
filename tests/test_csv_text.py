"""Cells of tables: no spreadsheet runs them, and they come back as they were."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_cel.csv_text import guard, to_csv, unguard
from nnunet_cel.scans import read_table as read_scans

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    """A guarded cell begins with nothing that runs, and is read as it was."""
    assert not guard(text).startswith(STARTS)
    assert unguard(guard(text)) == text


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2)))
def test_rows_come_back(rows: list[list[str]]) -> None:
    """So do tables, whatever is in their cells."""
    found = csv.reader(io.StringIO(to_csv(rows), newline=""))

    assert [[unguard(cell) for cell in row] for row in found] == rows


@pytest.mark.parametrize("value", [-1, -0.5, None, 3])
def test_what_is_no_text_stays(value: object) -> None:
    """Numbers stay numbers."""
    assert guard(value) == value
    assert unguard(value) == value


def test_tables_of_scans(tmp_path: Path) -> None:
    """What `prepare` and `convert cel` write is what they read."""
    path = tmp_path / "a.csv"
    path.write_text(to_csv([["subject", "source"], ["=1+1", "-x"], ["@a", "b"]]))

    rows = read_scans(path, required=("subject", "source"))
    assert rows == [
        {"subject": "=1+1", "source": "-x"},
        {"subject": "@a", "source": "b"},
    ]
