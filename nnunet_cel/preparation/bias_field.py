"""Evens out the brightness that varies slowly over an image, with N4.

Reference: Tustison et al., IEEE TMI 2010;29:1310-1320, doi:10.1109/TMI.2010.2046908.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_cel.resampling import box_around

__all__ = ["correct_bias"]

Array = npt.NDArray[Any]

_GRID = 4.0  # mm; a finer one takes 20 times as long and is no better
_ITERATIONS = (50, 50, 50, 50)
_MIN_SIZE = 8  # voxels along an axis that shrinking leaves
_MIN_SLICES = 4  # what the splines need


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
    first = tuple(slice(None, None, count) for count in copies)
    field = field[first]
    centered: Array = field - field[used].mean(dtype=float)
    return centered


def _repeated(voxels: Array, copies: Sequence[int]) -> Array:
    """Return an array with every slice repeated along each axis."""
    for axis, count in enumerate(copies):
        voxels = np.repeat(voxels, count, axis=axis)
    return voxels
