"""How large volumes and batches are: what the images and the GPU's memory ask for.

CBAM pools over whole slices, so slices have the same S x S voxels in training and in
inference: the paper's 256, or the smallest multiple of 32 that holds every training
image where that is less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nnunet_cel.planning.declarations import BASE_NETWORK, architecture

__all__ = ["BATCH_SIZE", "MULTIPLE", "cubic_extent", "fit_to_memory", "training_shapes"]

MAXIMUM_EXTENT = 256  # voxels, paper section "2.5D MR image slicing strategy"
MULTIPLE = 32  # five halvings
BATCH_SIZE = 16  # paper section "Hyperparameter settings"
MINIMUM_BATCH_SIZE = 2  # batch normalization
REFERENCE_WINDOW = 256  # voxels


class Footprint(NamedTuple):
    """Memory that the training of a network takes in 16 bit, in GB."""

    stack: float  # of 256 x 256 voxels; it grows with the area of the window
    recomputed: float  # the same where activations are recomputed, if they can be
    fixed: float = 1.0  # CUDA context, weights, optimizer, workspace


FOOTPRINTS = {
    "fcadensenet": Footprint(0.57, 0.255),
    "fcdensenet": Footprint(0.54, 0.255),
    "unet": Footprint(0.075, 0.075),
    "resunet": Footprint(0.1, 0.1),
    "attentionunet": Footprint(0.15, 0.15),
    # 105 M weights, their 16-bit copy, their gradients and the moments of Adam
    "transunet": Footprint(0.26, 0.1, fixed=2.9),
}
"""Peaks of a training step on CPU in bfloat16 (benchmarks/RESULTS.md)."""


def training_shapes(
    fingerprint: Mapping[str, Any],
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
    shapes = np.array(fingerprint["shapes_after_crop"])[:, order]
    before = np.array(fingerprint["spacings"], dtype=float)[:, order]
    after = before.copy()
    after[:, 3 - len(spacing) :] = spacing
    return np.array(np.rint(before / after * shapes), dtype=int)


def cubic_extent(shapes: np.ndarray) -> int:
    """Return S in voxels for training images of these shapes ``(images, 3)``."""
    return min(MAXIMUM_EXTENT, -(-int(shapes.max()) // MULTIPLE) * MULTIPLE)


def fit_to_memory(memory: float, *, window: int, network: str) -> tuple[int, bool]:
    """Return the batch size, and whether activations must be recomputed.

    Batches have the paper's 16 stacks for as long as recomputing makes them fit; below
    that they shrink, to two at least. A network that was not measured is taken to need
    as much as FCA-DenseNet, and to recompute if it has ``gradient_checkpointing``.

    Args:
        memory: GPU memory in GB.
        window: Edge length of the training windows in voxels.
        network: Name of the network in ``plans/networks.json``.
    """
    footprint = FOOTPRINTS.get(network, FOOTPRINTS[BASE_NETWORK])
    can_recompute = "gradient_checkpointing" in architecture(network)["arch_kwargs"]
    area = (window / REFERENCE_WINDOW) ** 2
    available = memory - footprint.fixed
    if BATCH_SIZE * footprint.stack * area <= available:
        return BATCH_SIZE, False
    stack = footprint.recomputed if can_recompute else footprint.stack
    fitting = int(available / (stack * area))
    return max(MINIMUM_BATCH_SIZE, min(BATCH_SIZE, fitting)), can_recompute
