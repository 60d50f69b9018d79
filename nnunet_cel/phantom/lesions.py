"""Lesions of a synthetic subject, and vessels that look like them, in template space.

Words:

- *site*: a voxel where the center of a lesion may lie.
- *ring*: an enhancing lesion with a bright rim and a dark center.
- *cover*: how much of each voxel vessels fill, from 0 to 1.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_cel.phantom.anatomy import Tissue, load_template

__all__ = [
    "Lesion",
    "draw_enhancing_lesions",
    "draw_hyperintensities",
    "draw_lesion",
    "draw_vessels",
]

Array = npt.NDArray[Any]


class Lesion(NamedTuple):
    """An irregular ellipsoid.

    Args:
        box: The voxels around it.
        share: How much of each of these voxels it fills, (A, A, A).
        bright: Its brightness in units of white matter, (A, A, A).
    """

    box: tuple[slice, slice, slice]
    share: Array
    bright: Array


@cache
def _sites(region: str) -> Array:
    """Return the sites (N, 3) of a region: periventricular, deep or juxtacortical."""
    template = load_template()
    white, wall, cortex = template.white, template.wall, template.cortex
    x, y, z = template.mni
    # Neither brain stem, cerebellum nor the white matter between the basal ganglia.
    cerebrum = (z > -8) & ~((y < -35) & (z < 0)) & ~((np.abs(x) < 16) & (z < 8))
    where = {
        "periventricular": (white > 0.8) & (wall > 1) & (wall < 6) & (np.abs(x) > 8),
        "deep": (white > 0.95) & (wall > 8) & (cortex > 3),
        "juxtacortical": (white > 0.6) & (wall > 14) & (cortex > 1) & (cortex < 3),
    }[region]
    return np.argwhere(where & cerebrum)


def draw_lesion(
    rng: np.random.Generator,
    tissue: Tissue,
    region: str,
    radius: float,
    *,
    bright: float,
    border: float = 1.0,
    core: float | None = None,
    taken: Array | None = None,
) -> Lesion:
    """Draw place and shape of a lesion.

    Args:
        rng: Source of randomness.
        tissue: The subject; lesions fill white matter and fade out in gray matter.
        region: Where the lesion lies.
        radius: Radius in mm of the sphere of the same volume.
        bright: Brightness in units of white matter.
        border: Width of the soft border in mm.
        core: Brightness of the center of a ring, None for a solid lesion.
        taken: What the lesion keeps off, above 0, if it finds room; it is added.
    """
    half = int(2 * radius + 3)
    offsets = np.indices([2 * half + 1] * 3).reshape(3, -1) - half
    frame, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    long, short = rng.uniform(1.0, 1.6), rng.uniform(0.9, 1.1)
    radii = radius * np.array([long, short, 1 / (long * short)])
    size = np.linalg.norm((frame / radii).T @ offsets, axis=0).reshape(
        [2 * half + 1] * 3
    )
    ripple = ndimage.gaussian_filter(rng.normal(size=size.shape), radius / 2)
    inside = radius * (1 - size + 0.12 * ripple / ripple.std())  # about mm
    centers = rng.permutation(_sites(region))[:100]
    for center in centers:
        x, y, z = (slice(c - half, c + half + 1) for c in center)
        if taken is None or not (taken[x, y, z] > 0)[inside > -2].any():
            break
    room = 1.5 * (tissue.white[x, y, z] + 0.25 * tissue.gray[x, y, z])
    share = np.clip(0.5 + inside / border, 0, 1) * room.clip(0, 1)
    if taken is not None:
        taken[x, y, z] += share
    rim = rng.uniform(1.5, 2.2)
    level = np.where((inside > rim) & (core is not None), core or 0, bright)
    return Lesion((x, y, z), share.astype(np.float32), level.astype(np.float32))


def draw_hyperintensities(rng: np.random.Generator, tissue: Tissue) -> list[Lesion]:
    """Draw 5 to 25 hyperintensities of about 2 to 35 ml, most at the ventricles."""
    count = int(rng.integers(5, 26))
    mean = np.exp(rng.uniform(np.log(0.3), np.log(1.8)))
    shares = rng.lognormal(0.0, 0.9, count)
    volumes = 1000 * np.clip(count * mean, 3.0, 36.0) * shares / shares.sum()  # mm3
    level = rng.uniform(1.35, 1.6)
    lesions = []
    for radius in np.cbrt(volumes * 3 / (4 * np.pi)).clip(1.6, 9.0):
        regions, chances = (
            ("periventricular", "deep", "juxtacortical"),
            (0.62, 0.25, 0.13),
        )
        # The largest lesions of a brain lie at the ventricles.
        region = regions[0] if radius > 6 else rng.choice(regions, p=chances)
        bright, border = (
            level + rng.normal(0, 0.07),
            rng.uniform(1.2, 2.5) + 0.25 * radius,
        )
        lesions.append(
            draw_lesion(rng, tissue, region, radius, bright=bright, border=border)
        )
    return lesions


def draw_enhancing_lesions(
    rng: np.random.Generator, tissue: Tissue, taken: Array
) -> list[Lesion]:
    """Draw 1 to 6 enhancing lesions of 15 to 1400 mm3, a third of them rings.

    Args:
        rng: Source of randomness.
        tissue: The subject.
        taken: What lesions keep off; they are added.
    """
    lesions = []
    for number in range(int(rng.integers(1, 7))):
        ring = rng.random() < 0.35
        # One at least can be seen in voxels of 4 mm.
        low = 5.0 if number == 0 else 3.5 if ring else 1.6
        radius = rng.uniform(low, 7.0 if ring else max(low, 4.5))
        region = rng.choice(("periventricular", "deep", "juxtacortical"))
        core = rng.uniform(0.7, 0.95) if ring else None
        bright = rng.uniform(1.35, 1.8)
        lesions.append(
            draw_lesion(
                rng, tissue, region, radius, bright=bright, core=core, taken=taken
            )
        )
    return lesions


def draw_vessels(rng: np.random.Generator) -> Array:
    """Draw vessels that are as bright as lesions after contrast agent.

    Dural sinuses, vessels in the sulci, thin veins that run through white matter to the
    ventricles, and choroid plexus in them.

    Returns:
        The cover, float32.
    """
    template = load_template()
    x, y, z = template.mni
    sagittal = (np.abs(x) < rng.uniform(2, 3)) & (z > -5)
    transverse = (np.abs(z + 8) < rng.uniform(2, 3)) & (y < -55)
    surface = (template.depth > 0) & (template.depth < rng.uniform(3, 5))
    sinuses = ((sagittal & ((z > 40) | (y < -40))) | transverse) & surface
    # Two random maps are zero together on lines that wander through space.
    maps = rng.standard_normal((2, *template.brain.shape), dtype=np.float32)
    maps = ndimage.gaussian_filter(maps, (0, 3.5, 3.5, 3.5))
    away = np.hypot(*maps / maps.std()) * (3.5 * np.sqrt(2))  # from a line, about mm
    # A tube thinner than a voxel fills only a part of it.
    radius = _radii() * rng.uniform(0.8, 1.2)
    tubes = np.clip(radius - away + 0.5, 0, 1) * np.minimum(1, np.pi * radius**2)
    return np.asarray(np.maximum(sinuses, tubes) * template.brain, dtype=np.float32)


@cache
def _radii() -> Array:
    """Return the radius in mm of vessels at each voxel, 0 where there are none."""
    template = load_template()
    x, y, z = template.mni
    white = template.white > 0.5
    fluid = 1 - template.gray - template.white
    veins = white & (template.wall < 15) & (np.abs(x) > 8) & (z > 8)
    sulci = (fluid > 0.3) & (template.depth > 1.5) & (template.wall > 10)
    plexus = template.ventricles & (y < -15)
    radii = np.select([plexus, veins, sulci], [1.4, 0.6, 1.1], 0)
    return np.asarray(ndimage.gaussian_filter(radii.astype(np.float32), 0.7))
