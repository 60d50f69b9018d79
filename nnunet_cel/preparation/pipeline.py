"""Prepares one image: brain mask, N4, denoising, crop, 1 mm, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnunet_cel.preparation.brain_extraction import BrainExtraction
from nnunet_cel.preparation.enhancement import correct_bias, denoise
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

__all__ = ["Prepared", "Settings", "prepare_volume"]

Array = npt.NDArray[Any]

_USUAL_VOLUME = (700, 2200)  # ml, with some cerebrospinal fluid
_OUTSIDE = 0.05  # share of the lesion voxels


@dataclass(frozen=True)
class Settings:
    """What is done with each image.

    Args:
        extraction: How the brain is found.
        n4: Whether the bias field is corrected.
        denoise: Whether noise is removed.
        spacing: Distance of voxel centers in mm from left to right, back to front and
            foot to head; None keeps the image's own.
        margin: What the crop leaves around brain and lesions, in mm.
    """

    extraction: BrainExtraction
    n4: bool = False
    denoise: bool = False
    spacing: Sequence[float] | None = (1.0, 1.0, 1.0)
    margin: float = 5.0

    def check(self) -> None:
        """Refuse what cannot work with ImportError or ValueError, before any work."""
        self.extraction.check()
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
        box: What was cut out of the original image.
        warnings: What the user should look at.
    """

    image: Volume
    label: Volume | None
    mask: Array
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
    keep = mask
    if label is not None:
        lesion = label.voxels > 0
        keep = mask | lesion
        outside = int((lesion & ~mask).sum())
        if outside > _OUTSIDE * lesion.sum():
            warnings.append(
                f"{outside} of {int(lesion.sum())} lesion voxels lie outside of the "
                "brain mask."
            )
    box = box_around(keep, image.spacing, settings.margin)
    prepared = crop(Volume(voxels, image.affine), box)
    cut_label = None if label is None else crop(label, box)
    if settings.spacing is not None:
        grid = grid_with_spacing(grid_of(prepared), settings.spacing)
        prepared = resample_image(prepared, grid)
        if cut_label is not None:
            resampled = resample_labels(cut_label, grid)
            warnings += _lost_lesions(cut_label, resampled)
            cut_label = resampled
    return Prepared(prepared, cut_label, mask, box, warnings)


def _lost_lesions(before: Volume, after: Volume) -> list[str]:
    """Return a warning if lesions have no voxel after resampling."""
    import cc3d

    # cc3d fails on some booleans, never on bytes.
    foreground = (before.voxels > 0).astype(np.uint8)
    lesions, count = cc3d.connected_components(
        foreground, connectivity=26, return_N=True
    )
    voxels = np.argwhere(after.voxels)
    back = np.linalg.inv(before.affine) @ after.affine
    indices = np.rint(voxels @ back[:3, :3].T + back[:3, 3]).astype(int)
    indices = indices.clip(0, np.array(lesions.shape) - 1)
    lost = count - np.count_nonzero(np.unique(lesions[tuple(indices.T)]))
    text = f"{lost} of {count} lesions have no voxel left after resampling."
    return [text] if lost else []
