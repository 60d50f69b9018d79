"""Finds the brain with the Brain Extraction Tool, in Python.

A sphere inside the head grows until it meets the dark rim around the brain.
The program is brainextractor of PyPI, the extra `bet`. Three things are added here:

- It works on voxels of about 1 mm, so the image is resampled and the mask brought back.
- Its own mask lies one voxel off on each axis; ours comes from the same surface.
- It looks up voxels outside of the image where the surface nears the border, so it gets
  an image with a border of empty voxels.

Reference: Smith, Hum Brain Mapp 2002;17:143-155, doi:10.1002/hbm.10062.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_cel.resampling import (
    grid_of,
    grid_with_spacing,
    resample_image,
    resample_labels,
    to_ras,
)
from nnunet_cel.volumes import Volume

__all__ = ["bet_mask"]

Array = npt.NDArray[Any]

_REACH = 25  # voxels; it looks 20 mm inwards and steps outwards by less than 5


def bet_mask(image: Volume) -> Array:
    """Return where the brain is, booleans of shape (X, Y, Z).

    The result does not depend on the unit of the intensities, nor on the order of the
    axes. It is the same in every run.

    Args:
        image: A head with finite intensities, brain brighter than its rim (T1w, FLAIR).

    Raises:
        ImportError: If brainextractor is not installed.
        ValueError: If there is no head in the image.
    """
    turned = to_ras(image)  # so that axes that run the other way change nothing
    grid = grid_with_spacing(grid_of(turned), (1, 1, 1))
    voxels = resample_image(turned, grid).voxels
    mask = _extract(voxels)
    found = resample_labels(Volume(mask.astype(np.uint8), grid.affine), grid_of(image))
    return found.voxels > 0


def _extract(voxels: Array) -> Array:
    """Return the brain mask of an image with voxels of 1 mm."""
    from brainextractor import BrainExtractor

    if voxels.size == 0 or voxels.min() == voxels.max():
        raise ValueError(
            "The brain extraction must get an image of a head. Got one in which all "
            "voxels are equal: look at it."
        )
    head = nib.Nifti1Image(np.ascontiguousarray(voxels), np.eye(4))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # a line for each iteration
            extractor = BrainExtractor(head)
            border = _add_border(extractor)
            extractor.run()
            points = extractor.surface.voxelized(1).fill().points
    except (ArithmeticError, IndexError) as error:
        raise ValueError(
            "The brain extraction must get an image of a head, with a brain that is "
            "brighter than its rim. It found none: look at the image, or give a brain "
            "mask of your own."
        ) from error
    indices = np.rint(points).astype(int) - border
    inside = ((indices >= 0) & (indices < voxels.shape)).all(axis=1)
    mask = np.zeros(voxels.shape, dtype=bool)
    mask[tuple(indices[inside].T)] = True
    return mask


def _add_border(extractor: Any) -> int:
    """Surround the image of an extractor with empty voxels, and return how many.

    This comes after its intensity thresholds are set, which the border would change.
    """
    vertices = extractor.vertices
    outside = max(-vertices.min(), (vertices - extractor.data.shape).max(), 0)
    border = int(np.ceil(outside)) + _REACH
    extractor.data = np.pad(extractor.data, border, constant_values=extractor.tmin)
    extractor.vertices = vertices + border
    extractor.update_surface_attributes()
    return border
