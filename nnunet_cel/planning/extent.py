"""The extent S of the volumes and slices that a model works on.

CBAM pools over whole slices, so slices have the same S x S voxels in training and in
inference: the paper's 256, or the smallest multiple of 32 that holds every training
image where that is less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

__all__ = ["MAXIMUM_EXTENT", "cubic_extent", "training_shapes"]

MAXIMUM_EXTENT = 256  # voxels, paper section "2.5D MR image slicing strategy"
MULTIPLE = 32  # five halvings


def training_shapes(
    fingerprint: Mapping[str, Any],
    *,
    spacing: Sequence[float],
    transpose_forward: Sequence[int] = (0, 1, 2),
) -> np.ndarray:
    """Return the shapes in voxels of all training images after preprocessing.

    Args:
        fingerprint: nnU-Net's ``dataset_fingerprint.json``.
        spacing: Target spacing in mm after transposition. With two entries, as in stock
            2D plans, the first axis is not resampled.
        transpose_forward: nnU-Net's order of the axes.

    Returns:
        Integers of shape ``(images, 3)``.
    """
    order = list(transpose_forward)
    shapes = []
    for shape, original in zip(
        fingerprint["shapes_after_crop"], fingerprint["spacings"], strict=True
    ):
        old_shape, old_spacing = np.asarray(shape)[order], np.asarray(original)[order]
        kept = list(old_spacing[: 3 - len(spacing)])
        shapes.append(compute_new_shape(old_shape, old_spacing, [*kept, *spacing]))
    return np.array(shapes, dtype=int)


def cubic_extent(shapes: np.ndarray) -> int:
    """Return S in voxels for training images of these shapes ``(images, 3)``."""
    largest = int(shapes.max())
    return min(MAXIMUM_EXTENT, -(-largest // MULTIPLE) * MULTIPLE)
