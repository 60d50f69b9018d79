"""Augmentation of stacks: flips, rotation and shifts (paper), or nnU-Net's own.

The paper flips and shifts with probability 0.5, rotates and crops; it does not say by
how much it rotates. We rotate half of the samples by up to 15 degrees. Shifts come from
the random placement of the window (`nnunet_cel.training.loader.place_window`).

All channels of a stack, that is all neighbors, are transformed alike.
"""

from __future__ import annotations

import math
from typing import Any

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.data_augmentation.compute_initial_patch_size import (
    get_patch_size,
)
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

__all__ = ["build_transforms"]

IN_PLANE_AXES = (0, 1)
ROTATION_PROBABILITY = 0.5
ROTATION = math.radians(15)


def build_transforms(
    augmentation: str, window: int, labels: LabelManager
) -> tuple[BasicTransform, BasicTransform, int]:
    """Return the transforms of a loader.

    Args:
        augmentation: ``"paper"``, ``"nnunet"`` or ``"none"``.
        window: Edge length in voxels of the windows that come out.
        labels: nnU-Net's label manager of the data set.

    Returns:
        Transforms, transforms without augmentation (removal of the label -1, conversion
        to regions), and the voxels around the window that the first ones want.
    """
    size = (window, window)
    of_labels: dict[str, Any] = {
        "regions": labels.foreground_regions if labels.has_regions else None,
        "ignore_label": labels.ignore_label,
    }
    plain = nnUNetTrainer.get_validation_transforms(None, **of_labels)
    if augmentation == "none":
        return plain, plain, 0
    if augmentation == "paper":
        rotation = SpatialTransform(
            size,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=ROTATION_PROBABILITY,
            rotation=(-ROTATION, ROTATION),
            p_scaling=0,
            p_elastic_deform=0,
            border_mode_seg="constant",
            padding_value_seg=-1,
        )
        flips = MirrorTransform(allowed_axes=IN_PLANE_AXES)
        # what a turned square reaches beyond the window on either side
        margin = window * (math.cos(ROTATION) + math.sin(ROTATION) - 1) / 2
        return ComposeTransforms([rotation, flips, plain]), plain, math.ceil(margin)
    angles = (-math.pi, math.pi)  # nnU-Net's for square 2D patches
    larger = get_patch_size(size, angles, angles, angles, (0.85, 1.25))
    transforms = nnUNetTrainer.get_training_transforms(
        size,
        angles,
        None,
        IN_PLANE_AXES,
        do_dummy_2d_data_aug=False,
        use_mask_for_norm=None,
        **of_labels,
    )
    return transforms, plain, -(-int(max(larger) - window) // 2)
