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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from nnunet_cel.files import write_whole
from nnunet_cel.parallel import try_cases
from nnunet_cel.pictures import (
    AGREEMENT_COLORS,
    PANEL,
    Outline,
    Panel,
    cut_slice,
    draw_background,
    draw_outlines,
    draw_panel,
    draw_sheet,
    to_gray,
)
from nnunet_cel.report.results import FN, FP, TP, LabelMaps, Results, read_agreement
from nnunet_cel.resampling import box_around, to_ras
from nnunet_cel.scans import pair_images
from nnunet_cel.volumes import Volume, check_same_grid, read_volume

__all__ = [
    "CasePictures",
    "choose_channel",
    "choose_lesions",
    "cut_panels",
    "describe_lesion",
    "draw_legend",
    "draw_pictures",
    "pictures_per_case",
]

Array = npt.NDArray[Any]

_PER_CASE, _LEAST = 6, 2
_IN_ALL = 600  # pictures, so that the page can be sent by mail
_QUALITY = 70  # of the JPEG below the outlines
_LEAST_MM = 48.0  # edge of a panel
_AROUND_MM = 20.0  # more than the lesion's extent
_MARGIN_MM = 4.0  # around the head
_SCALE_MM = 10
_MARKS = {"hit": "\u25cf", "missed": "\u25cb", "false": "\u25b2"}
_SHOWN = [("reference", "missed"), ("prediction", "false"), ("reference", "hit")]
_VALUES = {"reference": (TP, FN), "prediction": (TP, FP)}
# Fills are strong, because lesions that enhance are bright themselves.
_LOOKS: dict[str, dict[str, Any]] = {
    "tp": {"fill": 0.68, "line": False},
    "fp": {"fill": 0.22, "hatched": True},
    "fn": {"fill": 0.45, "dashed": True},
}


@dataclass(frozen=True)
class CasePictures:
    """The pictures of a case.

    Args:
        lesions: What the template needs for each lesion that is shown.
        more: What is said of those that are not shown, empty if all are.
    """

    lesions: Sequence[Mapping[str, Any]] = ()
    more: str = ""


