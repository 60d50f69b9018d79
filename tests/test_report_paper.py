"""Tests of the paper's numbers."""

from __future__ import annotations

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.report.paper import PAPER_METRICS, TABLE_6, TABLE_6_NOTE


def test_the_paper_has_our_first_metrics() -> None:
    """Names and order are those of the evaluation, and each has mean and SD."""
    assert list(METRICS)[:6] == list(PAPER_METRICS) == list(TABLE_6)
    assert all(0 < sd < mean < 1 for mean, sd in TABLE_6.values())


def test_readers_are_told_that_the_data_are_others() -> None:
    """The note cannot be read as if both were measured on the same scans."""
    assert "is of other data" in TABLE_6_NOTE
