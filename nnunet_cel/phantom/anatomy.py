"""The average head from which synthetic subjects are made, and its tissues.

Words:

- *template*: the MNI152 average brain (ICBM 2009a symmetric) that nilearn ships, on a
  grid of 1 mm with room for the head around it. Places in it are voxel indices.
- *shell*: a layer around the brain: cerebrospinal fluid (CSF), bone, muscle, fat, air.
- *share*: how much of a voxel something fills, from 0 to 1.

Reference: Fonov et al., Unbiased average age-appropriate brain templates from birth to
adulthood, NeuroImage 47 (2009) S102.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

__all__ = ["MARGIN", "Template", "Tissue", "draw_tissue", "load_template"]

Array = npt.NDArray[Any]

MARGIN = 22
"""Voxels around the brain, of 1 mm: enough for scalp and air."""


@dataclass(frozen=True)
class Template:
    """The average brain, all arrays of shape (X, Y, Z).

    Args:
        gray: Share of gray matter.
        white: Share of white matter.
        brain: True inside the brain, its fluid included.
        ventricles: True in the lateral ventricles.
        wall: Distance to the lateral ventricles in mm.
        cortex: Distance to gray matter in mm.
        depth: Distance to the surface of the brain in mm, negative outside.
        mni: MNI coordinates x, y and z in mm, to be broadcast against each other.
    """

    gray: Array
    white: Array
    brain: Array
    ventricles: Array
    wall: Array
    cortex: Array
    depth: Array
    mni: tuple[Array, Array, Array]


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
    brain = np.pad(whole[cut], MARGIN)
    gray, white = (
        np.pad(np.asarray(load(resolution=1).dataobj)[cut], MARGIN).astype(np.float32)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    starts = [part.start - MARGIN for part in cut] + image.affine[:3, 3]
    x, y, z = (
        axis + start
        for axis, start in zip(
            np.ogrid[tuple(map(slice, brain.shape))], starts, strict=True
        )
    )
    depth = _depth(brain)
    inner = (np.abs(x) < 38) & (y > -56) & (y < 42) & (z > -6) & (z < 38)
    pieces, _ = ndimage.label((1 - gray - white > 0.5) & (depth > 25) & inner)
    # The lateral ventricles, 5 ml each. Third ventricle and cisterns are smaller.
    ventricles = np.isin(pieces, np.flatnonzero(np.bincount(pieces.flat) > 2500)[1:])
    return Template(
        gray=gray,
        white=white,
        brain=brain,
        ventricles=ventricles,
        wall=-_depth(ventricles),
        cortex=-_depth(gray >= 0.5),
        depth=depth,
        mni=(x, y, z),
    )


def _depth(where: Array) -> Array:
    """Return the distance to the border of a mask in mm, negative outside, float32."""
    mask = sitk.GetImageFromArray(where.astype(np.uint8))
    distance = sitk.SignedMaurerDistanceMap(
        mask, insideIsPositive=True, squaredDistance=False
    )
    return np.asarray(sitk.GetArrayFromImage(distance))


@dataclass(frozen=True)
class Tissue:
    """The tissues of a subject in template space, all arrays of shape (X, Y, Z).

    Args:
        gray: Share of gray matter.
        white: Share of white matter; the rest of the brain is fluid.
        shell: Shell of each voxel: 0 fluid, as in the brain, 1 bone, 2 muscle, 3 fat,
            4 air.
    """

    gray: Array
    white: Array
    shell: Array


def draw_tissue(rng: np.random.Generator) -> Tissue:
    """Draw a subject's atrophy and the thickness of its skull and scalp."""
    template = load_template()
    brain = template.brain
    # A wider ventricle pushes tissue out of the voxels around it.
    left = np.clip(template.wall[brain] - rng.uniform(0, 4) + 0.5, 0, 1)
    gray, white = template.gray[brain] * left, template.white[brain] * left
    parts = np.stack([gray, white, 1 - gray - white]).clip(0, 1)
    # The template is an average, so its cortex is blurred; powers sharpen it.
    parts **= np.float32(rng.uniform(1.4, 2.0))
    parts[2] *= rng.uniform(0.8, 1.8)  # more fluid is wider sulci
    parts /= parts.sum(0) + 1e-6
    gray, white = np.zeros((2, *brain.shape), dtype=np.float32)
    gray[brain], white[brain] = parts[:2]

    bounds = np.cumsum(rng.uniform([2, 4, 1, 3], [3, 8, 3, 6]))
    shell = np.digitize(-template.depth, bounds).astype(np.uint8)
    # What lies below the scalp is the neck.
    above = np.minimum.accumulate(shell[..., ::-1], axis=2)[..., ::-1]
    return Tissue(gray, white, np.minimum(shell, np.maximum(above, 2)))
