"""Draws the lesions of every case, for the page and as files.

A lesion is shown in four panels: three planes through it, cropped to a square around
it, and the *locator*, the whole axial slice with a frame where the first panel is. True
positive is filled, false positive hatched, false negative dashed, so that they differ
by more than color.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from nnunet_cel.files import write_whole
from nnunet_cel.pictures import (
    AGREEMENT_COLORS,
    Outline,
    Panel,
    cut_slice,
    draw_background,
    draw_outlines,
    draw_sheet,
    to_gray,
)
from nnunet_cel.report.results import FN, FP, TP, LabelMaps, read_agreement
from nnunet_cel.resampling import box_around, to_ras
from nnunet_cel.scans import pair_images
from nnunet_cel.volumes import Array, Volume, check_same_grid, read_volume

__all__ = [
    "choose_channel",
    "choose_lesions",
    "cut_panels",
    "describe_lesion",
    "draw_case",
]

_LEAST_MM = 48.0  # edge of a panel
_AROUND_MM = 20.0  # more than the lesion's extent
_MARGIN_MM = 4.0  # around the head
_MARKS = {"missed": "\u25cb", "false": "\u25b2", "hit": "\u25cf"}
_SHOWN = {"reference missed": 0, "prediction false": 1, "reference hit": 2}
_VALUES = {"reference": (TP, FN), "prediction": (TP, FP)}
# Fills are strong, because lesions that enhance are bright themselves.
_LOOKS: dict[str, dict[str, Any]] = {
    "true positive": {"fill": 0.68},
    "false positive": {"fill": 0.22, "hatched": True},
    "false negative": {"fill": 0.45, "dashed": True},
}


def choose_channel(
    folder: Path | None, cases: Sequence[str], channel: int
) -> dict[str, Path]:
    """Return the image of each case that is shown, none without a folder.

    An image without a number, ``CASE.nii.gz``, is taken for any channel.

    Raises:
        OSError: If there is no such folder.
        ValueError: If a case has no such image; the message lists all of them.
    """
    if folder is None:
        return {}
    number = f"{channel:04d}"
    images = pair_images(folder, cases)
    missing = [case for case in cases if not {number, ""} & set(images[case])]
    if missing:
        raise ValueError(
            f"The folder {folder} must have the channel {number} of every case. It "
            f"lacks that of {', '.join(missing)}: choose another one with --channel."
        )
    return {case: images[case].get(number) or images[case][""] for case in cases}


def choose_lesions(
    lesions: pd.DataFrame, limit: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the lesions of a case to be shown, and the others.

    Missed ones come first, then false, then hit ones. If there are too many, each kind
    gets its share, the largest first. Predicted hits are none of either, because the
    reference lesions that they hit show them.

    Args:
        lesions: Rows of ``lesions.csv`` of one case.
        limit: How many at most.
    """
    kind = (lesions["map"] + " " + lesions["status"]).map(_SHOWN)
    ordered = (
        lesions.assign(kind=kind)
        .dropna(subset="kind")
        .sort_values(["kind", "voxels", "lesion"], ascending=[True, False, True])
    )
    rank = ordered.groupby("kind").cumcount().rank(method="first")
    return ordered[rank <= limit], ordered[rank > limit]


def draw_case(
    folder: Path, per_case: int, task: tuple[LabelMaps, Path | None, pd.DataFrame]
) -> dict[str, Any]:
    """Draw lesions of a case, write their files, and return what the page shows.

    These are `lesions`, and how many of each status are `hidden`.

    Args:
        folder: Folder to write to, which exists.
        per_case: Most lesions that are shown.
        task: The label maps; the image, None for pictures on black; the rows of
            ``lesions.csv``.

    Raises:
        ValueError: If a file cannot be read, does not match or was changed.
    """
    maps, path, lesions = task
    agreement, image = read_agreement(maps), None
    if path is not None:
        image = read_volume(path)
        check_same_grid(f"The image {path}", image, agreement)
    shown, hidden = choose_lesions(lesions, per_case)
    views, drawn = cut_panels(image, agreement, shown), []
    for row, panels in zip(shown.to_dict("records"), views, strict=True):
        title = f"{row['map']} {row['lesion']}, {row['status']}"
        text = describe_lesion(row)
        sheet = draw_sheet([panels], title=f"{maps.case}: {title}, {text}")
        write_whole(folder / f"{maps.case}_{row['map']}_{row['lesion']}.png", sheet)
        pictures = [
            {
                "name": panel.name,
                "below": _address(draw_background(panel).convert("L"), "JPEG"),
                "above": _address(draw_outlines(panel), "PNG"),
            }
            for panel in panels
        ]
        title = f"{_MARKS[row['status']]} {title.capitalize()}"
        drawn.append({"title": title, "text": text, "panels": pictures})
    counts = hidden["status"].value_counts(sort=False).to_dict()
    return {"lesions": drawn, "hidden": counts}


