"""Tests of a subject's tissue."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.phantom.anatomy import Grid
from nnunet_cel.phantom.deformation import Deformation, SplineField, draw_deformation
from nnunet_cel.phantom.tissue import warp_tissue

pytest.importorskip("nilearn", reason="the extra `demo`")

GRID = Grid.of_spacing(4.0)
STAY = Deformation(
    np.eye(3), np.zeros(3), False, (SplineField(40.0, np.zeros((3, 8, 9, 9))),)
)


def test_tissue_sums_to_one_inside_and_zero_outside(rng: np.random.Generator) -> None:
    """Every voxel of the brain is made of the three tissues, air of none."""
    tissue = warp_tissue(draw_deformation(rng), GRID, sharpness=1.6, fluid_weight=1.2)
    whole = tissue.gray + tissue.white + tissue.fluid

    np.testing.assert_allclose(whole[tissue.brain], 1.0, atol=1e-3)
    assert (whole[~tissue.brain] == 0).all()


def test_brain_has_a_margin_of_air(rng: np.random.Generator) -> None:
    """No head is cut off, save the end of the brain stem."""
    for _ in range(5):
        brain = warp_tissue(
            draw_deformation(rng), GRID, sharpness=1.5, fluid_weight=1.0
        ).brain

        assert 1.1e6 < brain.sum() * 64 < 1.95e6  # mm3
        sides = [brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[..., -1]]
        assert not any(side.any() for side in sides)


def test_more_fluid_weight_means_more_fluid() -> None:
    """Atrophy widens the sulci."""
    little, much = (
        warp_tissue(STAY, GRID, sharpness=1.5, fluid_weight=weight).fluid.sum()
        for weight in (1.0, 2.0)
    )

    assert much > 1.1 * little
