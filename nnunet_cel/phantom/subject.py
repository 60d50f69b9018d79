"""A synthetic subject: an image of the brain with lesions, and their label map.

Words:

- *record*: everything random about a subject, drawn before anything is computed. It
  does not depend on the voxel size.
- *lesion*: white matter hyperintensity in FLAIR, contrast-enhancing lesion in CE-T1w.
- *confounder*: what looks like a lesion and is not in the label map: vessels, choroid
  plexus and dark lesions that take up no contrast agent.

Intensities are in units of white matter until the last step, which multiplies by the
scanner's unit. A ring-enhancing lesion is labelled as a whole, rim and dark centre, as
radiologists outline it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

from nnunet_cel.phantom.anatomy import (
    Deformation,
    Grid,
    SplineField,
    Tissue,
    Vessel,
    draw_deformation,
    draw_spline,
    draw_vessels,
    load_template,
    mni_axes,
    paint_vessels,
    warp_tissue,
)

__all__ = [
    "Lesion",
    "Modality",
    "Subject",
    "SubjectRecord",
    "draw_subject",
    "make_subject",
    "render_subject",
]

Array = npt.NDArray[Any]
Modality = Literal["flair", "cet1w"]
Region = Literal["periventricular", "deep", "juxtacortical"]

# Brightness of grey matter and CSF in units of white matter: mean and range.
_GREY = {"flair": (1.16, 0.04), "cet1w": (0.77, 0.03)}
_FLUID = {"flair": (0.28, 0.06), "cet1w": (0.32, 0.05)}

_NOISE = 0.03  # standard deviation in units of white matter
_BIAS = 0.2  # largest deviation of the bias field from 1


@dataclass(frozen=True)
class Lesion:
    """An irregular ellipsoid.

    Attributes:
        centre: Template point in mm, (3,).
        axes: Rows are the principal directions divided by the radii in mm, (3, 3).
        waves: Wave vectors in 1/mm that make the border irregular, (W, 3).
        phases: Their phases in radians, (W,).
        ripple: Their amplitude relative to the radius.
        border: Width of the soft border in mm.
        intensity: Brightness in units of white matter.
        core: Brightness of the centre of a ring, in units of white matter; None in a
            solid lesion.
        rim: Width of the bright rim of a ring in mm.
    """

    centre: Array
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
        """Returns about how many mm points lie outside the surface.

        Args:
            offset: Points relative to the centre in mm, (..., 3).
        """
        size = np.linalg.norm(offset @ self.axes.T, axis=-1)
        ripple = np.sin(offset @ self.waves.T + self.phases).sum(axis=-1)
        return np.asarray((size * (1 + self.ripple * ripple) - 1) * self.radius)


@dataclass(frozen=True)
class SubjectRecord:
    """Everything random about a subject.

    Attributes:
        modality: ``"flair"`` or ``"cet1w"``.
        deformation: Shape of the head.
        sharpness: Exponent of the tissue fractions.
        fluid_weight: Factor on CSF, the degree of atrophy.
        grey: Brightness of grey matter in units of white matter.
        fluid: Brightness of CSF in units of white matter.
        texture: Relative variation of brightness within tissue.
        lesions: What is in the label map.
        dark_lesions: Lesions that are darker than white matter and not in the label.
        vessels: Vessels with contrast agent, not in the label.
        bias: Unscaled logarithm of the bias field.
        bias_strength: Largest deviation of the bias field from 1.
        unit: Brightness of white matter in the units of the scanner.
        integer: Whether the image is stored as int16; otherwise as float32.
        noise_seed: Seed of the noise, whose values depend on the grid.
    """

    modality: Modality
    deformation: Deformation
    sharpness: float
    fluid_weight: float
    grey: float
    fluid: float
    texture: SplineField
    lesions: tuple[Lesion, ...]
    dark_lesions: tuple[Lesion, ...]
    vessels: tuple[Vessel, ...]
    bias: SplineField
    bias_strength: float
    unit: float
    integer: bool
    noise_seed: int


@dataclass(frozen=True)
class Subject:
    """Image and label map of a synthetic subject, arrays of shape (X, Y, Z).

    Attributes:
        image: Intensities, int16 or float32, exactly zero outside the brain.
        label: 1 in lesions, 0 elsewhere, uint8.
        affine: Voxel indices to MNI-like coordinates in mm, (4, 4).
        white_matter: Fraction of white matter, before lesions.
        vessels: True in vessels with contrast agent.
        record: What the subject was made from.
    """

    image: Array
    label: Array
    affine: Array
    white_matter: Array
    vessels: Array
    record: SubjectRecord


def make_subject(
    modality: Modality,
    seed: int,
    index: int,
    *,
    spacing: float = 1.0,
    lesions: bool = True,
) -> Subject:
    """Makes one synthetic subject.

    Args:
        modality: ``"flair"`` with white matter hyperintensities, or ``"cet1w"`` with
            contrast-enhancing lesions.
        seed: Seed of the data set.
        index: Number of the subject in the data set.
        spacing: Voxel edge in mm, from 1 to 8.
        lesions: Whether the subject has any; confounders are there in any case.

    Returns:
        The subject. The same arguments give the same voxels.
    """
    return render_subject(
        draw_subject(modality, seed, index, lesions=lesions), spacing=spacing
    )


def draw_subject(
    modality: Modality, seed: int, index: int, *, lesions: bool = True
) -> SubjectRecord:
    """Draws everything random about a subject; see :func:`make_subject`."""
    if modality not in get_args(Modality):
        raise ValueError(
            "The modality of a phantom must be one of "
            f"{', '.join(get_args(Modality))}. Got {modality!r} instead."
        )
    for name, value in (("seed", seed), ("index", index)):
        if value < 0:
            raise ValueError(
                f"The {name} of a phantom must not be negative. Got {value} instead."
            )
    rng = np.random.default_rng((seed, get_args(Modality).index(modality), index))
    deformation = draw_deformation(rng)
    grey, fluid = (
        float(mean + spread * rng.uniform(-1, 1))
        for mean, spread in (_GREY[modality], _FLUID[modality])
    )
    sharpness, fluid_weight = rng.uniform(1.4, 2.0), rng.uniform(0.8, 1.8)
    texture = draw_spline(rng, 6.0, 0.02, 1)
    bias = draw_spline(rng, 70.0, 1.0, 1)
    strength = rng.uniform(0.3 * _BIAS, _BIAS)
    unit = np.exp(rng.uniform(np.log(100), np.log(2000)))
    integer = bool(rng.random() < 0.5)
    noise_seed = int(rng.integers(2**63))

    vessels: tuple[Vessel, ...] = ()
    marked: tuple[Lesion, ...] = ()
    dark: tuple[Lesion, ...] = ()
    if modality == "cet1w":
        vessels = draw_vessels(rng)
        keep_off = np.concatenate([vessel.path for vessel in vessels])
        if lesions:
            marked = _draw_enhancing_lesions(rng, keep_off)
        keep_off = np.concatenate([keep_off, *(_ball(lesion) for lesion in marked)])
        dark = _draw_dark_lesions(rng, keep_off)
    elif lesions:
        marked = _draw_hyperintensities(rng)
    return SubjectRecord(
        modality=modality,
        deformation=deformation,
        sharpness=float(sharpness),
        fluid_weight=float(fluid_weight),
        grey=grey,
        fluid=fluid,
        texture=texture,
        lesions=marked,
        dark_lesions=dark,
        vessels=vessels,
        bias=bias,
        bias_strength=float(strength),
        unit=float(unit),
        integer=integer,
        noise_seed=noise_seed,
    )


@cache
def _sites(region: Region) -> tuple[Array, Array]:
    """Returns template points where lesions sit and directions of the white matter.

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


