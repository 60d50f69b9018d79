"""Tests of surface distances."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from nnunet_cel.evaluation.surface import surface_distances, surface_points

SPACING = (0.5, 1.0, 3.0)


def blob(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a random mask with rounded parts, never empty."""
    noise = ndimage.gaussian_filter(rng.random(shape), 1)
    return noise >= np.quantile(noise, rng.uniform(0.6, 0.95))


def test_brute_force_agrees(rng: np.random.Generator) -> None:
    """All distances between all surface voxels give the same numbers."""
    structure = ndimage.generate_binary_structure(3, 1)
    for _ in range(100):
        shape = tuple(rng.integers(2, 9, 3))
        masks = [blob(rng, shape) for _ in range(2)]
        points = [
            np.argwhere(m & ~ndimage.binary_erosion(m, structure)) * SPACING
            for m in masks
        ]
        distances = cdist(*points)
        there, back = distances.min(axis=1), distances.min(axis=0)

        hd95, assd = surface_distances(*masks, SPACING)

        expected = max(np.percentile(there, 95), np.percentile(back, 95))
        assert hd95 == pytest.approx(expected)
        assert assd == pytest.approx(np.concatenate([there, back]).mean())


def test_shifted_cube_by_hand() -> None:
    """Two single voxels are as far apart as their centers in mm."""
    first, second = np.zeros((2, 4, 4, 4), dtype=bool)
    first[0, 0, 0] = second[0, 3, 1] = True
    distance = math.hypot(3 * 1.0, 1 * 3.0)

    assert surface_distances(first, second, SPACING) == pytest.approx(
        (distance, distance)
    )


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (0, 0)])
def test_empty_masks_have_no_distance(first: int, second: int) -> None:
    """Without a surface there is no distance."""
    masks = [np.full((3, 3, 3), bool(value)) for value in (first, second)]

    assert all(math.isnan(d) for d in surface_distances(*masks, SPACING))


def test_border_of_the_volume_is_surface() -> None:
    """A mask that fills the volume has its shell as surface."""
    points = surface_points(np.ones((3, 4, 5), dtype=bool))

    assert len(points) == 3 * 4 * 5 - 1 * 2 * 3


def test_axes_and_direction_do_not_matter(rng: np.random.Generator) -> None:
    """Flips, exchanged axes with their spacing, and exchanged masks change nothing."""
    masks = [blob(rng, (6, 7, 8)) for _ in range(2)]
    assert surface_distances(masks[0], masks[0], SPACING) == (0, 0)
    expected = pytest.approx(surface_distances(*masks, SPACING))

    assert surface_distances(*masks[::-1], SPACING) == expected
    for axes in itertools.permutations(range(3)):
        turned = [m.transpose(axes)[::-1] for m in masks]
        assert surface_distances(*turned, [SPACING[a] for a in axes]) == expected
