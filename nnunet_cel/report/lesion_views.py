"""Cuts what is shown of lesions out of the volumes of a case.

Words:

- *view*: what is shown of one lesion: three panels and a locator.
- *panel*: a slice through the lesion in one plane, cropped to a square around it.
- *locator*: the whole axial slice, with a frame where the axial panel is.

The patient's right side, and the front in sagittal slices, are on the left, as
radiologists look at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnunet_cel.report.agreement import FN, FP, TP
from nnunet_cel.resampling import Box, box_around, to_ras
from nnunet_cel.volumes import Volume

__all__ = ["PLANES", "LesionView", "Panel", "choose_lesions", "cut_views"]

Array = npt.NDArray[Any]

PLANES = ("axial", "coronal", "sagittal")
"""The planes of the panels, in their order."""

_AXES = {"axial": 2, "coronal": 1, "sagittal": 0}
_LEAST_MM = 48.0  # edge of a panel
_AROUND_MM = 20.0  # more than the lesion's extent
_MARGIN_MM = 4.0  # around the head
_MINUS = "\u2212"
_BRIGHT = 99.8  # percentile of the intensities that is white
_SHOWN = {
    ("reference", "missed"): 0,
    ("prediction", "false"): 1,
    ("reference", "hit"): 2,
}

_VALUES = {"reference": (TP, FN), "prediction": (TP, FP)}


@dataclass(frozen=True)
class Panel:
    """A slice, as it is looked at: rows from top to bottom, columns from left to right.

    Args:
        title: Name of the plane, and where it is.
        gray: Brightness, uint8, shape (H, W).
        agreement: Agreement of prediction and reference, same shape.
        size: Height and width of a voxel in mm.
        sides: Letters of the left and of the right edge.
        edge: Edge in mm of the square that is shown, in the middle of the slice.
        frame: Left, top and edge in mm of a square frame, None without one.
    """

    title: str
    gray: Array
    agreement: Array
    size: tuple[float, float]
    sides: tuple[str, str]
    edge: float
    frame: tuple[float, float, float] | None = None

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width in mm."""
        height, width = self.gray.shape
        return height * self.size[0], width * self.size[1]


@dataclass(frozen=True)
class LesionView:
    """What is shown of one lesion.

    Args:
        lesion: Its row of ``lesions.csv``.
        panels: Axial, coronal and sagittal panel.
        locator: The whole axial slice.
    """

    lesion: dict[str, Any]
    panels: tuple[Panel, ...]
    locator: Panel