def _draw_lesion(
    rng: np.random.Generator,
    region: Region,
    radius: float,
    *,
    intensity: float,
    border: float,
    stretch: float,
    ripple: float,
    core: float | None = None,
    rim: float = 0.0,
) -> Lesion:
    """Draws place and shape of a lesion of a given radius in mm.

    Args:
        rng: Source of randomness.
        region: Where the lesion may sit.
        radius: Radius of the sphere of the same volume in mm.
        intensity: Brightness in units of white matter.
        border: Width of the soft border in mm.
        stretch: Largest ratio of the long axis to ``radius``.
        ripple: Irregularity of the border, relative to the radius.
        core: Brightness of the centre of a ring.
        rim: Width of the rim of a ring in mm.
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
    waves *= rng.uniform(1.2, 3.2, (6, 1)) / np.linalg.norm(
        waves, axis=1, keepdims=True
    )
    return Lesion(
        centre=points[chosen],
        axes=frame.T / radii[:, None],
        waves=waves / radius,
        phases=rng.uniform(0, 2 * np.pi, 6),
        ripple=ripple,
        border=border,
        intensity=intensity,
        core=core,
        rim=rim,
    )


def _draw_hyperintensities(rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Draws 5 to 25 bright lesions of 3 to 36 ml, before the tissue cuts them."""
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
            float(radius),
            intensity=float(np.clip(level + rng.normal(0.0, 0.07), 1.25, 1.7)),
            border=float(rng.uniform(1.2, 2.5) + 0.25 * radius),
            stretch=2.0,
            ripple=0.085,
        )
        for region, radius in zip(regions, radii, strict=True)
    )


