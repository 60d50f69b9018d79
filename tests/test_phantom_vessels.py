"""Tests of a subject's blood vessels."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.phantom.anatomy import Deformation, Grid, SplineField, load_template
from nnunet_cel.phantom.vessels import Vessel, draw_vessels, paint_vessels

pytest.importorskip("nilearn", reason="the extra `demo`")

GRID = Grid.of_spacing(4.0)
STAY = Deformation(
    np.eye(3), np.zeros(3), False, (SplineField(40.0, np.zeros((3, 8, 9, 9))),)
)


def test_tube_has_the_volume_of_a_cylinder() -> None:
    """A thick straight tube of 60 mm and radius 5 mm fills pi r^2 l."""
    path = np.stack([np.linspace(-30, 30, 121), 0.3 + np.zeros(121), np.ones(121)], 1)
    tube = Vessel(path, np.full(121, 5.0), 1.5)
    grid = Grid.of_spacing(1.0)

    cover, bright = paint_vessels((tube,), STAY, grid)

    expected = np.pi * 25 * 60 + 4 / 3 * np.pi * 125  # with the round ends
    assert cover.sum() == pytest.approx(expected, rel=0.05)
    assert (bright[cover > 0] == 1.5).all()
    assert (bright[cover == 0] == 0).all()


def test_thin_tube_fills_a_part_of_its_voxels() -> None:
    """A vein of 0.5 mm radius is faint in voxels of 4 mm."""
    path = np.stack([np.linspace(-30, 30, 121), np.zeros(121), np.zeros(121)], 1)
    cover, _ = paint_vessels((Vessel(path, np.full(121, 0.5), 1.5),), STAY, GRID)

    assert 0 < cover.max() <= np.pi * 0.5**2 / 16 + 1e-6


def test_vessels_run_in_the_brain(rng: np.random.Generator) -> None:
    """Named, cortical and perforating vessels are all there."""
    template = load_template()

    paths = [vessel.path for vessel in draw_vessels(rng)]

    assert len(paths) > 19 + 8
    inside = template.at(template.brain, np.concatenate(paths))
    assert inside.mean() > 0.9


def test_cortical_vessels_keep_to_the_sulci(rng: np.random.Generator) -> None:
    """They run through CSF and cortex rather than through white matter."""
    template = load_template()
    # 19 are the same in everybody; veins in white matter become thinner, these thicker
    found = [v for v in draw_vessels(rng)[19:] if v.radius[0] < v.radius[-1]]
    paths = [vessel.path for vessel in found]

    white = template.at(template.white, np.concatenate(paths))
    assert white.mean() < 0.15