def choose_lesions(lesions: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return the lesions of a case to be shown: missed, then false, then hit ones.

    If there are too many, each kind gets its share, the largest first. Predicted hits
    are left out, because the reference lesions that they hit show them.

    Args:
        lesions: Rows of ``lesions.csv`` of one case.
        limit: How many at most.
    """
    kind = pd.Series(
        [
            _SHOWN.get(pair, -1)
            for pair in zip(lesions["map"], lesions["status"], strict=True)
        ],
        index=lesions.index,
        dtype=int,
    )
    ordered = (
        lesions.assign(kind=kind)[kind >= 0]
        .sort_values(
            ["kind", "voxels", "lesion"], ascending=[True, False, True], kind="stable"
        )
        .assign(turn=lambda table: table.groupby("kind").cumcount())
    )
    chosen = ordered.sort_values(["turn", "kind"], kind="stable").index[:limit]
    return ordered.loc[ordered.index.isin(chosen)].drop(columns=["kind", "turn"])


def cut_views(
    image: Volume | None, agreement: Volume, lesions: pd.DataFrame
) -> list[LesionView]:
    """Return the views of lesions.

    Args:
        image: The image, None for a dark background.
        agreement: Agreement of prediction and reference, on the image's grid.
        lesions: Rows of ``lesions.csv``.
    """
    turned = to_ras(agreement)
    gray = np.zeros_like(turned.voxels)
    if image is not None:
        gray = _brightness(to_ras(image).voxels)
    to_turned = np.linalg.inv(turned.affine) @ agreement.affine
    # Air around the head only makes the locator smaller.
    area = box_around(gray if gray.any() else gray + 1, turned.spacing, _MARGIN_MM)
    return [
        _cut(gray, turned, area, _center(row, agreement, to_turned), row)
        for row in lesions.to_dict("records")
    ]


def _brightness(voxels: Array) -> Array:
    """Return intensities as gray from 0 to 255."""
    values = np.nan_to_num(voxels.astype(np.float32), posinf=0, neginf=0)
    low = min(float(values.min()), 0.0)
    inside = values[values > low]
    high = float(np.percentile(inside, _BRIGHT)) if inside.size else low + 1
    scaled = (values - low) / max(high - low, 1e-6)
    return np.asarray(np.clip(scaled, 0, 1) * 255, dtype=np.uint8)


def _center(row: dict[str, Any], agreement: Volume, to_turned: Array) -> Array:
    """Return the voxel of the lesion that is nearest to its center, in RAS order.

    The center itself lies outside lesions that are rings or bows.
    """
    first, last = (
        np.array([row[f"box_{axis}_{end}"] for axis in "xyz"], dtype=int)
        for end in ("first", "last")
    )
    center = np.array([row[f"centroid_{axis}"] for axis in "xyz"])
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    values = _VALUES[row["map"]]
    found = np.argwhere(np.isin(agreement.voxels[box], values)) + first
    if len(found):
        distance = np.linalg.norm((found - center) * agreement.spacing, axis=1)
        center = found[np.argmin(distance)]
    turned = (to_turned @ [*center, 1])[:3]
    return np.asarray(np.rint(turned).astype(int))


def _cut(
    gray: Array, turned: Volume, area: Box, center: Array, row: dict[str, Any]
) -> LesionView:
    """Return the view of one lesion, with a locator that shows an area."""
    # The axes of the box are the original ones, so the largest extent serves for all.
    extent = max(row[f"box_{a}_last"] - row[f"box_{a}_first"] + 1 for a in "xyz")
    edge = max(_LEAST_MM, extent * max(turned.spacing) + _AROUND_MM)
    position = (turned.affine @ [*center, 1])[:3]
    panels = tuple(
        _slice(gray, turned, center, plane, position, edge) for plane in PLANES
    )
    # Columns run from right to left, rows from front to back.
    left, top = (
        (area[axis].stop - center[axis] - 0.5) * turned.spacing[axis] - edge / 2
        for axis in (0, 1)
    )
    part = (area[0], area[1], center[2])
    locator = Panel(
        title="whole slice",
        gray=np.ascontiguousarray(gray[part].T[::-1, ::-1]),
        agreement=np.ascontiguousarray(turned.voxels[part].T[::-1, ::-1]),
        size=(turned.spacing[1], turned.spacing[0]),
        sides=("R", "L"),
        edge=max(
            (area[axis].stop - area[axis].start) * turned.spacing[axis]
            for axis in (0, 1)
        ),
        frame=(left, top, edge),
    )
    return LesionView(row, panels, locator)


def _slice(
    gray: Array,
    turned: Volume,
    center: Array,
    plane: str,
    position: Array,
    edge: float,
) -> Panel:
    """Return a slice through a voxel, cropped to a square of an edge in mm."""
    axis = _AXES[plane]
    across, up = (other for other in range(3) if other != axis)
    spacing = turned.spacing

    def cut(voxels: Array) -> Array:
        part = voxels.take(center[axis], axis=axis)
        for side, name in enumerate((across, up)):
            half = int(np.ceil(edge / spacing[name] / 2 - 0.5))
            wanted = np.arange(center[name] - half, center[name] + half + 1)
            inside = (wanted >= 0) & (wanted < part.shape[side])
            part = part.take(np.clip(wanted, 0, part.shape[side] - 1), axis=side)
            part = part * (inside[:, None] if side == 0 else inside[None, :])
        return np.ascontiguousarray(part.T[::-1, ::-1])

    return Panel(
        title=f"{plane}, {'xyz'[axis]} = {round(position[axis])} mm".replace(
            "-", _MINUS
        ),
        gray=cut(gray),
        agreement=cut(turned.voxels),
        size=(spacing[up], spacing[across]),
        sides=("A", "P") if plane == "sagittal" else ("R", "L"),
        edge=edge,
    )
