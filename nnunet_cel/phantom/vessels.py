"""Blood vessels of a synthetic subject that take up contrast agent.

Words:

- *vessel*: a tube along a polyline of template points.
- *sulcus*: a furrow between folds of the cortex, filled with fluid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_cel.phantom.anatomy import BOX_LOW, Deformation, Grid, load_template

__all__ = ["Vessel", "draw_vessels", "paint_vessels"]

Array = npt.NDArray[Any]

_WALK_STEP = 1.0  # mm between two points of a cortical vessel


@dataclass(frozen=True)
class Vessel:
    """A tube that takes up contrast agent.

    Args:
        path: Template points in mm along the center line, (N, 3).
        radius: Radius in mm at each point, (N,).
        intensity: Brightness in units of white matter.
    """

    path: Array
    radius: Array
    intensity: float


def draw_vessels(rng: np.random.Generator) -> tuple[Vessel, ...]:
    """Draw the vessels that are bright after contrast agent.

    Dural sinuses, deep veins, basal arteries, choroid plexus, vessels on the cortex and
    in its sulci, and thin veins that run through white matter to the ventricles.
    """
    vessels = [
        Vessel(
            path + _wobble(rng, len(path), amplitude),
            radius * rng.uniform(0.8, 1.2),
            rng.uniform(1.35, 1.9),
        )
        for path, radius, amplitude in _named_vessels()
    ]
    vessels += _draw_cortical_vessels(rng, count=int(rng.integers(28, 45)))
    vessels += _draw_perforating_veins(rng, count=int(rng.integers(8, 20)))
    return tuple(vessels)


# Course of vessels on the right in MNI mm: points, radius at start and end in mm.
_COURSES: tuple[tuple[tuple[tuple[float, float, float], ...], float, float], ...] = (
    # deep veins
    (((2, 2, 14), (2, -12, 17), (2, -26, 13), (1, -38, 10)), 0.6, 1.0),
    (((16, 14, 21), (15, 2, 19), (9, 0, 16), (2, 2, 14)), 0.5, 0.8),
    # arteries
    (((6, 2, -13), (16, 4, -14), (28, 6, -16), (40, 4, -14)), 1.3, 1.0),
    (((40, 4, -14), (42, -6, -4), (42, -20, 10), (46, -34, 18)), 1.0, 0.7),
    (((3, 6, -14), (2, 26, -10), (2, 38, 6), (2, 28, 24)), 1.0, 0.8),
    (((3, -24, -14), (14, -28, -12), (20, -36, -4)), 1.0, 0.7),
)
_BASILAR_ARTERY = ((0, -18, -46), (0, -15, -34), (0, -20, -20))
_CHOROID_PLEXUS = ((18, -34, 17), (22, -42, 12), (24, -40, 4))


@cache
def _named_vessels() -> tuple[tuple[Array, Array, float], ...]:
    """Return path, radius and wobble in mm of the vessels that everybody has."""
    outline = np.deg2rad(np.linspace(25, 196, 90))
    directions = np.stack([0 * outline, np.cos(outline), np.sin(outline)], axis=1)
    sagittal = _surface(np.array([0.0, -15.0, 8.0]), directions, inset=2.5)
    torcula = sagittal[-1]
    found = [
        (sagittal, np.linspace(1.5, 3.2, len(sagittal)), 0.6),
        (*_course(((0, -40, 8), (0, -62, 6), tuple(torcula)), 1.5, 2.2), 0.6),
        (*_course(_BASILAR_ARTERY, 1.4, 1.5), 0.6),
    ]
    turn = np.deg2rad(np.linspace(4, 78, 60))
    for side in (1.0, -1.0):
        directions = np.stack([side * np.sin(turn), -np.cos(turn), 0 * turn], axis=1)
        center = np.array([0.0, -40.0, torcula[2]])
        lateral = _surface(center, directions, inset=1.5)
        found.append((lateral, np.linspace(2.8, 2.0, len(lateral)), 0.6))
        mirror = [side, 1.0, 1.0]
        for points, start, end in _COURSES:
            path, radius = _course(points, start, end)
            found.append((path * mirror, radius, 0.6))
        path, radius = _course(_CHOROID_PLEXUS, 1.2, 2.4)
        found.append((path * mirror, radius, 1.2))
    return tuple(found)


def _surface(origin: Array, directions: Array, inset: float) -> Array:
    """Return the points (N, 3) that lie ``inset`` mm before rays leave the brain."""
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
    """Return a smooth path through points, a point per 0.5 mm, and its radii."""
    corners = np.array(points, dtype=float)
    length = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    place = np.concatenate([[0.0], np.cumsum(length)])
    t = np.linspace(0, place[-1], max(int(place[-1] * 2), 4))
    path = _interpolate(t, place, corners)
    path = ndimage.gaussian_filter1d(path, 5.0, axis=0, mode="nearest")
    return path, np.linspace(start, end, len(path))


def _wobble(rng: np.random.Generator, count: int, amplitude: float) -> Array:
    """Return smooth random shifts in mm along a path, (count, 3)."""
    knots = rng.normal(0.0, amplitude, (count // 12 + 4, 3))
    t = np.linspace(0, len(knots) - 1, count)
    return _interpolate(t, np.arange(len(knots)), knots)


def _interpolate(t: Array, places: Array, points: Array) -> Array:
    """Return the points (T, 3) at ``t`` of the polyline that has points at places."""
    return np.stack([np.interp(t, places, column) for column in points.T], axis=1)


@cache
def _sulci() -> tuple[Array, Array]:
    """Return start points of cortical vessels (N, 3) and the slope toward CSF."""
    template = load_template()
    fluid = np.where(template.brain > 0, 1 - template.gray - template.white, -1.5)
    slope = np.stack(np.gradient(ndimage.gaussian_filter(fluid, 1.5)), axis=-1)
    shallow = (template.depth > 1.5) & (template.depth < 14)
    starts = template.points((fluid > 0.4) & shallow, step=2)
    return starts[starts[:, 2] > -25], slope.astype(np.float32)


def _draw_cortical_vessels(rng: np.random.Generator, count: int) -> list[Vessel]:
    """Draw vessels that wander along the sulci, most of them toward the midline."""
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
        smooth = _interpolate(fine, np.arange(end), path[:end])
        smooth = ndimage.gaussian_filter1d(smooth, 2.0, axis=0)
        thick = rng.uniform(0.5, 1.3)
        radius = np.linspace(0.6 * thick, thick, len(smooth))
        vessels.append(Vessel(smooth, radius, rng.uniform(1.3, 1.9)))
    return vessels


@cache
def _ventricle_wall() -> tuple[Array, Array]:
    """Return points of the ventricles' wall and the directions away, both (N, 3)."""
    template = load_template()
    distance = template.wall_distance
    slope = np.stack(np.gradient(ndimage.gaussian_filter(distance, 2.0)), axis=-1)
    shell = (distance > 0) & (distance < 2) & (template.white > 0.5)
    points = template.points(shell)
    points = points[(np.abs(points[:, 0]) > 8) & (points[:, 2] > 8)]
    away = template.at(slope, points)
    return points, away / np.linalg.norm(away, axis=1, keepdims=True)


def _draw_perforating_veins(rng: np.random.Generator, count: int) -> list[Vessel]:
    """Draw thin veins from white matter to the wall of the lateral ventricles."""
    walls, directions = _ventricle_wall()
    chosen = rng.integers(len(walls), size=count)
    vessels = []
    for wall, direction in zip(walls[chosen], directions[chosen], strict=True):
        length = rng.uniform(10.0, 26.0)
        bend = rng.normal(0.0, 0.25, 3)
        t = np.linspace(0.0, 1.0, int(2 * length))[:, None]
        path = wall + length * t * (direction + bend * t)
        radius = np.linspace(1.0, 0.6, len(path)) * rng.uniform(0.4, 0.75)
        vessels.append(Vessel(path, radius, rng.uniform(1.3, 1.8)))
    return vessels


def paint_vessels(
    vessels: tuple[Vessel, ...], deformation: Deformation, grid: Grid
) -> tuple[Array, Array]:
    """Draw the tubes into a subject's voxels.

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
