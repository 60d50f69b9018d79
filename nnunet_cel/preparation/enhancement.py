"""Evens out slow changes of brightness (N4), and removes noise (non-local means).

References: Tustison et al., IEEE TMI 2010;29:1310-1320, doi:10.1109/TMI.2010.2046908,
for N4; Coupe et al., IEEE TMI 2008;27:425-441, doi:10.1109/TMI.2007.906087, for
non-local means and the estimate of the noise; Darbon et al., ISBI 2008:1331-1334, for
the fast way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_cel.resampling import box_around

__all__ = ["correct_bias", "denoise", "noise_level"]

Array = npt.NDArray[Any]

_GRID = 4.0  # mm; a finer one takes 20 times as long and is no better
_ITERATIONS = (50, 50, 50, 50)
_MIN_SIZE = 8  # voxels along an axis that shrinking leaves
_MIN_SLICES = 4  # what the splines need

_PATCH = 3  # voxels along each edge of a patch
_DISTANCE = 2  # voxels to the farthest patch; 3 takes twice as long and is no better
_STRENGTH = 0.6  # of the noise; more blurs the MNI152 template, less leaves noise


def correct_bias(voxels: Array, mask: Array, spacing: Sequence[float]) -> Array:
    """Return an image without its bias field, as float32, and 0 outside of the mask.

    The field is found on every fourth voxel of 1 mm, on fewer of larger ones, and
    applied to all. Its geometric mean is 1, so that the image stays as bright as it
    was. Negative intensities become 0.

    Args:
        voxels: Finite intensities, shape (X, Y, Z).
        mask: True in the brain, same shape, at least one voxel.
        spacing: Distance of voxel centers along each axis in mm.
    """
    corrected = np.zeros(voxels.shape, dtype=np.float32)
    box = box_around(mask)
    inside = mask[box]
    brain = np.where(inside, voxels[box], 0).clip(min=0).astype(np.float32)
    field = _log_field(brain, inside & (brain > 0), spacing)
    corrected[box] = np.where(inside, brain / np.exp(field), 0)
    return corrected


def _log_field(brain: Array, used: Array, spacing: Sequence[float]) -> Array:
    """Return the logarithm of the bias field, with a mean of 0 over the used voxels."""
    import SimpleITK as sitk

    values = brain[used]
    if values.size == 0 or values.min() == values.max():
        return np.zeros_like(brain)
    # Splines cannot be fitted to one or two slices; to copies of them they can.
    copies = [-(-_MIN_SLICES // size) for size in brain.shape]
    shrink = [
        max(1, min(round(_GRID / step), size // _MIN_SIZE))
        for step, size in zip(spacing, brain.shape, strict=True)
    ]
    image = sitk.GetImageFromArray(_repeated(brain, copies).T)
    mask = sitk.GetImageFromArray(_repeated(used, copies).T.astype(np.uint8))
    small = sitk.Shrink(mask, shrink)
    if not sitk.GetArrayViewFromImage(small).any():  # a mask of a few voxels
        shrink = [1, 1, 1]
        small = mask
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.Execute(sitk.Shrink(image, shrink), small)
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    field = field[tuple(slice(None, None, count) for count in copies)]
    centered: Array = field - field[used].mean(dtype=float)
    return centered


def _repeated(voxels: Array, copies: Sequence[int]) -> Array:
    """Return an array with every slice repeated along each axis."""
    for axis, count in enumerate(copies):
        voxels = np.repeat(voxels, count, axis=axis)
    return voxels


def denoise(voxels: Array, mask: Array, spacing: Sequence[float]) -> Array:
    """Return an image with less noise, as float32, and 0 outside of the mask.

    Args: as of :func:`correct_bias`.
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

    Args: as of :func:`correct_bias`.
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