def _draw_enhancing_lesions(
    rng: np.random.Generator, keep_off: Array
) -> tuple[Lesion, ...]:
    """Draws 1 to 6 lesions of 0.1 to 1.5 ml in total, none of them on a vessel."""
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
        lesion = _draw_apart(
            rng,
            keep_off,
            float(radius),
            regions=(0.45, 0.35, 0.2),
            intensity=float(rng.uniform(1.35, 1.8)),
            border=1.0,
            stretch=1.3,
            ripple=0.05,
            core=float(rng.uniform(0.7, 0.95)) if is_ring else None,
            rim=float(rng.uniform(1.5, 2.2)),
        )
        keep_off = np.concatenate([keep_off, _ball(lesion)])
        lesions.append(lesion)
    return tuple(lesions)


def _draw_dark_lesions(rng: np.random.Generator, keep_off: Array) -> tuple[Lesion, ...]:
    """Draws 2 to 8 lesions that are darker than white matter."""
    lesions: list[Lesion] = []
    for _ in range(int(rng.integers(2, 9))):
        lesion = _draw_apart(
            rng,
            keep_off,
            float(rng.uniform(1.8, 5.0)),
            regions=(0.6, 0.3, 0.1),
            intensity=float(rng.uniform(0.6, 0.88)),
            border=2.0,
            stretch=1.6,
            ripple=0.07,
        )
        keep_off = np.concatenate([keep_off, _ball(lesion)])
        lesions.append(lesion)
    return tuple(lesions)


def _draw_apart(
    rng: np.random.Generator,
    keep_off: Array,
    radius: float,
    *,
    regions: tuple[float, float, float],
    **shape: Any,
) -> Lesion:
    """Draws lesions until one is clear of points in mm, or returns the clearest."""
    tree = KDTree(keep_off)
    best, best_gap = None, -np.inf
    for _ in range(60):
        region = get_args(Region)[int(rng.choice(3, p=regions))]
        lesion = _draw_lesion(rng, region, radius, **shape)
        gap = tree.query(lesion.centre)[0] - lesion.longest
        if gap > best_gap:
            best, best_gap = lesion, gap
        if gap > 2.0:
            break
    assert best is not None
    return best


