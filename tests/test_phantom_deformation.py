"""Tests of the shape of a subject's head."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.phantom.anatomy import Grid
from nnunet_cel.phantom.deformation import SplineField, draw_deformation, draw_spline

pytest.importorskip("nilearn", reason="the extra `demo`")

GRID = Grid.of_spacing(4.0)


def some_points(rng: np.random.Generator) -> np.ndarray:
    """Return 50 points of the head in mm."""
    return rng.uniform([-60, -90, -40], [60, 60, 70], (50, 3))


def test_spline_of_equal_coefficients_is_constant() -> None:
    """A B-spline is a partition of unity."""
    knots = SplineField.knots(30.0)
    field = SplineField(30.0, np.full((2, *knots), 3.0, dtype=np.float32))

    np.testing.assert_allclose(field.on_grid(GRID), 3.0, rtol=1e-5)


def test_spline_has_the_stated_amplitude(rng: np.random.Generator) -> None:
    """The standard deviation at the knots is the amplitude."""
    field = draw_spline(rng, 8.0, 2.0, 3)
    inner = field.on_grid(Grid.of_spacing(8.0))

    assert inner.std() == pytest.approx(2.0, rel=0.1)


def test_deformation_is_the_same_on_grid_and_at_points(
    rng: np.random.Generator,
) -> None:
    """The two ways to evaluate a deformation agree."""
    deformation = draw_deformation(rng)
    voxels = rng.integers(0, GRID.shape, (50, 3))
    points = voxels @ GRID.affine[:3, :3].T + GRID.affine[:3, 3]

    field = deformation.on_grid(GRID)[(slice(None), *voxels.T)].T
    np.testing.assert_allclose(field, deformation.to_template(points), atol=1e-3)


def test_deformation_can_be_inverted(rng: np.random.Generator) -> None:
    """To the subject and back is the identity, for many heads."""
    for _ in range(10):
        deformation = draw_deformation(rng)
        points = some_points(rng)

        there = deformation.to_subject(points)
        back = deformation.to_template(there)
        np.testing.assert_allclose(back, points, atol=0.1)
