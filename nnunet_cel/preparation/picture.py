"""Draws a picture of a prepared case, to see at a glance whether the brain was found.

The upper row shows the original image with the outlines of the brain mask and of the
lesions in three planes, and the prepared image in the same planes. The lower row shows
axial slices of the original from bottom to top. The patient's right side is on the left
of the picture, as radiologists look at it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnunet_cel.preparation.pipeline import Prepared
from nnunet_cel.resampling import box_around, to_ras
from nnunet_cel.volumes import Volume

__all__ = ["save_picture"]

Array = npt.NDArray[Any]

BRAIN = "#4cc9f0"
LESION = "#ff4d4d"
_BACKGROUND = "#0b0d10"
_TEXT = "#d7dce2"
_FAINT = "#8b949e"
_PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
_COLUMNS = 6


class _Shown(NamedTuple):
    """An image in RAS order, the intensity that is white, outlined masks and colors."""

    image: Volume
    white: float
    outlines: list[tuple[Volume, str]]


def save_picture(
    file: Path, title: str, original: Volume, label: Volume | None, prepared: Prepared
) -> None:
    """Save the picture of a case.

    Args:
        file: PNG file to write.
        title: Name of the case.
        original: Image as it was acquired.
        label: Label map on its grid, None if there is none.
        prepared: What became of the image.
    """
    # not pyplot: it would look for a screen
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    voxels = np.nan_to_num(original.voxels.astype(np.float32), posinf=0, neginf=0)
    brain = to_ras(Volume(prepared.mask.astype(np.uint8), original.affine))
    lesions = [] if label is None else [(to_ras(label), LESION)]
    image = to_ras(Volume(voxels, original.affine))
    white = _white(image.voxels[brain.voxels > 0])
    before = _Shown(image, white, [(brain, BRAIN), *lesions])
    result = to_ras(prepared.image)
    carried = [] if prepared.label is None else [(to_ras(prepared.label), LESION)]
    after = _Shown(result, _white(result.voxels[result.voxels > 0]), carried)

    figure = Figure(figsize=(15, 5.7), facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    frame = {"left": 0.008, "right": 0.992, "bottom": 0.07, "top": 0.88}
    grid = figure.add_gridspec(2, _COLUMNS, **frame, wspace=0.03, hspace=0.1)
    center = _center(brain, lesions[0][0] if lesions else None)
    position = image.affine @ [*center, 1]
    there = np.rint(np.linalg.inv(result.affine) @ position)[:3].astype(int)
    there = np.clip(there, 0, np.array(result.voxels.shape) - 1)
    for column, (plane, axis) in enumerate(_PLANES):
        axes = figure.add_subplot(grid[0, column])
        _draw(axes, before, axis, center[axis], f"original, {plane}")
        axes = figure.add_subplot(grid[0, column + 3])
        _draw(axes, after, axis, int(there[axis]), f"prepared, {plane}")
    levels = box_around(brain.voxels)[2]
    for column in range(_COLUMNS):
        share = (column + 0.5) / _COLUMNS
        index = int(levels.start + share * (levels.stop - levels.start))
        height = float((image.affine @ [center[0], center[1], index, 1])[2])
        axes = figure.add_subplot(grid[1, column])
        _draw(axes, before, 2, index, f"z = {height:.0f} mm")
    _write_facts(figure, title, original, label, prepared)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def _write_facts(
    figure: Any, title: str, original: Volume, label: Volume | None, prepared: Prepared
) -> None:
    """Write the line above and the legend below the pictures."""
    volume = prepared.mask.sum() * original.voxel_volume / 1000
    facts = f"{_size(original)} to {_size(prepared.image)}   |   brain {volume:.0f} ml"
    if label is not None:
        lesion = (label.voxels > 0).sum() * original.voxel_volume / 1000
        facts += f"   |   lesions {lesion:.2f} ml"
        figure.text(0.16, 0.02, "outline of the lesions", color=LESION, fontsize=10)
    figure.text(0.012, 0.02, "outline of the brain mask", color=BRAIN, fontsize=10)
    figure.text(0.988, 0.945, facts, color=_FAINT, fontsize=10, ha="right")
    name = title.encode("latin-1", "replace").decode("latin-1")  # what the font has
    style = {"color": _TEXT, "fontsize": 14, "weight": "bold", "parse_math": False}
    figure.text(0.012, 0.945, name, **style)


def _size(volume: Volume) -> str:
    """Return number and size of voxels as text."""
    shape = " x ".join(str(size) for size in volume.voxels.shape)
    spacing = " x ".join(f"{step:.3g}" for step in volume.spacing)
    return f"{shape} at {spacing} mm"


def _white(values: Array) -> float:
    """Return the intensity that is white; that of black is 0."""
    return max(float(np.percentile(values, 99.5)), 0) or 1 if values.size else 1


def _center(brain: Volume, lesion: Volume | None) -> tuple[int, int, int]:
    """Return the voxel through which the planes go: of the lesions, or of the brain."""
    x, y, z = ((part.start + part.stop) // 2 for part in box_around(brain.voxels))
    if lesion is not None and lesion.voxels.any():
        found = lesion.voxels > 0
        x, y, z = (int(found.sum(axis=a).argmax()) for a in ((1, 2), (0, 2), (0, 1)))
    return x, y, z


def _draw(axes: Any, shown: _Shown, axis: int, index: int, title: str) -> None:
    """Draw one slice across an axis, with outlines, title and letters of its sides."""
    image, white, outlines = shown
    across, up = (other for other in range(3) if other != axis)
    size, spacing = image.voxels.shape, image.spacing
    left, bottom = -spacing[across] / 2, -spacing[up] / 2
    right, top = size[across] * spacing[across] + left, size[up] * spacing[up] + bottom
    axes.imshow(
        image.voxels.take(index, axis=axis).T,
        cmap="gray",
        vmin=0,
        vmax=white,
        origin="lower",
        extent=(left, right, bottom, top),
        interpolation="bilinear",
    )
    for mask, color in outlines:
        cut = mask.voxels.take(index, axis=axis).T > 0
        if min(cut.shape) > 1 and cut.any():  # an outline needs two voxels
            style = {"levels": [0.5], "colors": [color], "linewidths": 1.0}
            columns, rows = (np.arange(size[a]) * spacing[a] for a in (across, up))
            axes.contour(columns, rows, cut.astype(float), **style)
    # All three planes of a volume in frames of one size, so that lengths compare.
    half = max(n * step for n, step in zip(size, spacing, strict=True)) / 2
    middle = (left + right) / 2, (bottom + top) / 2
    # The right side, and the front in sagittal slices, belong on the left.
    axes.set_xlim(middle[0] + half, middle[0] - half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.set(facecolor="black", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, color=_FAINT, fontsize=9, pad=4)
    style = {"color": _FAINT, "fontsize": 9, "va": "top", "transform": axes.transAxes}
    for place, side, letters in ((0.02, "left", "AR"), (0.98, "right", "PL")):
        axes.text(place, 0.98, letters[axis > 0], ha=side, **style)
