"""Crops and grids: nothing moves in the world."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nnunet_cel.resampling import (
    Grid,
    box_around,
    grid_of,
    grid_with_spacing,
    resample_image,
    resample_labels,
    to_ras,
)
from nnunet_cel.volumes import Volume


def rotation(*degrees: float) -> np.ndarray:
    """Return a rotation around the first and then the third axis."""
    a, b = np.deg2rad(degrees)
    first = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    third = [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
    return np.array(third) @ np.array(first)


def affine_of(directions: np.ndarray, spacing, origin=(0, 0, 0)) -> np.ndarray:
    """Return the affine of axes with directions, spacing in mm and origin."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = origin
    return affine


AFFINES = {
    "RAS": affine_of(np.eye(3), (1, 1, 1)),
    "LPS, anisotropic": affine_of(np.diag([-1, -1, 1]), (0.5, 0.7, 3), (90, 80, -60)),
    "sagittal": affine_of(np.eye(3)[:, [1, 2, 0]], (1, 1, 1.2), (-70, -90, -60)),
    "oblique": affine_of(rotation(20, 10), (0.9, 0.9, 4), (3, -8, 11)),
    "oblique, left-handed": affine_of(
        rotation(-12, 25)[:, [2, 0, 1]] * [1, -1, 1], (2, 1, 1.5), (-40, 7, 5)
    ),
}


@pytest.fixture(params=AFFINES.values(), ids=AFFINES.keys())
def affine(request: pytest.FixtureRequest) -> np.ndarray:
    """Grids with flipped, permuted, oblique and anisotropic axes."""
    return request.param


def world(grid: Grid) -> np.ndarray:
    """Return the position in mm of every voxel, shape (X, Y, Z, 3)."""
    indices = np.moveaxis(np.indices(grid.shape), 0, -1)
    return indices @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def ramp(grid: Grid) -> np.ndarray:
    """Return intensities that are linear in the world, as interpolation is."""
    return world(grid) @ [0.5, -0.25, 0.75] + 400


def test_box_by_hand() -> None:
    """A margin of 3 mm is 3 voxels of 1 mm, 2 of 2 mm, and ends at the border."""
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[5:8, 10, 1:3] = True

    assert box_around(mask) == (slice(5, 8), slice(10, 11), slice(1, 3))
    assert box_around(mask, (1, 2, 1), margin=3) == (
        slice(2, 11),
        slice(8, 13),
        slice(0, 6),
    )


def test_an_axis_that_has_the_spacing_keeps_its_voxels() -> None:
    """Only the third axis of a 1 x 1 x 3 mm image changes: 4 slices become 12."""
    affine = affine_of(np.eye(3), (1.0004, 1, 3))

    new = grid_with_spacing(Grid((5, 6, 4), affine), (1, 1, 1))

    assert new.shape == (5, 6, 12)
    # 3 mm are cut into three, of which the first has its center 1 mm lower
    lower = affine_of(np.eye(3), (1.0004, 1, 1), (0, 0, -1))
    np.testing.assert_allclose(new.affine, lower)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 1.1, 2.5)])
def test_linear_intensities_survive_resampling(affine: np.ndarray, spacing) -> None:
    """Between the centers of voxels interpolation follows a ramp exactly."""
    grid = Grid((12, 11, 10), affine)
    new = grid_with_spacing(grid, spacing)

    image = resample_image(Volume(ramp(grid), affine), new)

    assert to_ras(image).spacing == pytest.approx(spacing)
    index = world(new) @ np.linalg.inv(affine[:3, :3]).T
    index -= np.linalg.inv(affine[:3, :3]) @ affine[:3, 3]
    inner = ((index >= 0) & (index <= np.array(grid.shape) - 1)).all(axis=-1)
    assert inner.mean() > 0.3
    np.testing.assert_allclose(image.voxels[inner], ramp(new)[inner], rtol=1e-5)


def test_image_on_its_own_grid_and_beyond(rng: np.random.Generator) -> None:
    """Nothing is interpolated where nothing needs to be; outside of it is 0."""
    image = Volume(rng.integers(-900, 3000, (4, 6, 7)).astype(np.int16), np.eye(4))

    same = resample_image(image, grid_of(image))
    assert same.voxels.dtype == np.float32
    np.testing.assert_array_equal(same.voxels, image.voxels)

    larger = resample_image(image, Grid((8, 6, 7), affine_of(np.eye(3), 1, (-4, 0, 0))))
    assert not larger.voxels[:4].any()
    np.testing.assert_array_equal(larger.voxels[4:], image.voxels)


def test_labels_are_copied_between_grids_of_the_same_voxels(rng) -> None:
    """Any order and direction of the axes gives every voxel its own label back."""
    labels = rng.choice(np.array([0, 0, 0, 1, 2, 7], np.uint8), (5, 6, 7))
    source = Volume(labels, AFFINES["oblique"])

    for order in itertools.permutations(range(3)):
        turned = labels.transpose(order)[::-1]
        affine = source.affine.copy()
        affine[:, :3] = affine[:, list(order)]
        affine[:3, 3] += affine[:3, 0] * (turned.shape[0] - 1)
        affine[:3, 0] *= -1
        copied = resample_labels(source, Grid(turned.shape, affine))
        np.testing.assert_array_equal(copied.voxels, turned)


@pytest.mark.parametrize(
    ("labels", "step", "expected"),
    [
        # pairs: half a label stays, and of two halves the lower one wins
        ([1, 0, 0, 0, 2, 2, 3, 1], 2, [1, 0, 2, 1]),
        # less than half of four does not
        ([1, 0, 0, 0, 2, 2, 3, 1], 4, [0, 2]),
        # no gap where two labels meet
        ([0, 1, 1, 2, 0], 0.5, [0, 0, 1, 1, 1, 1, 2, 2, 0, 0]),
        # at the border of the image a label is as large as any other
        ([1, 0, 0], 0.5, [1, 1, 0, 0, 0, 0]),
        ([0, 0, 0, 0], 2, [0, 0]),
    ],
)
def test_labels_by_hand(labels: list[int], step: float, expected: list[int]) -> None:
    """A voxel belongs to the labels that cover at least half of it."""
    line = Volume(np.array(labels, np.uint8).reshape(-1, 1, 1), np.eye(4))
    grid = grid_with_spacing(grid_of(line), (step, 1, 1))

    assert resample_labels(line, grid).voxels.ravel().tolist() == expected


def test_shares_are_those_of_counted_subvoxels(rng) -> None:
    """A voxel of 3 x 2 x 1 voxels belongs to the labels if three of the six do."""
    voxels = (rng.random((12, 10, 6)) < 0.5).astype(np.uint8)
    affine = affine_of(np.eye(3), (3, 2, 1), (1, 0.5, 0))

    coarse = resample_labels(Volume(voxels, np.eye(4)), Grid((4, 5, 6), affine))

    counted = voxels.reshape(4, 3, 5, 2, 6).sum(axis=(1, 3))
    np.testing.assert_array_equal(coarse.voxels, counted >= 3)
