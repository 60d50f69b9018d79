"""Tests of the anatomy of synthetic subjects."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nnunet_cel.phantom.anatomy import (
    Grid,
    SplineField,
    draw_deformation,
    draw_spline,
    load_template,
)

pytest.importorskip("nilearn", reason="the extra `demo`")

GRID = Grid.of_spacing(4.0)


@pytest.mark.parametrize("spacing", [1.0, 1.7, 4.0])
def test_grid_covers_the_box(spacing: float) -> None:
    """The last voxel reaches the end of the box and the spacing is exact."""
    grid = Grid.of_spacing(spacing)

    ends = grid.affine @ [*(n - 1 for n in grid.shape), 1]
    assert (ends[:3] >= [80 - 1e-6, 82 - 1e-6, 92 - 1e-6]).all()
    assert (ends[:3] < [80 + spacing, 82 + spacing, 92 + spacing]).all()


@pytest.mark.parametrize("spacing", [0.5, 9.0, float("nan")])
def test_spacing_out_of_range_is_refused(spacing: float) -> None:
    """The template has nothing to say below 1 mm."""
    with pytest.raises(ValueError, match="from 1 to 8 mm"):
        Grid.of_spacing(spacing)


def test_template_has_an_adults_volumes() -> None:
    """Brain and ventricles of the template have the size of a head."""
    template = load_template()

    assert 1800 < template.brain.sum() / 1000 < 2000  # ml, CSF included
    assert 5 < template.ventricles.sum() / 1000 < 20
    assert load_template() is template


def test_missing_nilearn_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nilearn the error says what to install."""
    monkeypatch.setitem(sys.modules, "nilearn", None)

    with pytest.raises(ImportError, match=r'pip install "nnunet-cel\[demo\]"'):
        load_template.__wrapped__()


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
        points = rng.uniform([-60, -90, -40], [60, 60, 70], (50, 3))

        there = deformation.to_subject(points)
        back = deformation.to_template(there)
        np.testing.assert_allclose(back, points, atol=0.1)
