"""A synthetic subject as it leaves the scanner: with skull and scalp, in two contrasts.

Words:

- *hull*: the brain with its sulci filled up, about the inside of the skull.
- *shell*: a layer around the hull: cerebrospinal fluid (CSF), bone, scalp.
- *other pathology*: an infarct, labeled 2, as in the data set WMH 2017.
- *second rater*: draws the same lesions a little larger or smaller.

As in :mod:`nnunet_cel.phantom.subject`, intensities are in units of white matter until
the last step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_cel.phantom.anatomy import load_template
from nnunet_cel.phantom.lesions import Lesion
from nnunet_cel.phantom.subject import (
    Kind,
    SubjectRecord,
    draw_subject,
    render_subject,
)
from nnunet_cel.volumes import Volume

__all__ = ["SourceSubject", "make_source_subject"]

Array = npt.NDArray[Any]

# Air around the box of the brain in mm, at the low and the high end of each axis. Below
# the brain the field of view ends in the neck.
_MARGIN = ((20.0, 20.0), (20.0, 20.0), (0.0, 20.0))

# Mean thickness of CSF, bone and scalp in mm; it varies by half of that.
_THICKNESS = (2.5, 6.0, 6.0)
_SULCUS = 12.0  # radius in mm of the ball that fits into no sulcus
_SHELL_STEP = 2.0  # voxel edge in mm that is enough for shells

# Brightness of CSF, bone, its marrow, muscle and fat in units of white matter.
_Shells = tuple[float, float, float, float, float]
_T1_SHELLS: _Shells = (0.30, 0.08, 0.35, 0.55, 1.3)
_SHELLS: dict[Kind, _Shells] = {
    "wmh": (0.28, 0.08, 0.25, 0.45, 0.9),
    "cel": _T1_SHELLS,
}
_FAT = 5.0  # thickness in mm of the fat under the skin
_NOISE = 0.03  # standard deviation in units of white matter
_AIR_THRESHOLD = 0.07  # below it, the scanner sets noise to zero

# T1w without contrast agent: brightness of tissue and of what enhancing and
# hyperintense lesions look like in it.
_T1_GRAY, _T1_FLUID = 0.77, 0.32
_T1_LESION = {"wmh": 0.80, "cel": 0.88}

_INFARCT_RADIUS = (4.0, 7.0)  # mm
_INFARCT_EVERY = 4  # one subject in so many has other pathology
_DISAGREEMENT = 0.3  # of the second rater with the first one, along borders


@dataclass(frozen=True)
class SourceSubject:
    """The volumes of one scan, all on one grid.

    Args:
        raw: FLAIR (wmh) or CE-T1w (cel), with skull.
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


def make_source_subject(
    kind: Kind, seed: int, index: int, *, spacing: float = 1.0, lesions: bool = True
) -> SourceSubject:
    """Make one synthetic subject with its head, for a tree of source files.

    Of the kind ``"wmh"``, one in four has other pathology, number 1 first.

    Args:
        kind: ``"wmh"`` or ``"cel"``.
        seed: Seed of the data set.
        index: Number of the subject, from 0 on.
        spacing: Voxel edge in mm, from 1 to 8.
        lesions: Whether the subject has any.

    Returns:
        The subject. The same arguments give the same voxels.
    """
    record = draw_subject(kind, seed, index, lesions=lesions)
    rng = np.random.default_rng((seed, get_args(Kind).index(kind), index, 1))
    infarcts: tuple[Lesion, ...] = ()
    if kind == "wmh" and index % _INFARCT_EVERY == 1:
        infarcts = (_draw_infarct(rng, record.lesions),)
    # Of the lesions of a record those called dark are not in the label map.
    main = render_subject(
        replace(record, dark_lesions=record.dark_lesions + infarcts), spacing=spacing
    )
    plain = render_subject(_without_agent(record, infarcts), spacing=spacing)

    margin = [(round(low / spacing), round(high / spacing)) for low, high in _MARGIN]
    affine = main.affine.copy()
    affine[:3, 3] -= [low * spacing for low, _ in margin]
    image, t1, label, other = (
        np.pad(values, margin)
        for values in (main.image, plain.image, main.label, plain.label)
    )
    brain = image > 0
    second_lesions = _second_opinion(rng, label, brain)
    if infarcts:
        # The official label maps have a seam around other pathology, too.
        label[ndimage.binary_dilation(other) & (label == 0)] = 2
    shells = _shells(rng, brain, spacing)
    raw = _with_shells(rng, image, record, shells, _SHELLS[kind])
    t1 = _with_shells(rng, t1, record, shells, _T1_SHELLS)
    return SourceSubject(
        raw=Volume(raw, affine),
        brain_image=Volume(image, affine),
        t1=Volume(t1, affine),
        label=Volume(label, affine),
        second_lesions=Volume(second_lesions, affine),
    )


