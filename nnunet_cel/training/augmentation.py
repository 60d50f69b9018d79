"""Augmentation of stacks: flips, rotation and shifts (paper), or nnU-Net's own.

The paper flips and shifts with probability 0.5, rotates and crops; it does not say by
how much it rotates. We rotate half of the samples by up to 15 degrees. Shifts come from
the random placement of the window (`nnunet_cel.training.loader.place_window`).

All channels of a stack, that is all neighbors, are transformed alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.data_augmentation.compute_initial_patch_size import (
    get_patch_size,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

__all__ = ["build_transforms", "paper_transforms", "rotation_margin"]

IN_PLANE_AXES = (0, 1)
ROTATION_PROBABILITY = 0.5
ROTATION = (-math.radians(15), math.radians(15))


def build_transforms(
    augmentation: str,
    window: int,
    regions: Sequence[Any] | None = None,
    ignore_label: int | None = None,
) -> tuple[BasicTransform, BasicTransform, int]:
    """Return the transforms of a loader.

    Args:
        augmentation: ``"paper"``, ``"nnunet"`` or ``"none"``.
        window: Edge length in voxels of the windows that come out.
        regions: nnU-Net's regions that labels become, None for label maps.
        ignore_label: nnU-Net's ignore label, None if the data set has none.

    Returns:
        Transforms, transforms without augmentation, and the voxels around the window
        that the first ones want.
    """
    labels: dict[str, Any] = {"regions": regions, "ignore_label": ignore_label}
    plain = nnUNetTrainer.get_validation_transforms(None, **labels)
    if augmentation == "none":
        return plain, plain, 0
    if augmentation == "paper":
        return paper_transforms(window, plain), plain, rotation_margin(window)
    rotation = (-math.pi, math.pi)  # nnU-Net's for square 2D patches
    size = (window, window)
    larger = get_patch_size(size, rotation, rotation, rotation, (0.85, 1.25))
    transforms = nnUNetTrainer.get_training_transforms(
        size,
        rotation,
        None,
        IN_PLANE_AXES,
        do_dummy_2d_data_aug=False,
        use_mask_for_norm=None,
        **labels,
    )
    return transforms, plain, -(-int(max(larger) - window) // 2)


def paper_transforms(window: int, label_transforms: BasicTransform) -> BasicTransform:
    """Return the paper's augmentation of a stack and its labels.

    Args:
        window: Edge length in voxels of the windows that come out.
        label_transforms: What nnU-Net does to labels without augmentation (removal of
            the label -1, conversion to regions); comes last.
    """
    return ComposeTransforms(
        [
            SpatialTransform(
                (window, window),
                patch_center_dist_from_border=0,
                random_crop=False,
                p_rotation=ROTATION_PROBABILITY,
                rotation=ROTATION,
                p_scaling=0,
                p_elastic_deform=0,
                border_mode_seg="constant",
                padding_value_seg=-1,
            ),
            MirrorTransform(allowed_axes=IN_PLANE_AXES),
            label_transforms,
        ]
    )


def rotation_margin(window: int, rotation: Sequence[float] = ROTATION) -> int:
    """Return the voxels around a window that a rotation turns into it.

    Args:
        window: Edge length of the window in voxels.
        rotation: Smallest and largest angle in radians.
    """
    # the corners reach farthest at 45 degrees
    angle = min(max(abs(limit) for limit in rotation), math.radians(45))
    side = window * (math.cos(angle) + math.sin(angle))
    return math.ceil((side - window) / 2)
