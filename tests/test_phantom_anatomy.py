"""Tests of the anatomy of synthetic subjects."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from nnunet_cel.phantom.anatomy import (
    Deformation,
    Grid,
    SplineField,
    Vessel,
    draw_deformation,
    draw_spline,
    draw_vessels,
    load_template,
    paint_vessels,
    warp_tissue,
)

pytest.importorskip("nilearn", reason="the extra `demo`")

GRID = Grid.of_spacing(4.0)
STAY = Deformation(
    np.eye(3), np.zeros(3), False, (SplineField(40.0, np.zeros((3, 8, 9, 9))),)
)


def some_points(rng: np.random.Generator) -> np.ndarray:
    """Return 50 points of the head in mm."""
    return rng.uniform([-60, -90, -40], [60, 60, 70], (50, 3))


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
        points = some_points(rng)

        there = deformation.to_subject(points)
        back = deformation.to_template(there)
        np.testing.assert_allclose(back, points, atol=0.1)


def test_tissue_sums_to_one_inside_and_zero_outside(rng: np.random.Generator) -> None:
    """Every voxel of the brain is made of the three tissues, air of none."""
    tissue = warp_tissue(draw_deformation(rng), GRID, sharpness=1.6, fluid_weight=1.2)
    whole = tissue.grey + tissue.white + tissue.fluid

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


def test_tube_has_the_volume_of_a_cylinder() -> None:
    """A thick straight tube of 60 mm and radius 5 mm fills pi r^2 l."""
    path = np.stack([np.linspace(-30, 30, 121), 0.3 + np.zeros(121), np.ones(121)], 1)
    tube = Vessel("tube", path, np.full(121, 5.0), 1.5)
    grid = Grid.of_spacing(1.0)

    cover, bright = paint_vessels((tube,), STAY, grid)

    expected = np.pi * 25 * 60 + 4 / 3 * np.pi * 125  # with the round ends
    assert cover.sum() == pytest.approx(expected, rel=0.05)
    assert (bright[cover > 0] == 1.5).all()
    assert (bright[cover == 0] == 0).all()


def test_thin_tube_fills_a_part_of_its_voxels() -> None:
    """A vein of 0.5 mm radius is faint in voxels of 4 mm."""
    path = np.stack([np.linspace(-30, 30, 121), np.zeros(121), np.zeros(121)], 1)
    cover, _ = paint_vessels(
        (Vessel("vein", path, np.full(121, 0.5), 1.5),), STAY, GRID
    )

    assert 0 < cover.max() <= np.pi * 0.5**2 / 16 + 1e-6


def test_vessels_of_every_kind_are_drawn(rng: np.random.Generator) -> None:
    """Sinuses, arteries, deep, cortical and perforating veins are all there."""
    vessels = draw_vessels(rng)
    template = load_template()

    assert {vessel.kind for vessel in vessels} >= {
        "artery",
        "choroid plexus",
        "cortical",
        "deep vein",
        "perforating",
        "sinus",
    }
    inside = np.concatenate([template.at(template.brain, v.path) for v in vessels])
    assert inside.mean() > 0.9


def test_cortical_vessels_keep_to_the_sulci(rng: np.random.Generator) -> None:
    """They run through CSF and cortex rather than through white matter."""
    template = load_template()
    paths = [v.path for v in draw_vessels(rng) if v.kind == "cortical"]

    white = template.at(template.white, np.concatenate(paths))
    assert white.mean() < 0.15