def pictures_per_case(cases: int) -> int:
    """Return how many lesions of each case are shown where nobody says it.

    These are 6, and fewer where there are more than 100 cases, at least 2.
    """
    return min(_PER_CASE, max(_LEAST, _IN_ALL // cases))


def choose_channel(
    folder: Path | None, cases: Sequence[str], channel: int
) -> dict[str, Path]:
    """Return the image of each case that is shown.

    Args:
        folder: Folder with ``CASE_0000.nii.gz`` and so on, or ``CASE.nii.gz``; None for
            no images.
        cases: Names of the cases.
        channel: Number of the channel.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a case has no such image; the message lists all of them.
    """
    if folder is None:
        return {}
    images = pair_images(folder, cases)
    number = f"{channel:04d}"
    missing = [case for case, found in images.items() if not {number, ""} & set(found)]
    if missing:
        raise ValueError(
            f"The folder {folder} must have the channel {number} of every case. It "
            f"lacks that of {', '.join(missing)}: choose another one with --channel."
        )
    return {case: found.get(number) or found[""] for case, found in images.items()}


def choose_lesions(lesions: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return the lesions of a case to be shown: missed, then false, then hit ones.

    If there are too many, each kind gets its share, the largest first. Predicted hits
    are left out, because the reference lesions that they hit show them.

    Args:
        lesions: Rows of ``lesions.csv`` of one case.
        limit: How many at most.
    """
    places = {pair: place for place, pair in enumerate(_SHOWN)}
    pairs = zip(lesions["map"], lesions["status"], strict=True)
    kinds = np.array([places.get(pair, -1) for pair in pairs], dtype=int)
    ordered = lesions.assign(kind=kinds)[kinds >= 0].sort_values(
        ["kind", "voxels", "lesion"], ascending=[True, False, True], kind="stable"
    )
    turn = ordered.groupby("kind").cumcount()
    first = turn.sort_values(kind="stable").index[:limit]
    return ordered[ordered.index.isin(first)].drop(columns="kind")


def draw_pictures(
    results: Results,
    maps: Mapping[str, LabelMaps],
    images: Mapping[str, Path],
    folder: Path,
    *,
    per_case: int,
    processes: int = 1,
    description: str | None = None,
) -> dict[str, CasePictures]:
    """Draw lesions of all cases, and write their files to a folder.

    Args:
        results: The results of the evaluation.
        maps: The label maps of each case.
        images: The image of each case, empty for pictures on black.
        folder: Folder to write to, which exists.
        per_case: Most lesions that are shown of a case.
        processes: Number of processes.
        description: Title of a progress bar, None for no bar.

    Raises:
        ValueError: If files cannot be read, do not match or were changed; the message
            lists all of them.
    """
    of_case = dict(list(results.lesions.groupby("case")))
    nothing = results.lesions.iloc[:0]
    tasks = [
        (maps[case], images.get(case), of_case.get(case, nothing)) for case in maps
    ]
    label, ignore = results.summary["label"], results.summary["ignore_label"]
    drawn = try_cases(
        partial(_draw_case, folder, per_case, label, ignore),
        tasks,
        processes=processes,
        description=description,
    )
    return dict(zip(maps, drawn, strict=True))


def _draw_case(
    folder: Path,
    per_case: int,
    label: int,
    ignore: int | None,
    task: tuple[LabelMaps, Path | None, pd.DataFrame],
) -> CasePictures:
    """Draw the pictures of a case and return what the page needs."""
    maps, path, lesions = task
    agreement = read_agreement(maps, label=label, ignore=ignore)
    image = None
    if path is not None:
        image = read_volume(path)
        check_same_grid(f"The image {path}", image, agreement)
    everything = choose_lesions(lesions, len(lesions))
    shown = choose_lesions(lesions, per_case)
    views = cut_panels(image, agreement, shown)
    drawn = []
    for row, panels in zip(shown.to_dict("records"), views, strict=True):
        title, text = f"{row['map']} {row['lesion']}", describe_lesion(row)
        title = f"{title}, {row['status']}"
        sheet = draw_sheet([panels], title=f"{maps.case}: {title}, {text}")
        write_whole(folder / f"{maps.case}_{row['map']}_{row['lesion']}.png", sheet)
        drawn.append(
            {
                "sign": _MARKS[row["status"]],
                "title": title.capitalize(),
                "text": text,
                "panels": [
                    {
                        "name": panel.name,
                        "below": _address(draw_background(panel).convert("L"), "JPEG"),
                        "above": _address(draw_outlines(panel), "PNG"),
                    }
                    for panel in panels
                ],
            }
        )
    return CasePictures(drawn, _say_more(everything, shown))


def _say_more(everything: pd.DataFrame, shown: pd.DataFrame) -> str:
    """Return what is said of lesions that are not shown."""
    hidden = everything.drop(index=shown.index)
    if hidden.empty:
        return ""
    counts = hidden["status"].value_counts(sort=False)  # missed, false, hit
    kinds = ", ".join(f"{count} {status}" for status, count in counts.items())
    return (
        f"{len(hidden)} more of {len(everything)} lesions are not shown: {kinds}. "
        "All are in tables/lesions.csv."
    )


def describe_lesion(row: Mapping[str, Any]) -> str:
    """Return size and probability of a lesion as text."""
    text = f"{row['volume_mm3']:.0f} mm\u00b3, {int(row['voxels'])} voxels"
    highest = row.get("max_probability", math.nan)
    if math.isnan(highest):
        return text
    return (
        f"{text}, probability up to {highest:.2f} (mean {row['mean_probability']:.2f})"
    )


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
    head = ends.mean(axis=1) - 0.5
    wide = float((np.diff(ends)[:2, 0] * turned.spacing[:2]).max())
    views = []
    for row in lesions.to_dict("records"):
        center = np.rint((to_turned @ [*_center(row, agreement), 1])[:3]).astype(int)
        # The box has the axes of the file, so the largest extent serves for all.
        voxels = max(row[f"box_{a}_last"] - row[f"box_{a}_first"] + 1 for a in "xyz")
        edge = max(_LEAST_MM, voxels * max(turned.spacing) + _AROUND_MM)
        panels = [
            _cut(gray, turned, axis, center, center, edge=edge, scale=_SCALE_MM)
            for axis in (2, 1, 0)
        ]
        top, left = panels[0].corner
        locator = _cut(
            gray, turned, 2, center, head, edge=wide, frame=(left, top, edge)
        )
        views.append([*panels, locator])
    return views


def _center(row: Mapping[str, Any], agreement: Volume) -> Array:
    """Return the voxel of the lesion that is nearest to its center.

    The center itself lies outside lesions that are rings or bows.
    """
    first = np.array([row[f"box_{axis}_first"] for axis in "xyz"], dtype=int)
    box = tuple(
        slice(start, int(row[f"box_{axis}_last"]) + 1)
        for axis, start in zip("xyz", first, strict=True)
    )
    center = np.array([row[f"centroid_{axis}"] for axis in "xyz"])
    found = np.argwhere(np.isin(agreement.voxels[box], _VALUES[row["map"]])) + first
    if not len(found):
        return center
    distance = np.linalg.norm((found - center) * agreement.spacing, axis=1)
    return np.asarray(found[np.argmin(distance)])


def _cut(
    gray: Array, turned: Volume, axis: int, center: Array, middle: Array, **more: Any
) -> Panel:
    """Return the panel of the slice through a voxel, with another one in its middle.

    Both are in RAS order, as are gray and agreement.
    """
    across, up = (other for other in range(3) if other != axis)
    shape, spacing = gray.shape, turned.spacing
    plane = ("sagittal", "coronal", "axial")[axis]
    position = round((turned.affine @ [*center, 1])[axis])
    name = f"{plane}, {'xyz'[axis]} = {position} mm".replace("-", "\u2212")
    cut = cut_slice(turned.voxels, axis, center[axis])
    return Panel(
        name="whole slice" if "frame" in more else name,
        gray=cut_slice(gray, axis, center[axis]),
        size=(spacing[up], spacing[across]),
        middle=(
            (shape[up] - middle[up] - 0.5) * spacing[up],
            (shape[across] - middle[across] - 0.5) * spacing[across],
        ),
        outlines=[
            Outline(cut == value, AGREEMENT_COLORS[kind], **look)
            for value, (kind, look) in enumerate(_LOOKS.items(), start=TP)
        ],
        sides=("A", "P") if axis == 0 else ("R", "L"),
        **more,
    )


def draw_legend() -> dict[str, str]:
    """Return a sample of each kind of voxel, as address of an image."""
    mask = np.pad(np.ones((24, 39), dtype=bool), 3)
    gray = np.full(mask.shape, 119, dtype=np.uint8)
    samples = {}
    for kind, look in _LOOKS.items():
        outlines = [Outline(mask, AGREEMENT_COLORS[kind], **look)]
        # A voxel for each pixel, in the upper left corner of the panel.
        panel = Panel(kind, gray, (1, 1), PANEL, (PANEL / 2, PANEL / 2), outlines)
        samples[kind] = _address(draw_panel(panel).crop((0, 0, 45, 30)), "PNG")
    return samples


def _address(picture: Image.Image, kind: str) -> str:
    """Return a picture as address of an image."""
    stream = io.BytesIO()
    picture.save(stream, kind, quality=_QUALITY, optimize=True)
    content = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{content}"
