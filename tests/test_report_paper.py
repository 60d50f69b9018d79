"""Tests of the paper's own numbers."""

from __future__ import annotations

import math

import pytest

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.report.paper import (
    PAPER_METRICS,
    TABLE_6,
    mean_and_sd,
    paper_table,
)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("0.661* (0.187)*", (0.661, 0.187)),
        ("0.734 (0.009*)", (0.734, 0.009)),
        ("44.99 (135.216)", (44.99, 135.216)),
        ("~10", (10, math.nan)),
        ("NA/0", (math.nan, math.nan)),
        ("", (math.nan, math.nan)),
    ],
)
def test_stars_are_no_part_of_numbers(cell: str, expected: tuple[float, float]) -> None:
    """Times have no SD, and models that failed have no numbers."""
    assert mean_and_sd(cell) == pytest.approx(expected, nan_ok=True)


def test_every_cell_is_read() -> None:
    """All cells but those of failed models have a mean, and all but Table 2's an SD."""
    for number in range(2, 9):
        for method, cells in paper_table(f"table{number}").items():
            assert len(cells) == {2: 3, 3: 4}.get(number, 6)
            for cell in cells.values():
                mean, sd = mean_and_sd(cell)
                failed = cell.startswith("NA")
                assert math.isnan(mean) == failed
                assert math.isnan(sd) == (failed or number == 2)
                assert not failed or (number, method) in (
                    (5, "TransUNet"),
                    (8, "3 neighbors"),
                )


def test_tables_agree_where_they_show_one_model() -> None:
    """FCA-DenseNet with focal loss and one pair of neighbors is in three tables."""
    methods = {"table6": "FCA-DenseNet", "table7": "Focal", "table8": "1 neighbor"}

    for name, method in methods.items():
        cells = paper_table(name)[method]
        means = [mean_and_sd(cell)[0] for cell in cells.values()]
        assert means == [mean for mean, _ in TABLE_6.values()]
    assert list(METRICS)[:6] == list(PAPER_METRICS) == list(TABLE_6)
