"""Draws a picture of a prepared case, to see at a glance whether the brain was found.

The upper row shows the original image with the outlines of the brain mask and of the
lesions in three planes, and the prepared image in the same planes. The lower row shows
axial slices of the original from bottom to top. The patient's right side is on the left
of the picture, as radiologists look at it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnunet_cel.pictures import Outline, Panel, cut_slice, draw_sheet, to_gray
from nnunet_cel.preparation.pipeline import Prepared
from nnunet_cel.resampling import box_around, to_ras
from nnunet_cel.volumes import Volume

__all__ = ["draw_picture"]

Array = npt.NDArray[Any]

BRAIN = "#4cc9f0"
LESION = "#ff4d4d"
_PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
_LEVELS = 6


class _Shown(NamedTuple):
    """An image in RAS order, its brightness, and outlined masks with their colors."""

    image: Volume
    gray: Array
    masks: list[tuple[Array, str]]

    def panel(self, name: str, axis: int, index: int) -> Panel:
        """Return a slice, in a frame in which the whole image fits."""
        across, up = (other for other in range(3) if other != axis)
        spacing = self.image.spacing
        return Panel(
            name,
            cut_slice(self.gray, axis, index),
            size=(spacing[up], spacing[across]),
            edge=max(np.multiply(self.gray.shape, spacing)),
            outlines=[
                Outline(cut_slice(mask, axis, index), color)
                for mask, color in self.masks
            ],
            sides=("A", "P") if axis == 0 else ("R", "L"),
        )


def draw_picture(
    title: str, original: Volume, label: Volume | None, prepared: Prepared
) -> bytes:
    """Return the picture of a case, a PNG file.

    Args:
        title: Name of the case.
        original: Image as it was acquired.
        label: Label map on its grid, None if there is none.
        prepared: What became of the image.
    """
    brain = to_ras(Volume(prepared.mask, original.affine)).voxels
    before = _shown(original, label, brain)
    after = _shown(prepared.image, prepared.label)
    box = box_around(brain)
    center = np.array([(part.start + part.stop) // 2 for part in box])
    lesion = before.masks[-1][0]
    if label is not None and lesion.any():  # where the largest part of the lesions is
        sums = (lesion.sum(axis=others) for others in ((1, 2), (0, 2), (0, 1)))
        center = np.array([counts.argmax() for counts in sums])
    to_prepared = np.linalg.inv(after.image.affine) @ before.image.affine
    there = np.rint(to_prepared[:3, :3] @ center + to_prepared[:3, 3]).astype(int)
    there = np.clip(there, 0, np.array(after.gray.shape) - 1)
    views = (("original", before, center), ("prepared", after, there))
    planes = [
        shown.panel(f"{name}, {plane}", axis, place[axis])
        for name, shown, place in views
        for plane, axis in _PLANES
    ]
    levels = []
    for share in (np.arange(_LEVELS) + 0.5) / _LEVELS:
        index = int(box[2].start + share * (box[2].stop - box[2].start))
        height = before.image.affine[2] @ [*center[:2], index, 1]
        levels.append(before.panel(f"z = {height:.0f} mm", 2, index))
    facts = f"{_size(original)} to {_size(prepared.image)}  |  brain "
    facts += f"{prepared.brain_volume:.0f} ml"
    legend = {"outline of the brain mask": BRAIN}
    if label is not None:
        volume = (label.voxels > 0).sum() * original.voxel_volume / 1000
        facts += f"  |  lesions {volume:.2f} ml"
        legend["outline of the lesions"] = LESION
    return draw_sheet([planes, levels], title=title, facts=facts, legend=legend)


def _shown(image: Volume, label: Volume | None, brain: Array | None = None) -> _Shown:
    """Return an image whose black is 0, and whose white is bright in the brain."""
    turned = to_ras(image)
    masks = [] if brain is None else [(brain, BRAIN)]
    masks += [] if label is None else [(to_ras(label).voxels > 0, LESION)]
    return _Shown(turned, to_gray(turned.voxels.clip(min=0), brain), masks)


def _size(volume: Volume) -> str:
    """Return number and size of voxels as text."""
    shape = " x ".join(str(size) for size in volume.voxels.shape)
    spacing = " x ".join(f"{step:.3g}" for step in volume.spacing)
    return f"{shape} at {spacing} mm"
