"""A synthetic subject: an image of the brain with lesions, and their label map.

Words:

- *record*: everything random about a subject, drawn before anything is computed. It
  does not depend on the voxel size.
- *lesion*: white matter hyperintensity in FLAIR, contrast-enhancing lesion in CE-T1w.
- *confounder*: what looks like a lesion and is not in the label map: vessels, choroid
  plexus and dark lesions that take up no contrast agent.

Intensities are in units of white matter until the last step, which multiplies by the
scanner's unit. A ring-enhancing lesion is labeled as a whole, rim and dark center, as
radiologists outline it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_cel.phantom.anatomy import (
    Deformation,
    Grid,
    SplineField,
    draw_deformation,
    draw_spline,
    load_template,
)
from nnunet_cel.phantom.lesions import (
    Lesion,
    draw_dark_lesions,
    draw_enhancing_lesions,
    draw_hyperintensities,
)
from nnunet_cel.phantom.vessels import Vessel, draw_vessels, paint_vessels

__all__ = [
    "Kind",
    "Subject",
    "SubjectRecord",
    "Tissue",
    "draw_subject",
    "make_subject",
    "render_subject",
    "warp_tissue",
]

Array = npt.NDArray[Any]
Kind = Literal["wmh", "cel"]
"""FLAIR with white matter hyperintensities, or CE-T1w with enhancing lesions."""

# Brightness of gray matter and CSF in units of white matter: mean and range.
_GRAY = {"wmh": (1.16, 0.04), "cel": (0.77, 0.03)}
_FLUID = {"wmh": (0.28, 0.06), "cel": (0.32, 0.05)}

_NOISE = 0.03  # standard deviation in units of white matter
_BIAS = 0.2  # largest deviation of the bias field from 1


@dataclass(frozen=True)
class SubjectRecord:
    """Everything random about a subject.

    Args:
        kind: ``"wmh"`` or ``"cel"``.
        deformation: Shape of the head.
        sharpness: Exponent of the tissue fractions. The template is an average, so
            its cortex is blurred; powers sharpen it.
        fluid_weight: Factor on CSF; above 1 the sulci are wider (atrophy).
        gray: Brightness of gray matter in units of white matter.
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

    kind: Kind
    deformation: Deformation
    sharpness: float
    fluid_weight: float
    gray: float
    fluid: float
    texture: SplineField
    bias: SplineField
    bias_strength: float
    unit: float
    integer: bool
    noise_seed: int
    lesions: tuple[Lesion, ...] = ()
    dark_lesions: tuple[Lesion, ...] = ()
    vessels: tuple[Vessel, ...] = ()


class Subject(NamedTuple):
    """Image and label map of a synthetic subject.

    Args:
        image: Intensities (X, Y, Z), int16 or float32, exactly zero outside the brain.
        label: 1 in lesions, 0 elsewhere (X, Y, Z), uint8.
        affine: Voxel indices to MNI-like coordinates in mm, (4, 4).
        record: What the subject was made from.
    """

    image: Array
    label: Array
    affine: Array
    record: SubjectRecord


class Tissue(NamedTuple):
    """Fractions of tissue in voxels (X, Y, Z), 0 outside the brain, and the brain."""

    gray: Array
    white: Array
    fluid: Array
    brain: Array


def make_subject(
    kind: Kind, seed: int, index: int, *, spacing: float = 1.0, lesions: bool = True
) -> Subject:
    """Make one synthetic subject.

    Args:
        kind: ``"wmh"`` or ``"cel"``.
        seed: Seed of the data set.
        index: Number of the subject in the data set.
        spacing: Voxel edge in mm, from 1 to 8.
        lesions: Whether the subject has any; confounders are there in any case.

    Returns:
        The subject. The same arguments give the same voxels.
    """
    record = draw_subject(kind, seed, index, lesions=lesions)
    return render_subject(record, spacing=spacing)