def _draw_infarct(rng: np.random.Generator, lesions: tuple[Lesion, ...]) -> Lesion:
    """Draw a ball in white matter near the cortex, far from the lesions."""
    template = load_template()
    outer = (template.depth > 8) & (template.depth < 25) & (template.white > 0.7)
    places = rng.permutation(template.points(outer, step=3))[:60]
    centers = np.array([lesion.center for lesion in lesions]).reshape(-1, 3)
    distances = np.linalg.norm(places[:, None] - centers, axis=-1)
    center = places[distances.min(axis=1, initial=np.inf).argmax()]
    return Lesion(
        center=center,
        axes=np.eye(3) / rng.uniform(*_INFARCT_RADIUS),
        waves=np.zeros((1, 3)),
        phases=np.zeros(1),
        ripple=0.0,
        border=1.5,
        intensity=1.7,
    )


def _without_agent(
    record: SubjectRecord, infarcts: tuple[Lesion, ...]
) -> SubjectRecord:
    """Return what the T1w image without contrast agent of a subject is made from.

    Infarcts are all that its label map has.
    """
    brightness = _T1_LESION[record.kind]
    faint = tuple(
        replace(lesion, intensity=brightness, core=None) for lesion in record.lesions
    )
    return replace(
        record,
        gray=_T1_GRAY,
        fluid=_T1_FLUID,
        lesions=tuple(replace(infarct, intensity=0.6) for infarct in infarcts),
        dark_lesions=record.dark_lesions + faint,
        vessels=(),
        noise_seed=record.noise_seed ^ 1,
    )


def _second_opinion(rng: np.random.Generator, label: Array, brain: Array) -> Array:
    """Return the lesions of a label map as a second rater draws them, uint8."""
    chance = rng.random(label.shape, dtype=np.float32)
    drawn = label > 0
    drawn |= ndimage.binary_dilation(drawn) & brain & (chance < _DISAGREEMENT)
    drawn &= ndimage.binary_erosion(label) | (chance > _DISAGREEMENT / 2)
    return drawn.astype(np.uint8)


def _shells(rng: np.random.Generator, brain: Array, spacing: float) -> list[Array]:
    """Return the distance in mm to the outside of CSF, bone and scalp, float32.

    The distance is negative inside. All shells are computed on a coarse grid. What lies
    below the scalp belongs to it, as the neck.
    """
    step = max(1, round(_SHELL_STEP / spacing))
    coarse = brain[::step, ::step, ::step]
    edge = step * spacing
    near = ndimage.distance_transform_edt(~coarse, sampling=edge) <= _SULCUS
    hull = ndimage.distance_transform_edt(near, sampling=edge) > _SULCUS
    distance = ndimage.distance_transform_edt(~(hull | coarse), sampling=edge)
    shells = []
    for thickness in _THICKNESS:
        knots = rng.uniform(0.5, 1.5, (5, 5, 5)) * thickness
        zoom = np.array(coarse.shape) / knots.shape
        distance = distance - ndimage.zoom(knots, zoom, order=1)
        shells.append(
            ndimage.affine_transform(
                distance.astype(np.float32),
                np.full(3, 1 / step),
                output_shape=brain.shape,
                order=1,
                mode="nearest",
            )
        )
    shells[-1] = np.minimum.accumulate(shells[-1][..., ::-1], axis=2)[..., ::-1]
    return shells


def _with_shells(
    rng: np.random.Generator,
    image: Array,
    record: SubjectRecord,
    shells: list[Array],
    brightness: _Shells,
) -> Array:
    """Return an image of the brain in its head; the brain's voxels stay as they are."""
    fluid, bone, marrow, muscle, fat = brightness
    in_fluid, in_bone, in_scalp = (np.clip(0.5 - shell, 0, 1) for shell in shells)
    head = in_scalp * np.where(shells[2] > -_FAT, fat, muscle).astype(np.float32)
    head += in_bone * (bone - head)
    between = (shells[0] + shells[1]) / 2  # 0 in the middle of bone
    head += np.clip(1.5 - abs(between), 0, 1) * (marrow - bone)
    head += in_fluid * (fluid - head)
    real, imaginary = _NOISE * rng.standard_normal((2, *head.shape), dtype=np.float32)
    head = np.hypot(head + real, imaginary)
    head[head < _AIR_THRESHOLD] = 0
    head *= record.unit
    if record.integer:
        head = np.rint(head)
    return np.asarray(np.where(image > 0, image, head), dtype=image.dtype)
