"""Tests of the charts of thresholds, calibration and training."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree

import pandas as pd

from nnunet_cel.report.curves import draw_calibration, draw_froc, draw_training


def froc(ratios: list[float]) -> pd.DataFrame:
    """Return a FROC table whose sensitivity falls from 0.9."""
    rows = range(len(ratios))
    return pd.DataFrame(
        {
            "threshold": [0.25 * (i + 1) for i in rows],
            "sensitivity": [0.9 - 0.2 * i for i in rows],
            "false_lesions_per_scan": [4.0 - i for i in rows],
            "volume_ratio": ratios,
        }
    )


def texts(svg: str) -> set[str]:
    """Return the texts of a chart."""
    return set(ElementTree.fromstring(svg).itertext())


def training(folds: str, epochs: int, loss: float = 0.5) -> pd.DataFrame:
    """Return training curves."""
    return pd.DataFrame(
        [
            {
                "fold": fold,
                "epoch": epoch,
                "train_loss": loss / (1 + epoch),
                "validation_loss": loss,
                "validation_dice": 0.5,
                "best": epoch == 1,
            }
            for fold in folds
            for epoch in range(epochs)
        ]
    )


def test_flooded_thresholds_are_not_drawn() -> None:
    """Only thresholds whose predictions hold at most ten times the volume count."""
    chart = draw_froc(froc([50.0, 1.0, 0.5]))

    assert chart is not None
    assert "from 0.50 to 0.70" in chart.alt
    assert "threshold 0.5" in texts(chart.svg)


def test_many_false_lesions_do_not_hide_few() -> None:
    """A threshold with very many of them makes the axis logarithmic."""
    skewed = froc([1.0] * 4)
    skewed["false_lesions_per_scan"] = [200.0, 1.0, 0.5, 0.0]

    even, odd = draw_froc(froc([1.0] * 4)), draw_froc(skewed)

    assert even is not None
    assert "logarithmic" not in even.caption
    assert odd is not None
    assert "logarithmic above the smallest rate" in odd.caption
    assert {"0", "1", "10", "100"} <= texts(odd.svg)


def test_nothing_to_draw_of_thresholds() -> None:
    """Without probabilities or without lesions there is no FROC and no calibration."""
    assert draw_froc(None) is None
    assert draw_froc(froc([math.nan, math.nan])) is None
    assert draw_calibration(None) is None
    assert draw_calibration(pd.DataFrame()) is None


def test_calibration_names_its_levels() -> None:
    """Voxels and lesions have lines of their own, and the numbers stand in the text."""
    table = pd.DataFrame(
        {
            "level": ["voxels", "lesions"],
            "mean_probability": [0.25, 0.75],
            "observed": [0.125, 1.0],
        }
    )

    chart = draw_calibration(table)

    assert chart is not None
    assert "voxels 0.25: 0.12; lesions 0.75: 1.00" in chart.alt
    assert "voxels: share that is lesion" in texts(chart.svg)


def test_training_has_two_charts() -> None:
    """Loss and Dice are drawn, with how many folds there are."""
    one, several = draw_training(training("0", 3)), draw_training(training("01", 3))

    assert [chart.name for chart in one] == ["training_loss", "training_dice"]
    assert "of fold 0" in one[0].caption
    assert "one line for each fold" in several[0].caption
    assert "fold 1" in several[1].alt
    assert draw_training(None) == []


def test_losses_of_any_sign_can_be_drawn() -> None:
    """Negative losses, as of Dice loss, and missing ones are no error."""
    for loss in (-0.5, 0.0, math.nan, math.inf, 1e-5):
        assert len(draw_training(training("0", 40, loss))) == 2
