"""Pictures of predictions in the colors of the paper's Figure 7.

True positive red, false positive green, false negative yellow, on the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb

from nnunet_cel.report.style import AGREEMENT_COLORS
from nnunet_cel.resampling import to_ras
from nnunet_cel.volumes import read_volume

__all__ = ["color_overlay", "dice", "load_volume", "save_overlays", "slice_to_show"]

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = (
    to_rgb(AGREEMENT_COLORS[kind]) for kind in ("tp", "fp", "fn")
)


def load_volume(file: Path) -> np.ndarray:
    """Return the voxels of an image, shape ``(X, Y, Z)``, axes in RAS order."""
    return to_ras(read_volume(file)).voxels


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Return the Dice similarity coefficient of two masks; NaN if both are empty."""
    predicted, true = prediction > 0, reference > 0
    total = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / total if total else float("nan")


def slice_to_show(reference: np.ndarray) -> int:
    """Return the axial slice with the largest lesion area, else the middle one."""
    area = (reference > 0).sum(axis=(0, 1))
    return int(area.argmax()) if area.any() else reference.shape[2] // 2


def color_overlay(
    image: np.ndarray, prediction: np.ndarray, reference: np.ndarray
) -> np.ndarray:
    """Return a slice in gray with predicted and reference lesion in color.

    Args:
        image: Intensities, shape ``(H, W)``.
        prediction: Predicted lesion, > 0, same shape.
        reference: Reference lesion, > 0, same shape.

    Returns:
        Colors from 0 to 1, shape ``(H, W, 3)``.
    """
    brightest = np.percentile(image[image > 0], 99.5) if (image > 0).any() else 1.0
    gray = np.clip(image / brightest, 0, 1).astype(float)
    picture = np.repeat(gray[..., None], 3, axis=2)
    predicted, true = prediction > 0, reference > 0
    picture[predicted & true] = TRUE_POSITIVE
    picture[predicted & ~true] = FALSE_POSITIVE
    picture[~predicted & true] = FALSE_NEGATIVE
    return picture


def save_overlays(
    file: Path,
    *,
    image: np.ndarray,
    reference: np.ndarray,
    predictions: Mapping[str, np.ndarray],
) -> None:
    """Save one axial slice: the image, and each prediction over it.

    Args:
        file: PNG file to write.
        image: Intensities, shape ``(X, Y, Z)`` in RAS order.
        reference: Reference lesions, > 0, same shape.
        predictions: Name and predicted lesions, > 0, of every model.
    """
    # not pyplot: it would look for a screen
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    index = slice_to_show(reference)
    height, width = image.shape[1], image.shape[0]
    columns = len(predictions) + 1
    figure = Figure(figsize=(3 * columns, 3 * height / width + 0.9), facecolor="black")
    FigureCanvasAgg(figure)
    nothing = np.zeros_like(reference)
    panels = {"image": (nothing, nothing)} | {
        f"{name.replace('_', ' ')}, DSC {dice(mask, reference):.2f}": (mask, reference)
        for name, mask in predictions.items()
    }
    for position, (title, (mask, truth)) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, columns, position)
        # rows from anterior to posterior, columns from the right to the left side
        planes = [
            np.rot90(volume[:, :, index])[:, ::-1] for volume in (image, mask, truth)
        ]
        axes.imshow(color_overlay(*planes), interpolation="nearest")
        axes.set_title(title, color="white", fontsize=11)
        axes.set_axis_off()
    figure.legend(
        handles=[
            Patch(color=TRUE_POSITIVE, label="true positive"),
            Patch(color=FALSE_POSITIVE, label="false positive"),
            Patch(color=FALSE_NEGATIVE, label="false negative"),
        ],
        loc="lower center",
        ncols=3,
        frameon=False,
        labelcolor="white",
    )
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.1, top=0.92, wspace=0.03)
    figure.savefig(file, dpi=110)
