"""Deformation of the template: the random shape of a subject's head.

Words:

- *deformation*: the map from a subject's points to template points, both in mm.
- *spline field*: a smooth random function of the place, such as a displacement, a bias
  field or a texture.

What is random is drawn into records first; applying a record is deterministic and
does not depend on the voxel size, so one subject can be had at several spacings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_cel.phantom.anatomy import BOX_HIGH, BOX_LOW, Grid, load_template

__all__ = ["Deformation", "SplineField", "draw_deformation", "draw_spline"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SplineField:
    """A smooth random field: a cubic B-spline on a regular lattice of knots.

    Args:
        knot_spacing: Distance of the knots in mm.
        coefficients: One value per channel and knot, (C, KX, KY, KZ).
    """

    knot_spacing: float
    coefficients: Array

    @staticmethod
    def knots(knot_spacing: float) -> tuple[int, int, int]:
        """Return how many knots (KX, KY, KZ) the box of the brain needs."""
        x, y, z = np.ceil((BOX_HIGH - BOX_LOW) / knot_spacing).astype(int) + 4
        return int(x), int(y), int(z)

    def _basis(self, axis: int, points: Array) -> Array:
        """Return the weight of every knot at every coordinate, (N, K)."""
        first = BOX_LOW[axis] - self.knot_spacing
        knots = np.arange(self.coefficients.shape[1 + axis])
        t = np.abs((points[:, None] - first) / self.knot_spacing - knots)
        near = 2 / 3 - t**2 + t**3 / 2
        far = np.clip(2 - t, 0, None) ** 3 / 6
        return np.asarray(np.where(t < 1, near, far), dtype=np.float32)

    def on_grid(self, grid: Grid) -> Array:
        """Return the field at all voxels, (C, X, Y, Z)."""
        x, y, z = (self._basis(i, axis) for i, axis in enumerate(grid.axes()))
        field = np.tensordot(self.coefficients, z, axes=(3, 1))
        field = np.tensordot(field, y, axes=(2, 1))
        field = np.tensordot(field, x, axes=(1, 1))
        return np.ascontiguousarray(field.transpose(0, 3, 2, 1))

    def at(self, points: Array) -> Array:
        """Return the field at points in mm (N, 3), (N, C)."""
        # SciPy's cubic interpolation without its prefilter is the same B-spline.
        place = (points.T - BOX_LOW[:, None]) / self.knot_spacing + 1
        channels = [
            ndimage.map_coordinates(values, place, order=3, prefilter=False)
            for values in self.coefficients
        ]
        return np.stack(channels, axis=1)


def draw_spline(
    rng: np.random.Generator, knot_spacing: float, amplitude: float, channels: int
) -> SplineField:
    """Draw a smooth field of zero mean.

    Args:
        rng: Source of randomness.
        knot_spacing: Scale of the variation in mm.
        amplitude: Standard deviation of the field.
        channels: Number of independent channels.
    """
    # A B-spline averages its coefficients: at a knot with the weights 1/6, 4/6, 1/6.
    gain = (1 / 36 + 16 / 36 + 1 / 36) ** 1.5
    shape = (channels, *SplineField.knots(knot_spacing))
    values = rng.standard_normal(shape) * (amplitude / gain)
    return SplineField(knot_spacing, values.astype(np.float32))


@dataclass(frozen=True)
class Deformation:
    """Where a subject's points lie in the template.

    Args:
        matrix: Linear part, (3, 3).
        offset: Translation in mm, (3,).
        flip: Whether left and right are exchanged.
        fields: Displacements in mm that are added up, each with three channels.
    """

    matrix: Array
    offset: Array
    flip: bool
    fields: tuple[SplineField, ...]

    def on_grid(self, grid: Grid) -> Array:
        """Return the template point in mm of every voxel, (3, X, Y, Z)."""
        x, y, z = (axis.astype(np.float32) for axis in grid.axes())
        shift = np.asarray(sum(field.on_grid(grid) for field in self.fields))
        matrix, offset = self.matrix.astype(np.float32), self.offset
        for row in range(3):
            shift[row] += (matrix[row, 0] * x + np.float32(offset[row]))[:, None, None]
            shift[row] += (matrix[row, 1] * y)[:, None]
            shift[row] += matrix[row, 2] * z
        if self.flip:
            shift[0] *= -1
        return shift

    def to_template(self, points: Array) -> Array:
        """Map subject points to template points, both in mm (N, 3)."""
        moved = points @ self.matrix.T + self.offset
        moved = moved + sum(field.at(points) for field in self.fields)
        return np.asarray(moved * [-1.0 if self.flip else 1.0, 1.0, 1.0])

    def to_subject(self, points: Array) -> Array:
        """Map template points to subject points, both in mm (N, 3).

        The inverse is found by fixed-point iteration, which converges because the
        displacements are small and smooth.
        """
        mirror = np.array([-1.0 if self.flip else 1.0, 1.0, 1.0])
        inverse = np.linalg.inv(self.matrix)
        found = (points * mirror - self.offset) @ inverse.T
        for _ in range(12):
            wrong = (points - self.to_template(found)) * mirror
            found = found + wrong @ inverse.T
        return np.asarray(found)


@cache
def _toward_ventricles() -> SplineField:
    """Return displacements that widen the ventricles by 1 mm at the most."""
    template = load_template()
    smooth = ndimage.gaussian_filter(template.ventricles.astype(np.float32), 4.0)
    slope = np.stack(np.gradient(smooth))
    slope /= np.sqrt((slope**2).sum(0)).max()
    knot_spacing = 5.0
    axes = [
        low + knot_spacing * (np.arange(count) - 1) - start
        for low, count, start in zip(
            BOX_LOW, SplineField.knots(knot_spacing), template.origin, strict=True
        )
    ]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"))
    channels = [ndimage.map_coordinates(part, lattice, order=1) for part in slope]
    return SplineField(knot_spacing, np.stack(channels).astype(np.float32))


def draw_deformation(rng: np.random.Generator) -> Deformation:
    """Draw the shape of a subject's head.

    The template is larger than most brains, so subjects are smaller by 2 to 12 %.
    """
    angles = np.deg2rad(rng.normal(0.0, 3.0, 3).clip(-8, 8))
    scale = rng.uniform(0.90, 0.99) * rng.normal(1.0, 0.02, 3).clip(0.96, 1.04)
    matrix = _rotation(angles) @ np.diag(1 / scale)
    offset = rng.normal(0.0, 1.5, 3).clip(-3, 3)
    flip = bool(rng.random() < 0.5)
    wide, middle, fine = (
        draw_spline(rng, knot_spacing, amplitude, 3)
        for knot_spacing, amplitude in ((40.0, 2.0), (20.0, 1.3), (10.0, 0.8))
    )
    unit = _toward_ventricles()
    widening = np.float32(rng.uniform(0.0, 3.5))
    ventricles = SplineField(unit.knot_spacing, unit.coefficients * widening)
    return Deformation(matrix, offset, flip, (wide, middle, fine, ventricles))


def _rotation(angles: Array) -> Array:
    """Return the rotation by angles in radians about x, then y, then z, (3, 3)."""
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
