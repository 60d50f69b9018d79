"""The extent S: multiples of 32 that hold every training image, 256 at most."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.planning.extent import cubic_extent, training_shapes


@pytest.mark.parametrize(
    ("largest", "extent"),
    [(1, 32), (32, 32), (33, 64), (217, 224), (225, 256), (256, 256), (400, 256)],
)
def test_extent(largest: int, extent: int) -> None:
    """The largest extent of any image decides."""
    assert cubic_extent(np.array([[20, 10, 30], [5, largest, 1]])) == extent


def test_shapes_after_resampling() -> None:
    """A 1.2 x 0.98 x 3 mm image of 100 x 200 x 50 voxels becomes 120 x 196 x 150."""
    fingerprint = {
        "shapes_after_crop": [[100, 200, 50]],
        "spacings": [[1.2, 0.98, 3.0]],
    }

    shapes = training_shapes(fingerprint, spacing=[1, 1, 1])

    assert shapes.tolist() == [[120, 196, 150]]


def test_stock_2d_plans_do_not_resample_their_first_axis() -> None:
    """With two entries of spacing the transposed first axis keeps its slices."""
    fingerprint = {
        "shapes_after_crop": [[100, 200, 50]],
        "spacings": [[1.2, 0.98, 3.0]],
    }

    shapes = training_shapes(fingerprint, spacing=[1, 1], transpose_forward=[2, 0, 1])

    assert shapes.tolist() == [[50, 120, 196]]
