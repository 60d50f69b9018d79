"""A synthetic subject: images of a head with lesions, and their label map.

A subject is drawn in the space of the template, with brightness in units of white
matter; then it is deformed, sampled, and seen through a scanner.

Words:

- *lesion*: white matter hyperintensity in FLAIR, contrast-enhancing lesion in CE-T1w.
- *mimic*: what looks like a lesion and is not in the label map: vessels, choroid
  plexus and dark lesions that take up no contrast agent.
- *other pathology*: an infarct, labeled 2, as in the data set WMH 2017.
- *second rater*: draws the same lesions a little larger or smaller.

A ring-enhancing lesion is labeled as a whole, rim and dark center, as radiologists
outline it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from nnunet_cel.phantom.anatomy import MARGIN, Tissue, draw_tissue, load_template
from nnunet_cel.phantom.lesions import (
    Lesion,
    draw_enhancing_lesions,
    draw_hyperintensities,
    draw_lesion,
    draw_vessels,
)
from nnunet_cel.volumes import Volume

__all__ = ["SPACINGS", "Kind", "Subject", "make_subject"]

Array = npt.NDArray[Any]
Kind = Literal["wmh", "cel"]
"""FLAIR with white matter hyperintensities, or CE-T1w with enhancing lesions."""

SPACINGS = (1.0, 8.0)
"""Smallest and largest voxel edge in mm; the template has voxels of 1 mm."""

# Brightness in units of white matter: fluid, bone, muscle, fat and air, in the order of
# a head's shells, and gray matter.
_Contrast = tuple[tuple[float, ...], float]
_FLAIR: _Contrast = ((0.28, 0.08, 0.45, 0.90, 0.0), 1.16)
_T1: _Contrast = ((0.32, 0.08, 0.55, 1.30, 0.0), 0.77)

_NOISE = 0.03  # standard deviation in units of white matter
_AIR_THRESHOLD = 0.07  # below it, the scanner sets noise to zero
_DISAGREEMENT = 0.3  # of the second rater with the first one, along borders


@dataclass(frozen=True)
class Subject:
    """The volumes of one scan, all on one grid.

    Args:
        raw: FLAIR (wmh) or CE-T1w (cel), with skull, int16 or float32.
        brain_image: The same without skull, zero outside the brain.
        t1: T1w without contrast agent, with skull.
        label: 1 in lesions, 2 in other pathology, uint8.
        second_lesions: 1 in lesions as a second rater sees them, uint8.
    """

    raw: Volume
    brain_image: Volume
    t1: Volume
    label: Volume
    second_lesions: Volume

    @property
    def lesions(self) -> Volume:
        """The label map without other pathology."""
        voxels, affine = self.label
        return Volume((voxels == 1).astype(np.uint8), affine)


def make_subject(
    kind: Kind,
    seed: int,
    index: int,
    *,
    spacing: float = 1.0,
    lesions: bool = True,
    head: bool = True,
) -> Subject:
    """Make one synthetic subject.

    Of the kind ``"wmh"``, one in four has other pathology, number 1 first.

    Args:
        kind: ``"wmh"`` or ``"cel"``.
        seed: Seed of the data set.
        index: Number of the subject in the data set.
        spacing: Voxel edge in mm, from 1 to 8.
        lesions: Whether the subject has any; mimics are there in any case.
        head: Whether the grid has room for the head, not for the brain alone.

    Returns:
        The subject. The same arguments give the same voxels.
    """
    rng = np.random.default_rng((seed, get_args(Kind).index(kind), index))
    tissue = draw_tissue(rng)
    image = _mix(rng, tissue, _FLAIR if kind == "wmh" else _T1)
    t1 = _mix(rng, tissue, _T1)
    label, other = np.zeros((2, *image.shape), dtype=np.float32)
    if kind == "wmh":
        found = draw_hyperintensities(rng, tissue) if lesions else []
        _paint(found, image, t1, t1_level=0.8, label=label)
        if index % 4 == 1:
            keep_off = ndimage.maximum_filter(label, 9)
            infarct = draw_lesion(
                rng, tissue, "deep", rng.uniform(4, 7), bright=1.7, taken=keep_off
            )
            _paint([infarct], image, t1, t1_level=0.6, label=other)
    else:
        cover = draw_vessels(rng)
        dark = [
            draw_lesion(
                rng, tissue, "deep", rng.uniform(1.8, 5), bright=rng.uniform(0.6, 0.88)
            )
            for _ in range(int(rng.integers(2, 9)))
        ]
        _paint(dark, image, t1, t1_level=0.75)
        image += cover * (rng.uniform(1.5, 1.9) - image)
        found = draw_enhancing_lesions(rng, tissue, cover) if lesions else []
        _paint(found, image, t1, t1_level=0.88, label=label)
    maps = [image, t1, load_template().brain, label, other]
    shape = _draw_shape(rng, image.shape)
    image, t1, *masks, affine = _sample(maps, shape, spacing, head)
    brain, label, other = (share > 0.5 for share in masks)
    bias, unit = _bias(rng, brain.shape), np.exp(rng.uniform(np.log(100), np.log(2000)))
    dtype = np.int16 if rng.random() < 0.5 else np.float32
    raw, t1 = (
        _scan(rng, values * bias, brain, unit).astype(dtype) for values in (image, t1)
    )
    label &= brain
    second = _second_opinion(rng, label, brain)
    # The official label maps have a seam around other pathology, too.
    other = ndimage.binary_dilation(other) & brain & ~label
    labels = ((label + 2 * other).astype(np.uint8), second.astype(np.uint8))
    voxels = (raw, raw * brain, t1, *labels)
    return Subject(*(Volume(values, affine) for values in voxels))


def _mix(rng: np.random.Generator, tissue: Tissue, contrast: _Contrast) -> Array:
    """Return the brightness of a head without lesions."""
    shells, gray = contrast
    levels = np.array(shells, dtype=np.float32) + np.float32(rng.normal(0, 0.01))
    fluid = levels[0]
    image = levels[tissue.shell]
    image += (gray + rng.uniform(-0.03, 0.03) - fluid) * tissue.gray
    image += (1 - fluid) * tissue.white
    return np.asarray(image, dtype=np.float32)


def _paint(
    lesions: list[Lesion],
    image: Array,
    t1: Array,
    *,
    t1_level: float,
    label: Array | None = None,
) -> None:
    """Paint lesions into an image, its T1w image and the share that is labeled."""
    for box, share, bright in lesions:
        image[box] += share * (bright - image[box])
        t1[box] += share * (t1_level - t1[box])
        if label is not None:
            label[box] = np.maximum(label[box], share)


def _draw_shape(rng: np.random.Generator, shape: tuple[int, ...]) -> sitk.Transform:
    """Draw the shape of a head: the map from its places to those of the template.

    The template is larger than most brains, so subjects are smaller by 2 to 12 %.
    """
    extent = np.array(shape, dtype=float)
    affine = sitk.AffineTransform(3)
    affine.SetCenter((extent / 2).tolist())
    for axes in ((0, 1), (0, 2), (1, 2)):
        affine.Rotate(*axes, np.deg2rad(rng.normal(0, 3)))
    affine.Scale((1 / rng.uniform(0.90, 0.99) / rng.uniform(0.97, 1.03, 3)).tolist())
    shifts = np.zeros((24, 24, 24, 3))  # mm
    for knots, amplitude in ((6, 2.5), (12, 1.0)):
        values = rng.normal(0, amplitude, (knots, knots, knots, 3))
        shifts += ndimage.zoom(values, (24 / knots,) * 3 + (1,), order=3)
    field = sitk.GetImageFromArray(shifts, isVector=True)
    field.SetSpacing((extent / 23).tolist())
    return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(field)])


def _sample(
    maps: list[Array], shape: sitk.Transform, spacing: float, head: bool
) -> list[Array]:
    """Return maps of template space on a subject's grid, and the affine of the grid.

    Args:
        maps: Brightness and shares, (X, Y, Z).
        shape: Shape of the head.
        spacing: Voxel edge in mm.
        head: Whether the grid has room for the head, not for the brain alone.
    """
    # SimpleITK takes the last axis of an array for its first one.
    images = sitk.Compose([sitk.GetImageFromArray(np.float32(m).T) for m in maps])
    if spacing >= 4:  # large voxels average over what they hold; so does interpolation
        images = sitk.BinShrink(images, [int(spacing / 2)] * 3)
    # Below the brain a head's image ends in the neck.
    margin = np.array([[0, 0, MARGIN], [0, 0, 0]] if head else [[MARGIN - 4] * 3] * 2)
    length = np.array(maps[0].shape) - 1 - margin.sum(axis=0)
    size = np.ceil(length / spacing).astype(int) + 1
    sampled = sitk.Resample(
        images,
        size.tolist(),
        shape,
        sitk.sitkLinear,
        margin[0].astype(float).tolist(),
        [float(spacing)] * 3,
    )
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = margin[0] + [axis.flat[0] for axis in load_template().mni]
    return [*sitk.GetArrayFromImage(sampled).T, affine]


def _bias(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return a bias field within 20 % of 1: waves that are longer than the head."""
    field = np.ones(shape, dtype=np.float32)
    for axis in np.ogrid[tuple(slice(-1, 1, n * 1j) for n in shape)]:
        field *= 1 + rng.uniform(0.02, 0.07) * np.sin(
            2 * axis + rng.uniform(0, 2 * np.pi)
        )
    return field


def _scan(rng: np.random.Generator, image: Array, brain: Array, unit: float) -> Array:
    """Add the noise of a magnitude image, and the unit of the scanner."""
    real, imaginary = _NOISE * rng.standard_normal((2, *image.shape), dtype=np.float32)
    scan = np.hypot(image + real, imaginary)
    scan[(scan < _AIR_THRESHOLD) & ~brain] = 0
    return np.asarray(np.rint(unit * scan))


def _second_opinion(rng: np.random.Generator, label: Array, brain: Array) -> Array:
    """Return the lesions of a label map as a second rater draws them."""
    chance = rng.random(label.shape, dtype=np.float32)
    drawn = label | (ndimage.binary_dilation(label) & brain & (chance < _DISAGREEMENT))
    kept = ndimage.binary_erosion(label) | (chance > _DISAGREEMENT / 2)
    return np.asarray(drawn & kept)
