"""Tests of tables as files and as text."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_cel.evaluation.tables import plain, read_table, write_table

NAMES = ["=1+1", "+a", "-b", "@c", "'e", "\tf", "1,2", '"q"', "007", "NA", "1e5"]


def test_formulas_are_defused_and_names_survive(tmp_path: Path) -> None:
    """No cell runs in a spreadsheet, and what is written is read again."""
    path = tmp_path / "table.csv"
    write_table(path, pd.DataFrame({"case": NAMES, "DSC": range(len(NAMES))}))

    cells = pd.read_csv(path, dtype=str)["case"]
    assert not cells.str.startswith(("=", "+", "-", "@", "\t")).any()
    assert list(read_table(path)["case"]) == NAMES


def test_numbers_survive(tmp_path: Path) -> None:
    """Negative numbers stay numbers, NaN is an empty cell."""
    path = tmp_path / "table.csv"
    table = pd.DataFrame({"case": ["a", "b"], "RVD": [-0.25, math.nan], "n": [-1, 2]})
    write_table(path, table)

    assert path.read_text() == "case,RVD,n\na,-0.25,-1\nb,,2\n"
    pd.testing.assert_frame_equal(read_table(path), table, check_dtype=False)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    """A file that is no table is named in the message."""
    with pytest.raises(FileNotFoundError, match=r"no\.csv"):
        read_table(tmp_path / "no.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"empty\.csv"):
        read_table(tmp_path / "empty.csv")


def test_json_has_no_nan() -> None:
    """NaN becomes null, and numpy's numbers become plain ones."""
    content = {"a": (math.nan, np.float64(0.5)), 3: {"n": np.int64(2)}}

    text = json.dumps(plain(content), allow_nan=False)

    assert json.loads(text) == {"a": [None, 0.5], "3": {"n": 2}}
