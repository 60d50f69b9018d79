"""Anatomy that all synthetic subjects share: the voxel grid and the average brain.

Words:

- *grid*: the voxels of a subject, in mm of its own space.
- *template*: the MNI152 average brain (ICBM 2009a symmetric) that nilearn ships, on
  its 1 mm grid. Template points are MNI coordinates in mm.

Reference: Fonov et al., Unbiased average age-appropriate brain templates from birth to
adulthood, NeuroImage 47 (2009) S102.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["BOX_HIGH", "BOX_LOW", "Grid", "Template", "load_template", "mni_axes"]

Array = npt.NDArray[Any]

# MNI coordinates in mm that hold the brain of every subject with a margin of air.
BOX_LOW = np.array([-80.0, -116.0, -76.0])
BOX_HIGH = np.array([80.0, 82.0, 92.0])


@dataclass(frozen=True)
class Grid:
    """Voxel grid of a subject: axis-parallel, right-anterior-superior.

    Args:
        spacing: Voxel edge in mm.
        shape: Number of voxels (X, Y, Z).
    """

    spacing: float
    shape: tuple[int, int, int]

    @classmethod
    def of_spacing(cls, spacing: float) -> Grid:
        """Return the grid of ``spacing`` mm that covers the box of the brain."""
        if not 1.0 <= spacing <= 8.0:
            raise ValueError(
                "The spacing of a phantom must be from 1 to 8 mm, because the template "
                f"has voxels of 1 mm. Got {spacing} instead."
            )
        x, y, z = np.ceil((BOX_HIGH - BOX_LOW) / spacing - 1e-6).astype(int) + 1
        return cls(float(spacing), (int(x), int(y), int(z)))

    @property
    def affine(self) -> Array:
        """Voxel indices to mm, (4, 4)."""
        affine = np.diag([self.spacing] * 3 + [1.0])
        affine[:3, 3] = BOX_LOW
        return affine

    def axes(self) -> tuple[Array, Array, Array]:
        """Return the coordinates in mm of the voxel centers along x, y and z."""
        x, y, z = (
            low + self.spacing * np.arange(count)
            for low, count in zip(BOX_LOW, self.shape, strict=True)
        )
        return x, y, z

    def box(self, center: Array, reach: float) -> tuple[slice, slice, slice]:
        """Return the voxels within ``reach`` mm of ``center`` along every axis."""
        low = np.floor((center - reach - BOX_LOW) / self.spacing).astype(int)
        high = np.ceil((center + reach - BOX_LOW) / self.spacing).astype(int) + 1
        x, y, z = (
            slice(max(0, int(a)), max(0, min(int(b), count)))
            for a, b, count in zip(low, high, self.shape, strict=True)
        )
        return x, y, z


@dataclass(frozen=True)
class Template:
    """The average brain on its 1 mm grid, all arrays of shape (X, Y, Z).

    Args:
        gray: Fraction of gray matter, from 0 to 1.
        white: Fraction of white matter, from 0 to 1.
        brain: 1 inside the brain, 0 outside.
        ventricles: True in the lateral ventricles.
        wall_distance: Distance to the lateral ventricles in mm.
        cortex_distance: Distance to gray matter in mm.
        depth: Distance to the surface of the brain in mm, 0 outside.
        origin: MNI coordinates of the first voxel in mm, (3,).
    """

    gray: Array
    white: Array
    brain: Array
    ventricles: Array
    wall_distance: Array
    cortex_distance: Array
    depth: Array
    origin: Array

    def voxels(self, points: Array) -> Array:
        """Return the indices (N, 3) of the voxels nearest to points in mm (N, 3)."""
        voxels = np.rint(points - self.origin).astype(int)
        return np.asarray(np.clip(voxels, 0, np.array(self.brain.shape) - 1))

    def at(self, values: Array, points: Array) -> Array:
        """Return ``values`` at the voxels nearest to points in mm (N, 3)."""
        i, j, k = self.voxels(points).T
        picked: Array = values[i, j, k]
        return picked

    def points(self, where: Array, step: int = 1) -> Array:
        """Return the MNI points (N, 3) of every ``step``-th voxel of a mask."""
        found = np.argwhere(where[::step, ::step, ::step]) * step
        return found + self.origin


@cache
def load_template() -> Template:
    """Load the average brain once per process.

    Raises:
        ImportError: If nilearn, which ships the template, is not installed.
    """
    try:
        from nilearn import datasets
    except ImportError as error:
        raise ImportError(
            "Phantoms are made from the MNI152 template that nilearn ships, and "
            'nilearn is not installed. Run: pip install "nnunet-cel[demo]"'
        ) from error
    image = datasets.load_mni152_brain_mask(resolution=1)
    whole = np.asarray(image.dataobj) > 0
    cut = ndimage.find_objects(whole.astype(np.uint8))[0]
    low = np.array([part.start for part in cut])
    origin = np.asarray(image.affine, dtype=float)[:3, 3] + low
    # A voxel of air all around, which the brain stem lacks in the original.
    brain = np.pad(whole[cut], 1)
    origin -= 1
    gray, white = (
        np.pad(np.asarray(load(resolution=1).dataobj)[cut].astype(np.float32), 1)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    depth = ndimage.distance_transform_edt(brain).astype(np.float32)
    x, y, z = mni_axes(brain.shape, origin)
    inner = (np.abs(x) < 38) & (y > -56) & (y < 42) & (z > -6) & (z < 38)
    pieces, _ = ndimage.label((1 - gray - white > 0.5) & (depth > 25) & inner)
    # The lateral ventricles, 5 ml each. Third ventricle and cisterns are smaller.
    large = np.flatnonzero(np.bincount(pieces.ravel())[1:] > 2500) + 1
    ventricles = np.isin(pieces, large)
    return Template(
        gray=gray,
        white=white,
        brain=brain.astype(np.float32),
        ventricles=ventricles,
        wall_distance=_distance_to(ventricles),
        cortex_distance=_distance_to(gray >= 0.5),
        depth=depth,
        origin=origin,
    )


def mni_axes(shape: tuple[int, ...], origin: Array) -> tuple[Array, Array, Array]:
    """Return x, y and z in mm of a 1 mm grid, to be broadcast against each other."""
    x, y, z = np.ogrid[tuple(slice(count) for count in shape)]
    return x + origin[0], y + origin[1], z + origin[2]


def _distance_to(where: Array) -> Array:
    """Return the distance in mm to the nearest True voxel, on a 1 mm grid."""
    return np.asarray(ndimage.distance_transform_edt(~where), dtype=np.float32)