def describe_lesion(row: Mapping[str, Any]) -> str:
    """Return size and probability of a lesion as text."""
    text = f"{row['volume_mm3']:.0f} mm\u00b3, {int(row['voxels'])} voxels"
    highest = row.get("max_probability", math.nan)
    if math.isnan(highest):
        return text
    mean = row["mean_probability"]
    return f"{text}, probability up to {highest:.2f} (mean {mean:.2f})"


def cut_panels(
    image: Volume | None, agreement: Volume, lesions: pd.DataFrame
) -> list[list[Panel]]:
    """Return axial, coronal and sagittal panel and locator of each lesion.

    Args:
        image: The image, None for a dark background.
        agreement: Agreement of prediction and reference, on the image's grid.
        lesions: Rows of ``lesions.csv``.
    """
    turned = to_ras(agreement)
    gray = np.zeros_like(turned.voxels)
    if image is not None:
        gray = to_gray(to_ras(image).voxels)
    to_turned = np.linalg.inv(turned.affine) @ agreement.affine
    # Air around the head only makes the locator smaller.
    area = box_around(gray if gray.any() else gray + 1, turned.spacing, _MARGIN_MM)
    ends = np.array([(part.start, part.stop) for part in area])
    head, wide = ends.mean(axis=1) - 0.5, np.ptp(ends, axis=1) * turned.spacing
    views = []
    for row in lesions.to_dict("records"):
        places = [
            [row[name.format(axis)] for axis in "xyz"] + [1]
            for name in ("box_{}_first", "box_{}_last", "centroid_{}")
        ]
        *corners, center = (to_turned @ np.transpose(places))[:3].T
        first, last = np.rint(np.sort(corners, axis=0)).astype(int)
        box = tuple(map(slice, first, last + 1))
        found = np.argwhere(np.isin(turned.voxels[box], _VALUES[row["map"]])) + first
        if len(found):  # the center itself lies outside rings and bows
            distance = np.linalg.norm((found - center) * turned.spacing, axis=1)
            center = found[np.argmin(distance)]
        size = float(((last - first + 1) * turned.spacing).max())
        center, edge = np.rint(center).astype(int), max(_LEAST_MM, size + _AROUND_MM)
        panels = [_cut(gray, turned, axis, center, center, edge) for axis in (2, 1, 0)]
        whole = _cut(gray, turned, 2, center, head, float(wide[:2].max()))
        top, left = panels[0].corner
        frame = (left, top, edge)
        views.append([*panels, whole._replace(name="whole slice", frame=frame)])
    return views


def _cut(
    gray: Array, turned: Volume, axis: int, center: Array, middle: Array, edge: float
) -> Panel:
    """Return the panel of the slice through a voxel, with another one in its middle.

    Both are in RAS order, as are gray and agreement.
    """
    across, up = (other for other in range(3) if other != axis)
    shape, spacing = gray.shape, turned.spacing
    plane = ("sagittal", "coronal", "axial")[axis]
    position = round((turned.affine @ [*center, 1])[axis])
    cut = cut_slice(turned.voxels, axis, center[axis])
    return Panel(
        name=f"{plane}, {'xyz'[axis]} = {position} mm".replace("-", "\u2212"),
        gray=cut_slice(gray, axis, center[axis]),
        size=(spacing[up], spacing[across]),
        edge=edge,
        middle=(
            (shape[up] - middle[up] - 0.5) * spacing[up],
            (shape[across] - middle[across] - 0.5) * spacing[across],
        ),
        outlines=[
            Outline(cut == value, AGREEMENT_COLORS[kind], **look)
            for value, (kind, look) in enumerate(_LOOKS.items(), start=TP)
        ],
        sides=("A", "P") if axis == 0 else ("R", "L"),
    )


def _address(picture: Image.Image, kind: str) -> str:
    """Return a picture as address of an image."""
    stream = io.BytesIO()
    picture.save(stream, kind, quality=70, optimize=True)
    content = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{content}"
