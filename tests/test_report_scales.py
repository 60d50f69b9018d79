"""Tests of the scales of axes."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.report.scales import describe_scale, set_scale
from nnunet_cel.report.style import new_figure


def test_values_near_each_other_are_on_a_linear_axis() -> None:
    """The axis goes from just below 0 to just above the largest value."""
    axes, values = new_figure().add_subplot(), np.array([0.0, 1, 2, 4])

    assert set_scale(axes, values, "xy") == pytest.approx((-0.12, 4.24))
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert describe_scale(values, "volume") == ""


def test_values_of_several_magnitudes_are_on_a_logarithmic_axis() -> None:
    """Powers of ten are marked, 0 too, and only the named axis changes."""
    axes, values = new_figure().add_subplot(), np.array([0, 0.02, 0.3, 0.5, 60])

    low, high = set_scale(axes, values, "x")

    assert -0.02 < low < 0
    assert high > 60
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "linear")
    assert axes.get_xticks().tolist() == [0, 0.1, 1, 10]
    assert "above the smallest volume" in describe_scale(values, "volume")


def test_nothing_but_zero_is_linear() -> None:
    """Where no value is positive there is no magnitude to tell apart."""
    assert describe_scale(np.zeros(3), "volume") == ""
