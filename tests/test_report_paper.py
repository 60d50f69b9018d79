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


def test_the_paper_has_our_first_metrics() -> None:
    """Names and order are those of the evaluation, and each has mean and SD."""
    assert list(METRICS)[:6] == list(PAPER_METRICS) == list(TABLE_6)
    assert all(0 < sd < mean < 1 for mean, sd in TABLE_6.values())


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("0.661* (0.187)*", (0.661, 0.187)),
        ("0.734 (0.009*)", (0.734, 0.009)),
        ("44.99 (135.216)", (44.99, 135.216)),
    ],
)
def test_stars_are_no_part_of_numbers(cell: str, expected: tuple[float, float]) -> None:
    """The paper has them in front of and behind parentheses."""
    assert mean_and_sd(cell) == expected


def test_cells_without_numbers_have_none() -> None:
    """Times have no SD, and models that failed have neither."""
    assert mean_and_sd("~10")[0] == 10
    assert math.isnan(mean_and_sd("~10")[1])
    assert all(map(math.isnan, mean_and_sd("NA/0")))
    assert all(map(math.isnan, mean_and_sd("")))


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
    means = [
        [mean_and_sd(cell) for cell in paper_table(name)[method].values()]
        for name, method in (
            ("table6", "FCA-DenseNet"),
            ("table7", "Focal"),
            ("table8", "1 neighbor"),
        )
    ]

    assert means[0] == means[1] == means[2]
