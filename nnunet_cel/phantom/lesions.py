"""Lesions of a synthetic subject: their place, shape and brightness.

Words:

- *lesion*: white matter hyperintensity in FLAIR, contrast-enhancing lesion in CE-T1w.
- *dark lesion*: takes up no contrast agent and is darker than white matter.
- *ring*: an enhancing lesion with a bright rim and a dark center.
- *region*: the part of the white matter in which a lesion sits.

Places are template points in mm, intensities are in units of white matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from nnunet_cel.phantom.anatomy import load_template, mni_axes

__all__ = [
    "Lesion",
    "draw_dark_lesions",
    "draw_enhancing_lesions",
    "draw_hyperintensities",
]

Array = npt.NDArray[Any]
Region = Literal["periventricular", "deep", "juxtacortical"]


@dataclass(frozen=True)
class Lesion:
    """An irregular ellipsoid.

    Args:
        center: Template point in mm, (3,).
        axes: Rows are the principal directions divided by the radii in mm, (3, 3).
        waves: Wave vectors in 1/mm that make the border irregular, (W, 3).
        phases: Their phases in radians, (W,).
        ripple: Their amplitude relative to the radius.
        border: Width of the soft border in mm.
        intensity: Brightness in units of white matter.
        core: Brightness of the center of a ring, in units of white matter; None in a
            solid lesion.
        rim: Width of the bright rim of a ring in mm.
    """

    center: Array
    axes: Array
    waves: Array
    phases: Array
    ripple: float
    border: float
    intensity: float
    core: float | None = None
    rim: float = 0.0

    @property
    def radius(self) -> float:
        """Radius of the sphere of the same volume in mm."""
        return float(abs(np.linalg.det(self.axes)) ** (-1 / 3))

    @property
    def longest(self) -> float:
        """Longest half axis in mm."""
        return float(1 / np.linalg.svd(self.axes, compute_uv=False).min())

    def distance(self, offset: Array) -> Array:
        """Return about how many mm points lie outside the surface.

        Args:
            offset: Points relative to the center in mm, (..., 3).
        """
        size = np.linalg.norm(offset @ self.axes.T, axis=-1)
        ripple = np.sin(offset @ self.waves.T + self.phases).sum(axis=-1)
        return np.asarray((size * (1 + self.ripple * ripple) - 1) * self.radius)

    def ball(self) -> Array:
        """Return points in mm that stand for the volume of the lesion, (27, 3)."""
        steps = self.longest * np.array([-0.7, 0.0, 0.7])
        corners = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
        return np.asarray(self.center + corners.reshape(-1, 3))


def draw_hyperintensities(rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Draw 5 to 25 bright lesions of 3 to 36 ml, before the tissue cuts them."""
    count = int(rng.integers(5, 26))
    mean = np.exp(rng.uniform(np.log(0.3), np.log(1.8)))
    total = np.clip(count * mean, 3.0, 36.0)
    shares = rng.lognormal(0.0, 0.9, count)
    volumes = 1000 * total * shares / shares.sum()
    radii = np.cbrt(volumes * 3 / (4 * np.pi)).clip(1.6, 9.0)
    regions = rng.choice(3, size=count, p=[0.62, 0.25, 0.13])
    # The largest lesions of a brain lie at the ventricles.
    regions[radii > 6] = 0
    level = rng.uniform(1.35, 1.6)
    return tuple(
        _draw_lesion(
            rng,
            get_args(Region)[region],
            radius,
            stretch=2.0,
            intensity=float(np.clip(level + rng.normal(0.0, 0.07), 1.25, 1.7)),
            border=float(rng.uniform(1.2, 2.5) + 0.25 * radius),
            ripple=0.085,
        )
        for region, radius in zip(regions, radii, strict=True)
    )


def draw_enhancing_lesions(
    rng: np.random.Generator, keep_off: Array
) -> tuple[Lesion, ...]:
    """Draw 1 to 6 lesions of 0.1 to 1.5 ml in total, none of them on a vessel."""
    while True:
        count = int(rng.integers(1, 7))
        ring = rng.random(count) < 0.35
        width = np.where(
            ring, rng.uniform(6.0, 14.0, count), rng.uniform(3.0, 8.0, count)
        )
        if 100 <= np.pi / 6 * (width**3).sum() <= 1500:
            break
    lesions: list[Lesion] = []
    for is_ring, radius in zip(ring, width / 2, strict=True):
        look = {
            "intensity": rng.uniform(1.35, 1.8),
            "border": 1.0,
            "ripple": 0.05,
            "core": rng.uniform(0.7, 0.95) if is_ring else None,
            "rim": rng.uniform(1.5, 2.2),
        }
        regions = (0.45, 0.35, 0.2)
        lesions.append(
            _draw_apart(rng, keep_off, lesions, radius, regions, stretch=1.3, **look)
        )
    return tuple(lesions)