def draw_subject(
    kind: Kind, seed: int, index: int, *, lesions: bool = True
) -> SubjectRecord:
    """Draw everything random about a subject; see :func:`make_subject`."""
    rng = np.random.default_rng((seed, get_args(Kind).index(kind), index))
    # Arguments are drawn in the order in which they stand here.
    deformation = draw_deformation(rng)
    gray, fluid = (
        float(mean + spread * rng.uniform(-1, 1))
        for mean, spread in (_GRAY[kind], _FLUID[kind])
    )
    record = SubjectRecord(
        kind=kind,
        deformation=deformation,
        gray=gray,
        fluid=fluid,
        sharpness=rng.uniform(1.4, 2.0),
        fluid_weight=rng.uniform(0.8, 1.8),
        texture=draw_spline(rng, 6.0, 0.02, 1),
        bias=draw_spline(rng, 70.0, 1.0, 1),
        bias_strength=rng.uniform(0.3 * _BIAS, _BIAS),
        unit=float(np.exp(rng.uniform(np.log(100), np.log(2000)))),
        integer=bool(rng.random() < 0.5),
        noise_seed=int(rng.integers(2**63)),
    )
    if kind == "wmh":
        return replace(record, lesions=draw_hyperintensities(rng) if lesions else ())
    vessels = draw_vessels(rng)
    keep_off = np.concatenate([vessel.path for vessel in vessels])
    marked = draw_enhancing_lesions(rng, keep_off) if lesions else ()
    keep_off = np.concatenate([keep_off, *(lesion.ball() for lesion in marked)])
    dark = draw_dark_lesions(rng, keep_off)
    return replace(record, lesions=marked, dark_lesions=dark, vessels=vessels)


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


def warp_tissue(record: SubjectRecord, grid: Grid) -> Tissue:
    """Bring the template's tissue maps into a subject's voxels."""
    template = load_template()
    points = record.deformation.on_grid(grid)
    points -= template.origin.astype(np.float32)[:, None, None, None]
    gray_map, white_map, brain_map = _smoothed_template(grid.spacing)
    inside = ndimage.map_coordinates(brain_map, points, order=1) > 0.5
    where = points[:, inside]
    gray = ndimage.map_coordinates(gray_map, where, order=1)
    white = ndimage.map_coordinates(white_map, where, order=1)
    fluid = np.clip(1 - gray - white, 0, 1)
    parts = np.stack([gray, white, fluid]).clip(0, 1) ** np.float32(record.sharpness)
    parts[2] *= record.fluid_weight
    parts /= parts.sum(0) + np.float32(1e-6)
    volumes = np.zeros((3, *grid.shape), dtype=np.float32)
    volumes[:, inside] = parts
    return Tissue(volumes[0], volumes[1], volumes[2], inside)


def render_subject(record: SubjectRecord, *, spacing: float = 1.0) -> Subject:
    """Compute the voxels of a subject.

    Args:
        record: What the subject is made from.
        spacing: Voxel edge in mm, from 1 to 8.
    """
    grid = Grid.of_spacing(spacing)
    tissue = warp_tissue(record, grid)
    image = tissue.white + record.gray * tissue.gray + record.fluid * tissue.fluid
    image *= 1 + record.texture.on_grid(grid)[0]
    for lesion in record.dark_lesions:
        _paint(lesion, record, grid, tissue, image)
    if record.vessels:
        cover, bright = paint_vessels(record.vessels, record.deformation, grid)
        image += cover * tissue.brain * (bright - image)
    label = np.zeros(grid.shape, dtype=bool)
    for lesion in record.lesions:
        box, inside = _paint(lesion, record, grid, tissue, image)
        label[box] |= inside
    scan = _scan(image, record, grid, tissue.brain)
    return Subject(scan, label.astype(np.uint8), grid.affine, record)


def _paint(
    lesion: Lesion, record: SubjectRecord, grid: Grid, tissue: Tissue, image: Array
) -> tuple[tuple[slice, slice, slice], Array]:
    """Blend a lesion into ``image``, in place.

    Returns:
        The box of voxels around the lesion, and which of them belong to it.
    """
    center = record.deformation.to_subject(lesion.center[None])[0]
    reach = 1.9 * lesion.longest + lesion.border + grid.spacing
    box = grid.box(center, reach)
    axes = [axis[part] for axis, part in zip(grid.axes(), box, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = lesion.distance(points - center)
    border = max(lesion.border, grid.spacing)
    # Lesions fill white matter, fade out in gray matter and stop at CSF.
    room = tissue.white[box] + 0.25 * tissue.gray[box]
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
    """Return a smooth step from 0 at ``t`` = 0 to 1 at ``t`` = 1."""
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))


def _scan(image: Array, record: SubjectRecord, grid: Grid, brain: Array) -> Array:
    """Add bias field, noise and the scanner's unit, and remove the background."""
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
