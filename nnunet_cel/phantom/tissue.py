"""Tissue of a synthetic subject: the template's maps in the subject's voxels.

Words:

- *tissue*: fractions of gray matter, white matter and cerebrospinal fluid (CSF) in a
  voxel; they sum to 1 inside the brain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_cel.phantom.anatomy import Grid, load_template
from nnunet_cel.phantom.deformation import Deformation

__all__ = ["Tissue", "warp_tissue"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tissue:
    """Tissue fractions of a subject, arrays of shape (X, Y, Z).

    Args:
        gray: Fraction of gray matter, 0 outside the brain.
        white: Fraction of white matter, 0 outside the brain.
        fluid: Fraction of CSF, 0 outside the brain.
        brain: True inside the brain.
    """

    gray: Array
    white: Array
    fluid: Array
    brain: Array


@lru_cache(maxsize=2)
def _smoothed_template(spacing: float) -> tuple[Array, Array, Array]:
    """Return gray, white and brain, smoothed as voxels of ``spacing`` mm are."""
    template = load_template()
    maps = (template.gray, template.white, template.brain)
    if spacing <= 1.0:
        return maps
    sigma = 0.35 * np.sqrt(spacing**2 - 1)
    gray, white, brain = (ndimage.gaussian_filter(values, sigma) for values in maps)
    return gray, white, brain


def warp_tissue(
    deformation: Deformation, grid: Grid, *, sharpness: float, fluid_weight: float
) -> Tissue:
    """Bring the template's tissue maps into a subject's space.

    The template is an average, so its cortex is blurred. Powers of the fractions
    sharpen it.

    Args:
        deformation: Shape of the subject.
        grid: Voxels of the subject.
        sharpness: Exponent of the fractions; 1 leaves them as they are.
        fluid_weight: Factor on the CSF; above 1 the sulci are wider (atrophy).
    """
    template = load_template()
    points = deformation.on_grid(grid)
    points -= template.origin.astype(np.float32)[:, None, None, None]
    gray_map, white_map, brain_map = _smoothed_template(grid.spacing)
    inside = ndimage.map_coordinates(brain_map, points, order=1) > 0.5
    where = points[:, inside]
    gray = ndimage.map_coordinates(gray_map, where, order=1)
    white = ndimage.map_coordinates(white_map, where, order=1)
    fluid = np.clip(1 - gray - white, 0, 1)
    parts = np.stack([gray, white, fluid]).clip(0, 1) ** np.float32(sharpness)
    parts[2] *= fluid_weight
    parts /= parts.sum(0) + np.float32(1e-6)
    volumes = np.zeros((3, *grid.shape), dtype=np.float32)
    volumes[:, inside] = parts
    return Tissue(volumes[0], volumes[1], volumes[2], inside)
