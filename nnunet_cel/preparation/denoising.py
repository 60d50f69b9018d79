"""Removes noise by averaging over patches that look alike (non-local means).

References: Coupe et al., IEEE TMI 2008;27:425-441, doi:10.1109/TMI.2007.906087, also
for the estimate of the noise; Darbon et al., ISBI 2008:1331-1334, for the fast way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_cel.resampling import box_around

__all__ = ["denoise", "noise_level"]

Array = npt.NDArray[Any]

_PATCH = 3  # voxels along each edge of a patch
_DISTANCE = 2  # voxels to the farthest patch; 3 takes twice as long and is no better
_STRENGTH = 0.6  # of the noise; more blurs the MNI152 template, less leaves noise


def denoise(voxels: Array, mask: Array, spacing: Sequence[float]) -> Array:
    """Return an image with less noise, as float32, and 0 outside of the mask.

    Args:
        voxels: Finite intensities, shape (X, Y, Z).
        mask: True in the brain, same shape, at least one voxel.
        spacing: Distance of voxel centers along each axis in mm.
    """
    from skimage.restoration import denoise_nl_means

    box = box_around(mask)
    brain = np.ascontiguousarray(voxels[box], dtype=np.float32)
    noise = noise_level(brain, mask[box], spacing)
    if noise > 0:
        smooth = denoise_nl_means(
            brain,
            patch_size=_PATCH,
            patch_distance=_DISTANCE,
            h=_STRENGTH * noise,
            sigma=noise,
            fast_mode=True,
        )
        brain = smooth.reshape(brain.shape)  # it drops axes of length 1
    denoised = np.zeros(voxels.shape, dtype=np.float32)
    denoised[box] = np.where(mask[box], brain, 0)
    return denoised


def noise_level(voxels: Array, mask: Array, spacing: Sequence[float]) -> float:
    """Return the standard deviation of the noise in the brain.

    It is taken from how much voxels differ from the mean of their neighbors, with a
    median, which edges of the anatomy hardly change. Neighbors across thick slices
    differ for other reasons and are left out.

    Args:
        voxels: Finite intensities, shape (X, Y, Z).
        mask: True in the brain, same shape.
        spacing: Distance of voxel centers along each axis in mm.
    """
    from scipy.ndimage import binary_erosion, convolve

    axes = [
        axis
        for axis in range(3)
        if spacing[axis] <= 1.5 * min(spacing) and voxels.shape[axis] >= 3
    ]
    kernel = np.zeros((3, 3, 3))
    for axis in axes:
        for side in (0, 2):
            kernel[tuple(side if a == axis else 1 for a in range(3))] = 1
    cross = kernel > 0
    cross[1, 1, 1] = True
    inside = binary_erosion(mask, cross)
    if not axes or not inside.any():
        return 0.0
    neighbors = 2 * len(axes)
    mean = convolve(voxels.astype(np.float32), kernel / neighbors)
    differences = (voxels - mean)[inside]
    deviation = np.median(abs(differences - np.median(differences))) / 0.6745
    # The mean of the neighbors has noise, too.
    return float(deviation * np.sqrt(neighbors / (neighbors + 1)))
