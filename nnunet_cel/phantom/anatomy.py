"""Anatomy of a synthetic subject: tissue maps, deformation and blood vessels.

Words:

- *template*: the MNI152 average brain (ICBM 2009a symmetric) that nilearn ships, on
  its 1 mm grid. Template points are MNI coordinates in mm.
- *tissue*: fractions of grey matter, white matter and cerebrospinal fluid (CSF) in a
  voxel; they sum to 1 inside the brain.
- *deformation*: the map from a subject's points to template points, both in mm.
- *vessel*: a tube along a polyline of template points.

What is random is drawn into records first; applying a record is deterministic and
does not depend on the voxel size, so one subject can be had at several spacings.

Reference: Fonov et al., Unbiased average age-appropriate brain templates from birth to
adulthood, NeuroImage 47 (2009) S102.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = [
    "Deformation",
    "Grid",
    "SplineField",
    "Template",
    "Tissue",
    "Vessel",
    "draw_deformation",
    "draw_spline",
    "draw_vessels",
    "load_template",
    "mni_axes",
    "paint_vessels",
    "warp_tissue",
]

Array = npt.NDArray[Any]

# MNI coordinates in mm that hold the brain of every subject with a margin of air.
BOX_LOW = np.array([-80.0, -116.0, -76.0])
BOX_HIGH = np.array([80.0, 82.0, 92.0])

_WALK_STEP = 1.0  # mm between two points of a cortical vessel


@dataclass(frozen=True)
class Grid:
    """Voxel grid of a subject: axis-parallel, right-anterior-superior.

    Attributes:
        spacing: Voxel edge in mm.
        shape: Number of voxels (X, Y, Z).
    """

    spacing: float
    shape: tuple[int, int, int]

    @classmethod
    def of_spacing(cls, spacing: float) -> Grid:
        """Returns the grid of ``spacing`` mm that covers the box of the brain."""
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
        """Returns the coordinates in mm of the voxel centres along x, y and z."""
        x, y, z = (
            low + self.spacing * np.arange(count)
            for low, count in zip(BOX_LOW, self.shape, strict=True)
        )
        return x, y, z

    def box(self, centre: Array, reach: float) -> tuple[slice, slice, slice]:
        """Returns the voxels within ``reach`` mm of ``centre`` along every axis."""
        low = np.floor((centre - reach - BOX_LOW) / self.spacing).astype(int)
        high = np.ceil((centre + reach - BOX_LOW) / self.spacing).astype(int) + 1
        x, y, z = (
            slice(max(0, int(a)), max(0, min(int(b), count)))
            for a, b, count in zip(low, high, self.shape, strict=True)
        )
        return x, y, z


@dataclass(frozen=True)
class Template:
    """The average brain on its 1 mm grid, all arrays of shape (X, Y, Z).

    Attributes:
        grey: Fraction of grey matter, from 0 to 1.
        white: Fraction of white matter, from 0 to 1.
        brain: 1 inside the brain, 0 outside.
        ventricles: True in the lateral ventricles.
        wall_distance: Distance to the lateral ventricles in mm.
        cortex_distance: Distance to grey matter in mm.
        depth: Distance to the surface of the brain in mm, 0 outside.
        origin: MNI coordinates of the first voxel in mm, (3,).
    """

    grey: Array
    white: Array
    brain: Array
    ventricles: Array
    wall_distance: Array
    cortex_distance: Array
    depth: Array
    origin: Array

    def voxels(self, points: Array) -> Array:
        """Returns the indices (N, 3) of the voxels nearest to points in mm (N, 3)."""
        voxels = np.rint(points - self.origin).astype(int)
        return np.asarray(np.clip(voxels, 0, np.array(self.brain.shape) - 1))

    def at(self, values: Array, points: Array) -> Array:
        """Returns ``values`` at the voxels nearest to points in mm (N, 3)."""
        i, j, k = self.voxels(points).T
        picked: Array = values[i, j, k]
        return picked

    def points(self, where: Array, step: int = 1) -> Array:
        """Returns the MNI points (N, 3) of every ``step``-th voxel of a mask."""
        found = np.argwhere(where[::step, ::step, ::step]) * step
        return found + self.origin


@cache
def load_template() -> Template:
    """Loads the average brain once per process.

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
    grey, white = (
        np.pad(np.asarray(load(resolution=1).dataobj)[cut].astype(np.float32), 1)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    depth = ndimage.distance_transform_edt(brain).astype(np.float32)
    x, y, z = mni_axes(brain.shape, origin)
    inner = (np.abs(x) < 38) & (y > -56) & (y < 42) & (z > -6) & (z < 38)
    pieces, _ = ndimage.label((1 - grey - white > 0.5) & (depth > 25) & inner)
    # The lateral ventricles, 5 ml each. Third ventricle and cisterns are smaller.
    large = np.flatnonzero(np.bincount(pieces.ravel())[1:] > 2500) + 1
    ventricles = np.isin(pieces, large)
    return Template(
        grey=grey,
        white=white,
        brain=brain.astype(np.float32),
        ventricles=ventricles,
        wall_distance=_distance_to(ventricles),
        cortex_distance=_distance_to(grey >= 0.5),
        depth=depth,
        origin=origin,
    )


def mni_axes(shape: tuple[int, ...], origin: Array) -> tuple[Array, Array, Array]:
    """Returns x, y and z in mm of a 1 mm grid, to be broadcast against each other."""
    x, y, z = np.ogrid[tuple(slice(count) for count in shape)]
    return x + origin[0], y + origin[1], z + origin[2]


def _distance_to(where: Array) -> Array:
    """Returns the distance in mm to the nearest True voxel, on a 1 mm grid."""
    return np.asarray(ndimage.distance_transform_edt(~where), dtype=np.float32)


@dataclass(frozen=True)
class SplineField:
    """A smooth random field: a cubic B-spline on a regular lattice of knots.

    Attributes:
        knot_spacing: Distance of the knots in mm.
        coefficients: One value per channel and knot, (C, KX, KY, KZ).
    """

    knot_spacing: float
    coefficients: Array

    @staticmethod
    def knots(knot_spacing: float) -> tuple[int, int, int]:
        """Returns how many knots (KX, KY, KZ) the box of the brain needs."""
        x, y, z = np.ceil((BOX_HIGH - BOX_LOW) / knot_spacing).astype(int) + 4
        return int(x), int(y), int(z)

    def _basis(self, axis: int, points: Array) -> Array:
        """Returns the weight of every knot at every coordinate, (N, K)."""
        first = BOX_LOW[axis] - self.knot_spacing
        knots = np.arange(self.coefficients.shape[1 + axis])
        t = np.abs((points[:, None] - first) / self.knot_spacing - knots)
        near = 2 / 3 - t**2 + t**3 / 2
        far = np.clip(2 - t, 0, None) ** 3 / 6
        return np.asarray(np.where(t < 1, near, far), dtype=np.float32)

    def on_grid(self, grid: Grid) -> Array:
        """Returns the field at all voxels, (C, X, Y, Z)."""
        x, y, z = (self._basis(i, axis) for i, axis in enumerate(grid.axes()))
        field = np.tensordot(self.coefficients, z, axes=(3, 1))
        field = np.tensordot(field, y, axes=(2, 1))
        field = np.tensordot(field, x, axes=(1, 1))
        return np.ascontiguousarray(field.transpose(0, 3, 2, 1))

    def at(self, points: Array) -> Array:
        """Returns the field at points in mm (N, 3), (N, C)."""
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
    """Draws a smooth field of zero mean.

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

    Attributes:
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
        """Returns the template point in mm of every voxel, (3, X, Y, Z)."""
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
        """Maps subject points to template points, both in mm (N, 3)."""
        moved = points @ self.matrix.T + self.offset
        moved = moved + sum(field.at(points) for field in self.fields)
        return np.asarray(moved * [-1.0 if self.flip else 1.0, 1.0, 1.0])

    def to_subject(self, points: Array) -> Array:
        """Maps template points to subject points, both in mm (N, 3).

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
def _towards_ventricles() -> SplineField:
    """Returns displacements that widen the ventricles by 1 mm at the most."""
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
    """Draws the shape of a subject's head.

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
    unit = _towards_ventricles()
    widening = np.float32(rng.uniform(0.0, 3.5))
    ventricles = SplineField(unit.knot_spacing, unit.coefficients * widening)
    return Deformation(matrix, offset, flip, (wide, middle, fine, ventricles))


def _rotation(angles: Array) -> Array:
    """Returns the rotation by angles in radians about x, then y, then z, (3, 3)."""
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


@dataclass(frozen=True)
class Tissue:
    """Tissue fractions of a subject, arrays of shape (X, Y, Z).

    Attributes:
        grey: Fraction of grey matter, 0 outside the brain.
        white: Fraction of white matter, 0 outside the brain.
        fluid: Fraction of CSF, 0 outside the brain.
        brain: True inside the brain.
    """

    grey: Array
    white: Array
    fluid: Array
    brain: Array


@lru_cache(maxsize=2)
def _smoothed_template(spacing: float) -> tuple[Array, Array, Array]:
    """Returns grey, white and brain, smoothed as voxels of ``spacing`` mm are."""
    template = load_template()
    maps = (template.grey, template.white, template.brain)
    if spacing <= 1.0:
        return maps
    sigma = 0.35 * np.sqrt(spacing**2 - 1)
    grey, white, brain = (ndimage.gaussian_filter(values, sigma) for values in maps)
    return grey, white, brain


def warp_tissue(
    deformation: Deformation, grid: Grid, *, sharpness: float, fluid_weight: float
) -> Tissue:
    """Brings the template's tissue maps into a subject's space.

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
    grey_map, white_map, brain_map = _smoothed_template(grid.spacing)
    inside = ndimage.map_coordinates(brain_map, points, order=1) > 0.5
    where = points[:, inside]
    grey = ndimage.map_coordinates(grey_map, where, order=1)
    white = ndimage.map_coordinates(white_map, where, order=1)
    fluid = np.clip(1 - grey - white, 0, 1)
    parts = np.stack([grey, white, fluid]).clip(0, 1) ** np.float32(sharpness)
    parts[2] *= fluid_weight
    parts /= parts.sum(0) + np.float32(1e-6)
    volumes = np.zeros((3, *grid.shape), dtype=np.float32)
    volumes[:, inside] = parts
    return Tissue(volumes[0], volumes[1], volumes[2], inside)


@dataclass(frozen=True)
class Vessel:
    """A tube that takes up contrast agent.

    Attributes:
        kind: Which vessel it is, for example ``"sinus"``.
        path: Template points in mm along the centre line, (N, 3).
        radius: Radius in mm at each point, (N,).
        intensity: Brightness in units of white matter.
    """

    kind: str
    path: Array
    radius: Array
    intensity: float


def draw_vessels(rng: np.random.Generator) -> tuple[Vessel, ...]:
    """Draws the vessels that are bright after contrast agent.

    Dural sinuses, deep veins, basal arteries, choroid plexus, vessels on the cortex and
    in its sulci, and thin veins that run through white matter to the ventricles.
    """
    vessels = [
        Vessel(
            kind,
            path + _wobble(rng, len(path), 1.2 if kind == "choroid plexus" else 0.6),
            radius * rng.uniform(0.8, 1.2),
            float(rng.uniform(1.35, 1.9)),
        )
        for kind, path, radius in _named_vessels()
    ]
    vessels += _draw_cortical_vessels(rng, count=int(rng.integers(28, 45)))
    vessels += _draw_perforating_veins(rng, count=int(rng.integers(8, 20)))
    return tuple(vessels)


# Course of vessels on the right in MNI mm: kind, points, radius at start and end in mm.
_COURSES: tuple[
    tuple[str, tuple[tuple[float, float, float], ...], float, float], ...
] = (
    ("deep vein", ((2, 2, 14), (2, -12, 17), (2, -26, 13), (1, -38, 10)), 0.6, 1.0),
    ("deep vein", ((16, 14, 21), (15, 2, 19), (9, 0, 16), (2, 2, 14)), 0.5, 0.8),
    ("artery", ((6, 2, -13), (16, 4, -14), (28, 6, -16), (40, 4, -14)), 1.3, 1.0),
    ("artery", ((40, 4, -14), (42, -6, -4), (42, -20, 10), (46, -34, 18)), 1.0, 0.7),
    ("artery", ((3, 6, -14), (2, 26, -10), (2, 38, 6), (2, 28, 24)), 1.0, 0.8),
    ("artery", ((3, -24, -14), (14, -28, -12), (20, -36, -4)), 1.0, 0.7),
    ("choroid plexus", ((18, -34, 17), (22, -42, 12), (24, -40, 4)), 1.2, 2.4),
)


@cache
def _named_vessels() -> tuple[tuple[str, Array, Array], ...]:
    """Returns kind, path and radius of the vessels that everybody has."""
    outline = np.deg2rad(np.linspace(25, 196, 90))
    directions = np.stack([0 * outline, np.cos(outline), np.sin(outline)], axis=1)
    sagittal = _surface(np.array([0.0, -15.0, 8.0]), directions, inset=2.5)
    torcula = sagittal[-1]
    found = [
        ("sinus", sagittal, np.linspace(1.5, 3.2, len(sagittal))),
        ("sinus", *_course(((0, -40, 8), (0, -62, 6), tuple(torcula)), 1.5, 2.2)),
        ("artery", *_course(((0, -18, -46), (0, -15, -34), (0, -20, -20)), 1.4, 1.5)),
    ]
    turn = np.deg2rad(np.linspace(4, 78, 60))
    for side in (1.0, -1.0):
        directions = np.stack([side * np.sin(turn), -np.cos(turn), 0 * turn], axis=1)
        centre = np.array([0.0, -40.0, torcula[2]])
        lateral = _surface(centre, directions, inset=1.5)
        found.append(("sinus", lateral, np.linspace(2.8, 2.0, len(lateral))))
        for kind, points, start, end in _COURSES:
            path, radius = _course(points, start, end)
            found.append((kind, path * [side, 1.0, 1.0], radius))
    return tuple(found)


def _surface(origin: Array, directions: Array, inset: float) -> Array:
    """Returns the points (N, 3) that lie ``inset`` mm before rays leave the brain."""
    template = load_template()
    steps = np.arange(0.0, 120.0, 0.5)
    points = origin + directions[:, None, :] * steps[:, None]
    inside = template.at(template.brain, points.reshape(-1, 3)) > 0.5
    inside = inside.reshape(len(directions), len(steps))
    last = len(steps) - 1 - inside[:, ::-1].argmax(axis=1)
    reach = ndimage.gaussian_filter1d(steps[last], 2.0, mode="nearest") - inset
    return np.asarray(origin + directions * reach[:, None])


def _course(
    points: tuple[tuple[float, ...], ...], start: float, end: float
) -> tuple[Array, Array]:
    """Returns a smooth path through points, a point per 0.5 mm, and its radii."""
    corners = np.array(points, dtype=float)
    length = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    place = np.concatenate([[0.0], np.cumsum(length)])
    t = np.linspace(0, place[-1], max(int(place[-1] * 2), 4))
    path = np.stack([np.interp(t, place, column) for column in corners.T], axis=1)
    path = ndimage.gaussian_filter1d(path, 5.0, axis=0, mode="nearest")
    return path, np.linspace(start, end, len(path))


def _wobble(rng: np.random.Generator, count: int, amplitude: float) -> Array:
    """Returns smooth random shifts in mm along a path, (count, 3)."""
    knots = rng.normal(0.0, amplitude, (count // 12 + 4, 3))
    t = np.linspace(0, len(knots) - 1, count)
    columns = [np.interp(t, np.arange(len(knots)), column) for column in knots.T]
    return np.stack(columns, axis=1)


@cache
def _sulci() -> tuple[Array, Array]:
    """Returns start points of cortical vessels (N, 3) and the slope towards CSF."""
    template = load_template()
    fluid = np.where(template.brain > 0, 1 - template.grey - template.white, -1.5)
    slope = np.stack(np.gradient(ndimage.gaussian_filter(fluid, 1.5)), axis=-1)
    shallow = (template.depth > 1.5) & (template.depth < 14)
    starts = template.points((fluid > 0.4) & shallow, step=2)
    return starts[starts[:, 2] > -25], slope.astype(np.float32)


def _draw_cortical_vessels(rng: np.random.Generator, count: int) -> list[Vessel]:
    """Draws vessels that wander along the sulci, most of them towards the midline."""
    template = load_template()
    starts, slope = _sulci()
    place = starts[rng.integers(len(starts), size=count)]
    goal = np.array([0.0, -25.0, 75.0]) + rng.normal(0.0, 25.0, (count, 3))
    heading = goal - place
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    steps = rng.integers(25, 75, size=count)
    turns = rng.normal(0.0, 0.22, (int(steps.max()), count, 3))
    trail = []
    for turn in turns:
        pull = template.at(slope, place)
        heading = heading + turn + 2.5 * pull
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        place = place + _WALK_STEP * heading
        trail.append(place)
    paths = np.stack(trail, axis=1)
    vessels = []
    for path, length in zip(paths, steps, strict=True):
        inside = template.at(template.brain, path[:length]) > 0.5
        end = int(length if inside.all() else inside.argmin())
        if end < 8:
            continue
        fine = np.linspace(0, end - 1, 2 * end)
        rows = [np.interp(fine, np.arange(end), column) for column in path[:end].T]
        smooth = ndimage.gaussian_filter1d(np.stack(rows, axis=1), 2.0, axis=0)
        thick = rng.uniform(0.5, 1.3)
        radius = np.linspace(0.6 * thick, thick, len(smooth))
        intensity = float(rng.uniform(1.3, 1.9))
        vessels.append(Vessel("cortical", smooth, radius, intensity))
    return vessels


@cache
def _ventricle_wall() -> tuple[Array, Array]:
    """Returns points of the ventricles' wall and the directions away, both (N, 3)."""
    template = load_template()
    distance = template.wall_distance
    slope = np.stack(np.gradient(ndimage.gaussian_filter(distance, 2.0)), axis=-1)
    shell = (distance > 0) & (distance < 2) & (template.white > 0.5)
    points = template.points(shell)
    points = points[(np.abs(points[:, 0]) > 8) & (points[:, 2] > 8)]
    away = template.at(slope, points)
    return points, away / np.linalg.norm(away, axis=1, keepdims=True)


def _draw_perforating_veins(rng: np.random.Generator, count: int) -> list[Vessel]:
    """Draws thin veins from white matter to the wall of the lateral ventricles."""
    walls, directions = _ventricle_wall()
    chosen = rng.integers(len(walls), size=count)
    vessels = []
    for wall, direction in zip(walls[chosen], directions[chosen], strict=True):
        length = rng.uniform(10.0, 26.0)
        bend = rng.normal(0.0, 0.25, 3)
        t = np.linspace(0.0, 1.0, int(2 * length))[:, None]
        path = wall + length * t * (direction + bend * t)
        radius = np.linspace(1.0, 0.6, len(path)) * rng.uniform(0.4, 0.75)
        intensity = float(rng.uniform(1.3, 1.8))
        vessels.append(Vessel("perforating", path, radius, intensity))
    return vessels


def paint_vessels(
    vessels: tuple[Vessel, ...], deformation: Deformation, grid: Grid
) -> tuple[Array, Array]:
    """Draws the tubes into a subject's voxels.

    Args:
        vessels: What to draw, in template space.
        deformation: Shape of the subject.
        grid: Voxels of the subject.

    Returns:
        How much of each voxel a vessel fills, from 0 to 1, and the intensity of that
        vessel in units of white matter, both of shape (X, Y, Z).
    """
    cover = np.zeros(grid.shape, dtype=np.float32)
    bright = np.zeros(grid.shape, dtype=np.float32)
    if not vessels:
        return cover, bright
    counts = [len(vessel.path) for vessel in vessels]
    points = deformation.to_subject(np.concatenate([v.path for v in vessels]))
    starts = np.cumsum([0, *counts])
    for vessel, start, stop in zip(vessels, starts[:-1], starts[1:], strict=True):
        place = (points[start:stop] - BOX_LOW) / grid.spacing
        radius = vessel.radius[:, None] / grid.spacing
        # A tube thinner than a voxel fills only a part of it.
        fill = np.minimum(1.0, np.pi * radius**2)
        reach = int(np.ceil(radius.max() + 0.5))
        around = np.array(list(product(range(-reach, reach + 1), repeat=3)))
        nearest = np.rint(place).astype(int)
        voxels = nearest[:, None, :] + around
        away = np.linalg.norm(voxels - place[:, None, :], axis=2)
        share = fill * np.clip(radius - away + 0.5, 0.0, 1.0)
        inside = (share > 0) & ((voxels >= 0) & (voxels < grid.shape)).all(axis=2)
        i, j, k = voxels[inside].T
        values = share[inside].astype(np.float32)
        flat = np.ravel_multi_index((i, j, k), grid.shape)
        bright.ravel()[flat[values >= cover.ravel()[flat]]] = vessel.intensity
        np.maximum.at(cover.ravel(), flat, values)
    return cover, bright
