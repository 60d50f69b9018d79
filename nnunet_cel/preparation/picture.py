"""Draws a picture of a prepared case, to see at a glance whether the brain was found.

The upper row shows the original image with the outlines of the brain mask and of the
lesions in three planes, and the prepared image in the same planes. The lower row shows
axial slices of the original from bottom to top. The patient's right side is on the left
of the picture, as radiologists look at it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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


def save_picture(
    file: Path,
    *,
    title: str,
    original: Volume,
    mask: Array,
    prepared: Volume,
    label: Volume | None = None,
    prepared_label: Volume | None = None,
) -> None:
    """Save the picture of a case.

    Args:
        file: PNG file to write.
        title: Name of the case.
        original: Image as it was acquired.
        mask: Brain mask on its grid, booleans.
        prepared: Prepared image.
        label: Label map on the grid of the original image, None if there is none.
        prepared_label: Label map on the grid of the prepared image, likewise.
    """
    # not pyplot: it would look for a screen
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    voxels = np.nan_to_num(original.voxels.astype(np.float32), posinf=0, neginf=0)
    image = to_ras(Volume(voxels, original.affine))
    brain = to_ras(Volume(mask.astype(np.uint8), original.affine))
    lesion = None if label is None else to_ras(label)
    result = to_ras(prepared)
    carried = None if prepared_label is None else to_ras(prepared_label)
    window = _window(image.voxels[brain.voxels > 0])
    center = _center(brain, lesion)
    figure = Figure(figsize=(15, 5.7), facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2,
        _COLUMNS,
        left=0.008,
        right=0.992,
        bottom=0.07,
        top=0.88,
        wspace=0.03,
        hspace=0.1,
    )
    position = image.affine @ [*center, 1]
    there = np.rint(np.linalg.inv(result.affine) @ position)[:3].astype(int)
    there = np.clip(there, 0, np.array(result.voxels.shape) - 1)
    shown = _window(result.voxels[result.voxels > 0])
    for column, (plane, axis) in enumerate(_PLANES):
        axes = figure.add_subplot(grid[0, column])
        _draw(axes, image, axis, center[axis], window, brain, lesion)
        _name(axes, f"original, {plane}", axis)
        axes = figure.add_subplot(grid[0, column + 3])
        _draw(axes, result, axis, int(there[axis]), shown, None, carried)
        _name(axes, f"prepared, {plane}", axis)
    for column, index in enumerate(_levels(brain.voxels)):
        axes = figure.add_subplot(grid[1, column])
        _draw(axes, image, 2, index, window, brain, lesion)
        height = float((image.affine @ [center[0], center[1], index, 1])[2])
        _name(axes, f"z = {height:.0f} mm", 2)
    _head(figure, title, original, mask, prepared, label)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def _head(
    figure: Any,
    title: str,
    original: Volume,
    mask: Array,
    prepared: Volume,
    label: Volume | None,
) -> None:
    """Write the line above and the legend below the pictures."""
    volume = mask.sum() * original.voxel_volume / 1000
    facts = [f"{_size(original)} to {_size(prepared)}", f"brain {volume:.0f} ml"]
    if label is not None:
        lesion = (label.voxels > 0).sum() * original.voxel_volume / 1000
        facts.append(f"lesions {lesion:.2f} ml")
    name = title.encode("latin-1", "replace").decode("latin-1")  # what the font has
    figure.text(
        0.012,
        0.945,
        name,
        color=_TEXT,
        fontsize=14,
        weight="bold",
        parse_math=False,
    )
    figure.text(
        0.988, 0.945, "   |   ".join(facts), color=_FAINT, fontsize=10, ha="right"
    )
    figure.text(0.012, 0.02, "outline of the brain mask", color=BRAIN, fontsize=10)
    if label is not None:
        figure.text(0.16, 0.02, "outline of the lesions", color=LESION, fontsize=10)


def _size(volume: Volume) -> str:
    """Return number and size of voxels as text."""
    shape = " x ".join(str(size) for size in volume.voxels.shape)
    spacing = " x ".join(f"{step:.3g}" for step in volume.spacing)
    return f"{shape} at {spacing} mm"


def _window(values: Array) -> tuple[float, float]:
    """Return the intensities that are black and white."""
    if values.size == 0:
        return 0.0, 1.0
    bright = float(np.percentile(values, 99.5))
    return 0.0, bright if bright > 0 else 1.0


def _center(brain: Volume, lesion: Volume | None) -> tuple[int, int, int]:
    """Return the voxel through which the planes go: of the lesions, or of the brain."""
    box = box_around(brain.voxels)
    center = [(part.start + part.stop) // 2 for part in box]
    if lesion is not None and lesion.voxels.any():
        found = lesion.voxels > 0
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            center[axis] = int(found.sum(axis=others).argmax())
    return center[0], center[1], center[2]


def _levels(brain: Array) -> list[int]:
    """Return axial slices that are spread over the brain, from bottom to top."""
    part = box_around(brain)[2]
    steps = (np.arange(_COLUMNS) + 0.5) / _COLUMNS
    return [int(part.start + step * (part.stop - part.start)) for step in steps]


def _draw(
    axes: Any,
    image: Volume,
    axis: int,
    index: int,
    window: tuple[float, float],
    brain: Volume | None = None,
    lesion: Volume | None = None,
) -> None:
    """Draw one slice of a volume in RAS order, with outlines."""
    spacing = image.spacing
    across, up = (other for other in range(3) if other != axis)
    size = image.voxels.shape
    half_width, half_height = spacing[across] / 2, spacing[up] / 2
    extent = (
        -half_width,
        size[across] * spacing[across] - half_width,
        -half_height,
        size[up] * spacing[up] - half_height,
    )

    def plane(volume: Volume) -> Array:
        cut: Array = volume.voxels.take(index, axis=axis).T
        return cut

    axes.imshow(
        plane(image),
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        origin="lower",
        extent=extent,
        interpolation="bilinear",
    )
    for outlined, color in ((brain, BRAIN), (lesion, LESION)):
        if outlined is None or min(size[across], size[up]) < 2:
            continue  # an outline needs two voxels
        if (cut := plane(outlined) > 0).any():
            axes.contour(
                np.arange(size[across]) * spacing[across],
                np.arange(size[up]) * spacing[up],
                cut.astype(float),
                levels=[0.5],
                colors=[color],
                linewidths=1.0,
            )
    # All three planes of a volume in frames of one size, so that lengths compare.
    half = max(n * step for n, step in zip(size, spacing, strict=True)) / 2
    middle = (extent[0] + extent[1]) / 2, (extent[2] + extent[3]) / 2
    # The right side, and the front in sagittal slices, belong on the left.
    axes.set_xlim(middle[0] + half, middle[0] - half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    axes.set(facecolor="black", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _name(axes: Any, text: str, axis: int) -> None:
    """Write the name of a slice, and the letters of its sides."""
    axes.set_title(text, color=_FAINT, fontsize=9, pad=4)
    left, right = ("A", "P") if axis == 0 else ("R", "L")
    for place, letter in ((0.02, left), (0.98, right)):
        axes.text(
            place,
            0.98,
            letter,
            color=_FAINT,
            fontsize=9,
            ha="left" if place < 0.5 else "right",
            va="top",
            transform=axes.transAxes,
        )