def draw_dark_lesions(rng: np.random.Generator, keep_off: Array) -> tuple[Lesion, ...]:
    """Draw 2 to 8 lesions that are darker than white matter."""
    lesions: list[Lesion] = []
    for _ in range(int(rng.integers(2, 9))):
        radius, intensity = rng.uniform(1.8, 5.0), rng.uniform(0.6, 0.88)
        look = {"intensity": intensity, "border": 2.0, "ripple": 0.07}
        regions = (0.6, 0.3, 0.1)
        lesions.append(
            _draw_apart(rng, keep_off, lesions, radius, regions, stretch=1.6, **look)
        )
    return tuple(lesions)


def _draw_apart(
    rng: np.random.Generator,
    keep_off: Array,
    others: Sequence[Lesion],
    radius: float,
    regions: tuple[float, float, float],
    **shape: Any,
) -> Lesion:
    """Draw lesions until one is clear of points and others, or return the clearest.

    Args:
        rng: Source of randomness.
        keep_off: Template points in mm, (N, 3).
        others: Lesions to keep off as well.
        radius: Radius of the sphere of the same volume in mm.
        regions: Probability of each region.
        shape: More arguments of :func:`_draw_lesion`.
    """
    tree = KDTree(np.concatenate([keep_off, *(lesion.ball() for lesion in others)]))
    best, best_gap = None, -np.inf
    for _ in range(60):
        region = get_args(Region)[int(rng.choice(3, p=regions))]
        lesion = _draw_lesion(rng, region, radius, **shape)
        gap = tree.query(lesion.center)[0] - lesion.longest
        if gap > best_gap:
            best, best_gap = lesion, gap
        if gap > 2.0:
            break
    assert best is not None
    return best


def _draw_lesion(
    rng: np.random.Generator, region: Region, radius: float, stretch: float, **look: Any
) -> Lesion:
    """Draw place and shape of a lesion.

    Args:
        rng: Source of randomness.
        region: Where the lesion may sit.
        radius: Radius of the sphere of the same volume in mm.
        stretch: Largest ratio of the long axis to ``radius``.
        look: The other fields of a lesion.
    """
    points, directions = _sites(region)
    chosen = int(rng.integers(len(points)))
    long = rng.uniform(1.0, stretch)
    short = rng.uniform(0.9, 1.1)
    radii = radius * np.array([long, short, 1 / (long * short)])
    # Along the veins (Dawson's fingers) or as a band along the ventricle's wall.
    if rng.random() < 0.4:
        radii = radii[::-1]
    first = directions[chosen] + rng.normal(0.0, 0.35, 3)
    frame, _ = np.linalg.qr(np.stack([first, *rng.standard_normal((2, 3))], axis=1))
    waves = rng.standard_normal((6, 3))
    lengths = np.linalg.norm(waves, axis=1, keepdims=True)
    waves *= rng.uniform(1.2, 3.2, (6, 1)) / lengths
    return Lesion(
        center=points[chosen],
        axes=frame.T / radii[:, None],
        waves=waves / radius,
        phases=rng.uniform(0, 2 * np.pi, 6),
        **look,
    )


@cache
def _sites(region: Region) -> tuple[Array, Array]:
    """Return template points where lesions sit and directions of the white matter.

    The directions lead away from the ventricles, along the veins, both are (N, 3).
    """
    template = load_template()
    wall, white = template.wall_distance, template.white
    cortex = template.cortex_distance
    x, y, z = mni_axes(white.shape, template.origin)
    # Neither brain stem, cerebellum nor the white matter between the basal ganglia.
    cerebrum = (z > -8 + 0 * x) & ~((y < -35) & (z < 0)) & ~((np.abs(x) < 16) & (z < 8))
    where = {
        "periventricular": (white > 0.8) & (wall > 1) & (wall < 6) & (np.abs(x) > 8),
        "deep": (white > 0.95) & (wall > 8) & (cortex > 3),
        "juxtacortical": (white > 0.6) & (wall > 14) & (cortex > 1) & (cortex < 3),
    }[region]
    points = template.points(where & cerebrum)
    slope = np.stack(np.gradient(ndimage.gaussian_filter(wall, 2.0)), axis=-1)
    away = template.at(slope, points)
    return points, away / (np.linalg.norm(away, axis=1, keepdims=True) + 1e-6)
