"""Prepares one image: brain mask, N4, denoising, crop, 1 mm, in this order.

References: Tustison et al., IEEE TMI 2010;29:1310-1320, doi:10.1109/TMI.2010.2046908,
for N4, which evens out slow changes of brightness; Coupe et al., IEEE TMI
2008;27:425-441, doi:10.1109/TMI.2007.906087, for non-local means and the estimate of
the noise; Darbon et al., ISBI 2008:1331-1334, for the fast way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.resampling import (
    Box,
    box_around,
    crop,
    grid_of,
    grid_with_spacing,
    resample_image,
    resample_labels,
)
from nnunet_cel.volumes import Volume

__all__ = [
    "MARGIN",
    "Prepared",
    "Settings",
    "correct_bias",
    "denoise",
    "noise_level",
    "prepare_volume",
]

Array = npt.NDArray[Any]

MARGIN = 5.0
"""What the crop leaves around brain and lesions, in mm."""

_USUAL_VOLUME = (700, 2200)  # ml, with some cerebrospinal fluid
_OUTSIDE = 0.05  # share of the lesion voxels

_GRID = 4.0  # mm; a finer one takes 20 times as long and is no better
_ITERATIONS = (50, 50, 50, 50)
_MIN_SIZE = 8  # voxels along an axis that shrinking leaves
_MIN_SLICES = 4  # what the splines need

_PATCH = 3  # voxels along each edge of a patch
_DISTANCE = 2  # voxels to the farthest patch; 3 takes twice as long and is no better
_STRENGTH = 0.6  # of the noise; more blurs the MNI152 template, less leaves noise


@dataclass(frozen=True)
class Settings:
    """What is done with each image.

    Args:
        extraction: How the brain is found.
        n4: Whether the bias field is corrected.
        denoise: Whether noise is removed.
        spacing: Distance of voxel centers in mm from left to right, back to front and
            foot to head; None keeps the image's own.

    Raises:
        ValueError: If the spacing is out of range.
    """

    extraction: BrainExtraction
    n4: bool = False
    denoise: bool = False
    spacing: Sequence[float] | None = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not all(0.1 <= value <= 10 for value in self.spacing or ()):
            raise ValueError(
                f"The spacing must be from 0.1 to 10 mm. Got {self.spacing} instead."
            )


class Prepared(NamedTuple):
    """What becomes of an image.

    Args:
        image: The prepared image, float32.
        label: The label map on the grid of the prepared image, None if there is none.
        mask: Brain mask on the grid of the original image, booleans.
        brain_volume: Volume of that mask in ml.
        box: What was cut out of the original image.
        warnings: What the user should look at.
    """

    image: Volume
    label: Volume | None
    mask: Array
    brain_volume: float
    box: Box
    warnings: list[str]


def prepare_volume(
    name: str, image: Volume, settings: Settings, label: Volume | None = None
) -> Prepared:
    """Prepare one image, and its label map, on the same grid, with it.

    Labels outside of the brain mask are kept, but the image is 0 there. The name of the
    case is for its brain mask and for messages.

    Raises:
        ValueError: If the brain cannot be found, or there are voxels in it that are NaN
            or infinite.
    """
    mask = settings.extraction.mask([name], image)
    wrong = int((mask & ~np.isfinite(image.voxels)).sum())
    if wrong:
        raise ValueError(
            f"The image of {name} must have finite voxels in the brain. Got {wrong} "
            "that are NaN or infinite: mend them, or use another brain mask."
        )
    warnings = []
    volume = float(mask.sum()) * image.voxel_volume / 1000
    automatic = settings.extraction.method == "bet"
    if automatic and not _USUAL_VOLUME[0] <= volume <= _USUAL_VOLUME[1]:
        warnings.append(f"The brain mask has {volume:.0f} ml, which is unusual.")
    voxels = np.where(mask, image.voxels, 0).astype(np.float32)
    if settings.n4:
        voxels = correct_bias(voxels, mask, image.spacing)
    if settings.denoise:
        voxels = denoise(voxels, mask, image.spacing)
    lesion = np.zeros_like(mask) if label is None else label.voxels > 0
    outside, count = int((lesion & ~mask).sum()), int(lesion.sum())
    if outside > _OUTSIDE * count:
        text = f"{outside} of {count} lesion voxels lie outside of the brain mask."
        warnings.append(text)
    box = box_around(mask | lesion, image.spacing, MARGIN)
    prepared = crop(Volume(voxels, image.affine), box)
    cut_label = None if label is None else crop(label, box)
    if settings.spacing is not None:
        grid = grid_with_spacing(grid_of(prepared), settings.spacing)
        prepared = resample_image(prepared, grid)
        if cut_label is not None:
            resampled = resample_labels(cut_label, grid)
            warnings += _lost_lesions(cut_label, resampled)
            cut_label = resampled
    return Prepared(prepared, cut_label, mask, volume, box, warnings)


def _lost_lesions(before: Volume, after: Volume) -> list[str]:
    """Return a warning if lesions have no voxel after resampling."""
    from scipy.ndimage import label

    lesions, count = label(before.voxels, np.ones((3, 3, 3)))
    voxels = np.argwhere(after.voxels)
    back = np.linalg.inv(before.affine) @ after.affine
    indices = np.rint(voxels @ back[:3, :3].T + back[:3, 3]).astype(int)
    indices = indices.clip(0, np.array(lesions.shape) - 1)
    lost = count - np.count_nonzero(np.unique(lesions[tuple(indices.T)]))
    text = f"{lost} of {count} lesions have no voxel left after resampling."
    return [text] if lost else []


def correct_bias(voxels: Array, mask: Array, spacing: Sequence[float]) -> Array:
    """Return an image without its bias field, as float32, and 0 outside of the mask.

    The field is found on every fourth voxel of 1 mm, on fewer of larger ones, and
    applied to all. Its geometric mean is 1, so that the image stays as bright as it
    was. Negative intensities become 0.

    Args:
        voxels: Finite intensities, shape (X, Y, Z).
        mask: True in the brain, same shape, at least one voxel.
        spacing: Distance of voxel centers along each axis in mm.
    """
    import SimpleITK as sitk

    corrected = np.zeros(voxels.shape, dtype=np.float32)
    box = box_around(mask)
    inside = mask[box]
    brain = np.where(inside, voxels[box], 0).clip(min=0).astype(np.float32)
    corrected[box] = brain
    used = inside & (brain > 0)
    if len(np.unique(brain[used])) < 2:
        return corrected
    # Splines cannot be fitted to one or two slices; to copies of them they can.
    copies = [-(-_MIN_SLICES // size) for size in brain.shape]
    shrink = [
        max(1, min(round(_GRID / step), size // _MIN_SIZE))
        for step, size in zip(spacing, brain.shape, strict=True)
    ]
    image, where = (
        sitk.GetImageFromArray(np.kron(array, np.ones(copies, array.dtype)).T)
        for array in (brain, used.astype(np.uint8))
    )
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.Execute(sitk.Shrink(image, shrink), sitk.Shrink(where, shrink))
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    field = field[tuple(slice(None, None, count) for count in copies)]
    field = field - field[used].mean(dtype=float)
    corrected[box] = np.where(inside, brain / np.exp(field), 0)
    return corrected


def denoise(voxels: Array, mask: Array, spacing: Sequence[float]) -> Array:
    """Return an image with less noise, as float32, and 0 outside of the mask.

    Args: as of :func:`correct_bias`.
    """
    from skimage.restoration import denoise_nl_means

    box = box_around(mask)
    brain = np.ascontiguousarray(voxels[box], dtype=np.float32)
    noise = noise_level(brain, mask[box], spacing)
    if noise > 0:
        smooth = denoise_nl_means(
            brain,
            patch_size=_PATCH,
            patch_distance=_DISTANCE,
            h=_STRENGTH * noise,
            sigma=noise,
            fast_mode=True,
        )
        brain = smooth.reshape(brain.shape)  # it drops axes of length 1
    denoised = np.zeros(voxels.shape, dtype=np.float32)
    denoised[box] = np.where(mask[box], brain, 0)
    return denoised


def noise_level(voxels: Array, mask: Array, spacing: Sequence[float]) -> float:
    """Return the standard deviation of the noise in the brain.

    It is taken from how much voxels differ from the mean of their neighbors, with a
    median, which edges of the anatomy hardly change. Neighbors across thick slices
    differ for other reasons and are left out.

    Args: as of :func:`correct_bias`.
    """
    from scipy.ndimage import binary_erosion, convolve, generate_binary_structure

    cross = generate_binary_structure(3, 1)
    for axis in range(3):
        if spacing[axis] > 1.5 * min(spacing) or voxels.shape[axis] < 3:
            cross.swapaxes(0, axis)[[0, 2]] = False
    neighbors = cross.sum() - 1
    inside = binary_erosion(mask, cross)
    if not neighbors or not inside.any():
        return 0.0
    kernel = cross / neighbors
    kernel[1, 1, 1] = 0
    mean = convolve(voxels.astype(np.float32), kernel)
    differences = (voxels - mean)[inside]
    deviation = np.median(abs(differences - np.median(differences))) / 0.6745
    # The mean of the neighbors has noise, too.
    return float(deviation * np.sqrt(neighbors / (neighbors + 1)))
