"""Anatomy of synthetic subjects: voxel grid, average brain, and the shape of a head.

Words:

- *grid*: the voxels of a subject, in mm of its own space.
- *template*: the MNI152 average brain (ICBM 2009a symmetric) that nilearn ships, on
  its 1 mm grid. Template points are MNI coordinates in mm.
- *deformation*: the map from a subject's points to template points, both in mm.
- *spline field*: a smooth random function of the place, such as a displacement, a bias
  field or a texture.

What is random is drawn into records first; applying a record is deterministic and
does not depend on the voxel size, so one subject can be had at several spacings.

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

__all__ = [
    "BOX_LOW",
    "Deformation",
    "Grid",
    "SplineField",
    "Template",
    "draw_deformation",
    "draw_spline",
    "load_template",
    "mni_axes",
]

Array = npt.NDArray[Any]

# MNI coordinates in mm that hold the brain of every subject with a margin of air.
BOX_LOW = np.array([-80.0, -116.0, -76.0])
_BOX_HIGH = np.array([80.0, 82.0, 92.0])


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
        x, y, z = np.ceil((_BOX_HIGH - BOX_LOW) / spacing - 1e-6).astype(int) + 1
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

    def at(self, values: Array, points: Array) -> Array:
        """Return ``values`` at the voxels nearest to points in mm (N, 3)."""
        voxels = np.rint(points - self.origin).astype(int)
        i, j, k = np.clip(voxels, 0, np.array(self.brain.shape) - 1).T
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
        x, y, z = np.ceil((_BOX_HIGH - BOX_LOW) / knot_spacing).astype(int) + 4
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
