"""Crops images and label maps, and resamples them to other grids.

Words:

- *box*: three slices of voxel indices, one for each axis.
- *grid*: shape and affine of a volume, without its voxels.
- *RAS order*: axes that run, as nearly as they can, to the right, to the front and to
  the head.

Nothing here moves anything in the world: what changes is where the voxels lie, and the
affine says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import nibabel as nib
import numpy as np
from scipy.ndimage import find_objects

from nnunet_cel.volumes import Array, Volume

__all__ = [
    "Box",
    "Grid",
    "box_around",
    "crop",
    "grid_of",
    "grid_with_spacing",
    "resample_image",
    "resample_labels",
    "to_ras",
]

Box: TypeAlias = tuple[slice, slice, slice]

_SAME = 1e-3  # mm by which spacings may differ and be called the same
_TIE = 1e-4  # rounding must not decide about a voxel that is half lesion
_CROOKED = 1e-4  # voxels per voxel by which axes may differ and be called the same


class Grid(NamedTuple):
    """Where voxels lie.

    Args:
        shape: Number of voxels along each axis.
        affine: Voxel indices to mm in RAS order, shape (4, 4), float64.
    """

    shape: tuple[int, int, int]
    affine: Array


def grid_of(volume: Volume) -> Grid:
    """Return the grid of a volume."""
    x, y, z = volume.voxels.shape
    return Grid((x, y, z), volume.affine)


def to_ras(volume: Volume) -> Volume:
    """Return the same voxels with axes in RAS order; nothing is interpolated."""
    order = nib.orientations.io_orientation(volume.affine)
    turned = nib.orientations.inv_ornt_aff(order, volume.voxels.shape)
    voxels = nib.orientations.apply_orientation(volume.voxels, order)
    return Volume(voxels, volume.affine @ turned)


def box_around(
    mask: Array, spacing: Sequence[float] = (1, 1, 1), margin: float = 0
) -> Box:
    """Return the smallest box around the voxels > 0 of a mask.

    There must be one. A margin in mm is added on all sides, rounded up to voxels,
    within the image.
    """
    (found,) = find_objects((mask > 0).astype(np.int8))
    more = np.ceil(margin / np.array(spacing) - _SAME).astype(int)
    x, y, z = (
        slice(max(used.start - extra, 0), min(used.stop + extra, size))
        for used, extra, size in zip(found, more.tolist(), mask.shape, strict=True)
    )
    return x, y, z


def crop(volume: Volume, box: Box) -> Volume:
    """Return the part of a volume that lies in a box."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return Volume(volume.voxels[box], affine)


def grid_with_spacing(grid: Grid, spacing: Sequence[float]) -> Grid:
    """Return a grid of another spacing that covers the same part of the world.

    Both grids have the same axes and the same center. An axis that has the spacing
    already keeps its voxels. On the others a rest of less than a voxel is covered by
    one more. The spacing is in mm from left to right, back to front and foot to head;
    each axis gets that of the direction nearest to its own.
    """
    nearest = nib.orientations.io_orientation(grid.affine)[:, 0].astype(int)
    shape = list(grid.shape)
    affine = grid.affine.copy()
    for axis, direction in enumerate(nearest):
        old = float(np.linalg.norm(grid.affine[:3, axis]))
        new = float(spacing[direction])
        if abs(old - new) < _SAME:
            continue
        extent = grid.shape[axis] * old
        shape[axis] = int(np.ceil(extent / new - _SAME))
        affine[:3, axis] *= new / old
        # From the center of the first voxel to that of the new first one, in mm.
        shift = (extent - old - (shape[axis] - 1) * new) / 2
        affine[:3, 3] += grid.affine[:3, axis] / old * shift
    return Grid((shape[0], shape[1], shape[2]), affine)


def resample_image(volume: Volume, grid: Grid) -> Volume:
    """Return an image on another grid, interpolated linearly, as float32.

    It is 0 where the volume has no voxel. On the volume's own grid its values stay.
    """
    voxels = volume.voxels.astype(np.float32)
    if voxels.shape == grid.shape and np.array_equal(volume.affine, grid.affine):
        return Volume(voxels, grid.affine)
    return Volume(_interpolate(voxels, volume.affine, grid), grid.affine)


def resample_labels(volume: Volume, grid: Grid) -> Volume:
    """Return a label map on another grid, as uint8.

    A voxel belongs to the labels if they cover at least half of it, and gets the one
    that covers most. So no lesion gets lost where voxels become smaller. Between grids
    whose axes differ, shares are interpolated linearly.
    """
    labels = np.zeros(grid.shape, dtype=np.uint8)
    foreground = volume.voxels > 0
    if foreground.any():
        # One voxel of background around the labels is all that interpolation looks at.
        part = crop(volume, box_around(foreground, margin=1))
        together, largest = np.zeros((2, *grid.shape), dtype=np.float32)
        for value in np.unique(part.voxels[part.voxels > 0]):
            mask = Volume((part.voxels == value).astype(np.float32), part.affine)
            share = _shares(mask, grid)
            labels[share > largest + _TIE] = value
            together += share
            np.maximum(largest, share, out=largest)
        labels[together < 0.5 - _TIE] = 0
    return Volume(labels, grid.affine)


def _shares(mask: Volume, grid: Grid) -> Array:
    """Return which share of each voxel of a grid a mask covers, float32."""
    to_mask = np.linalg.inv(mask.affine) @ grid.affine
    steps = np.diag(to_mask)[:3]
    crooked = abs(to_mask[:3, :3] - np.diag(steps)).max()
    if crooked > _CROOKED or (steps <= 0).any():
        return _interpolate(mask.voxels, mask.affine, grid)
    shares: Array = mask.voxels
    for axis, step in enumerate(steps):
        # Centers of the new voxels and of the mask's own, in voxels of the mask.
        centers = to_mask[axis, 3] + step * np.arange(grid.shape[axis])[:, None]
        own = np.arange(mask.voxels.shape[axis])[None, :]
        right = np.minimum(centers + step / 2, own + 0.5)
        left = np.maximum(centers - step / 2, own - 0.5)
        covers = (np.clip(right - left, 0, None) / step).astype(np.float32)
        shares = np.moveaxis(np.tensordot(covers, shares, (1, axis)), 0, axis)
    return shares


def _interpolate(voxels: Array, affine: Array, grid: Grid) -> Array:
    """Return float32 voxels on another grid."""
    import SimpleITK as sitk

    source = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    target = sitk.Image(grid.shape, sitk.sitkUInt8)
    to_lps = np.diag([-1.0, -1.0, 1.0])  # ITK counts to the left and to the back
    for image, its in ((source, affine), (target, grid.affine)):
        spacing = np.linalg.norm(its[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((to_lps @ its[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin((to_lps @ its[:3, 3]).tolist())
    resampled = sitk.Resample(source, target, sitk.Transform(), sitk.sitkLinear, 0.0)
    values: Array = sitk.GetArrayFromImage(resampled).T
    return values