def _ball(lesion: Lesion) -> Array:
    """Returns points in mm that stand for the volume of a lesion, (27, 3)."""
    steps = lesion.longest * np.array([-0.7, 0.0, 0.7])
    corners = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    return np.asarray(lesion.centre + corners.reshape(-1, 3))


def render_subject(record: SubjectRecord, *, spacing: float = 1.0) -> Subject:
    """Computes the voxels of a subject.

    Args:
        record: What the subject is made from.
        spacing: Voxel edge in mm, from 1 to 8.
    """
    grid = Grid.of_spacing(spacing)
    tissue = warp_tissue(
        record.deformation,
        grid,
        sharpness=record.sharpness,
        fluid_weight=record.fluid_weight,
    )
    image = tissue.white + record.grey * tissue.grey + record.fluid * tissue.fluid
    image *= 1 + record.texture.on_grid(grid)[0]
    for lesion in record.dark_lesions:
        _paint(lesion, record, grid, tissue, image)
    vessels = np.zeros(grid.shape, dtype=bool)
    if record.vessels:
        cover, bright = paint_vessels(record.vessels, record.deformation, grid)
        cover *= tissue.brain
        image += cover * (bright - image)
        vessels = cover > 0.5
    label = np.zeros(grid.shape, dtype=bool)
    for lesion in record.lesions:
        box, inside = _paint(lesion, record, grid, tissue, image)
        label[box] |= inside
        # A lesion covers a vessel that happens to run through it.
        vessels[box] &= ~inside
    return Subject(
        image=_scan(image, record, grid, tissue.brain),
        label=label.astype(np.uint8),
        affine=grid.affine,
        white_matter=tissue.white,
        vessels=vessels,
        record=record,
    )


def _paint(
    lesion: Lesion, record: SubjectRecord, grid: Grid, tissue: Tissue, image: Array
) -> tuple[tuple[slice, slice, slice], Array]:
    """Blends a lesion into ``image``, in place.

    Returns:
        The box of voxels around the lesion, and which of them belong to it.
    """
    centre = record.deformation.to_subject(lesion.centre[None])[0]
    reach = 1.9 * lesion.longest + lesion.border + grid.spacing
    box = grid.box(centre, reach)
    axes = [axis[part] for axis, part in zip(grid.axes(), box, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = lesion.distance(points - centre)
    border = max(lesion.border, grid.spacing)
    # Lesions fill white matter, fade out in grey matter and stop at CSF.
    room = tissue.white[box] + 0.25 * tissue.grey[box]
    room = np.clip(room * 1.5, 0, 1) * (tissue.fluid[box] < 0.5)
    share = room * _ramp(0.5 - distance / border)
    bright = np.full(distance.shape, lesion.intensity)
    if lesion.core is not None:
        core = _ramp(0.5 - (distance + lesion.rim) / max(0.8, grid.spacing))
        bright += core * (lesion.core - lesion.intensity)
    part = image[box]
    part += (share * (bright - part)).astype(np.float32)
    return box, share >= 0.5


def _ramp(t: Array) -> Array:
    """Returns a smooth step from 0 at ``t`` = 0 to 1 at ``t`` = 1."""
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))


def _scan(image: Array, record: SubjectRecord, grid: Grid, brain: Array) -> Array:
    """Adds bias field, noise and the scanner's unit, and removes the background."""
    bias = record.bias.on_grid(grid)[0]
    bias -= bias[brain].mean()
    bias *= record.bias_strength / np.abs(bias[brain]).max()
    rng = np.random.default_rng(record.noise_seed)
    count = int(brain.sum())
    real, imaginary = _NOISE * rng.standard_normal((2, count), dtype=np.float32)
    signal = image[brain] * (1 + bias[brain])
    values = record.unit * np.hypot(signal + real, imaginary)
    scan = np.zeros(grid.shape, dtype=np.int16 if record.integer else np.float32)
    scan[brain] = np.rint(values) if record.integer else values
    return scan
