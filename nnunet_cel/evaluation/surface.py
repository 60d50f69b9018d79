"""Distances between the surfaces of two masks in mm.

The surface of a mask are its voxels that share a face with a voxel outside it; beyond
the border of the volume is outside. A distance is that of voxel centers, from a
surface voxel to the nearest one of the other surface.

Reference: Maier-Hein et al. 2024, Metrics reloaded, Nat Methods 21:195-212.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

__all__ = ["surface_distances", "surface_points"]

Array = npt.NDArray[Any]


def surface_points(mask: Array) -> Array:
    """Return the voxel indices of the surface of a mask, shape (S, 3)."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def surface_distances(
    prediction: Array, reference: Array, spacing: Sequence[float]
) -> tuple[float, float]:
    """Return HD95 and ASSD in mm, NaN if a mask is empty.

    HD95 is the larger of the 95th percentiles of both directions, ASSD the mean over
    the surface voxels of both masks.

    Args:
        prediction: Mask, shape (X, Y, Z).
        reference: Mask of the same shape.
        spacing: Distance of voxel centers along each axis in mm.
    """
    first, second = surface_points(prediction), surface_points(reference)
    if not len(first) or not len(second):
        return math.nan, math.nan
    # Lesions are sparse: a tree of their surfaces is faster than a distance map.
    points, others = first * np.asarray(spacing), second * np.asarray(spacing)
    there, _ = KDTree(others).query(points)
    back, _ = KDTree(points).query(others)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    assd = (there.sum() + back.sum()) / (len(there) + len(back))
    return float(hd95), float(assd)
