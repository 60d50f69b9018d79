"""Draws slices of scans with outlines: the one renderer of all such pictures.

A *slice* is a plane of a volume as it is looked at: the patient's right side, and the
front in sagittal slices, are on the left. A *panel* is a square of pixels that shows a
slice or a part of it, a *sheet* has panels in rows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from nnunet_cel.files import write_whole
from nnunet_cel.resampling import to_ras
from nnunet_cel.volumes import Array, read_volume

__all__ = [
    "AGREEMENT_COLORS",
    "PANEL",
    "Outline",
    "Panel",
    "cut_slice",
    "draw_background",
    "draw_outlines",
    "draw_sheet",
    "save_overlays",
    "to_gray",
]

PANEL = 240
"""Edge of a panel in pixels."""

AGREEMENT_COLORS = {
    "true positive": "#e61a1a",
    "false positive": "#1abf33",
    "false negative": "#ffe61a",
}
"""Color of each kind of voxel of a prediction, as in Figure 7 of the paper."""

_BAR = 10  # length of the bar in mm
_BRIGHT = 99.5  # percentile of the intensities that is white
_GAP, _HEAD, _NAME, _FOOT = 8, 34, 24, 24  # of a sheet, in pixels
_TEXT, _FAINT, _BACKGROUND = "#d7dce2", "#8b949e", "#0b0d10"


class Outline(NamedTuple):
    """How the voxels of a mask are drawn on a slice.

    Args:
        mask: The voxels, booleans, shape (H, W).
        color: Their color, ``#rrggbb``.
        fill: Opacity of the color inside of the line around them, from 0 to 1.
        dashed: Whether that line is dashed.
        hatched: Whether the inside is hatched.
    """

    mask: Array
    color: str
    fill: float = 0
    dashed: bool = False
    hatched: bool = False


class Panel(NamedTuple):
    """A slice, and what is seen of it.

    Args:
        name: What stands below it.
        gray: Brightness, uint8, shape (H, W).
        size: Height and width of a voxel in mm.
        edge: Edge of the square that is shown, in mm.
        middle: Its middle in mm from the top and from the left of the slice; None for
            the middle of the slice.
        outlines: What is drawn over it, the last one on top.
        sides: Letters of the left and of the right edge.
        frame: Left, top and edge in mm of a square frame, None without one.
    """

    name: str
    gray: Array
    size: tuple[float, float]
    edge: float
    middle: tuple[float, float] | None = None
    outlines: Sequence[Outline] = ()
    sides: tuple[str, str] = ("R", "L")
    frame: tuple[float, float, float] | None = None

    @property
    def corner(self) -> tuple[float, float]:
        """Top and left of the square that is shown, in mm."""
        height, width = self.gray.shape
        middle = self.middle or (height * self.size[0] / 2, width * self.size[1] / 2)
        return middle[0] - self.edge / 2, middle[1] - self.edge / 2


def cut_slice(voxels: Array, axis: int, index: int) -> Array:
    """Return a slice of voxels in RAS order, as it is looked at."""
    return np.ascontiguousarray(voxels.take(index, axis=axis).T[::-1, ::-1])


def to_gray(voxels: Array, inside: Array | None = None) -> Array:
    """Return intensities as gray from 0 to 255, uint8.

    Black is 0 or the smallest one; white is a high percentile of those above it.

    Args:
        voxels: Intensities; what is not finite is drawn as 0.
        inside: Mask of the voxels whose intensities decide, None for all.
    """
    values = np.nan_to_num(voxels.astype(np.float32), posinf=0, neginf=0)
    low = min(float(values.min()), 0.0)
    deciding = values if inside is None else values[inside > 0]
    deciding = deciding[deciding > low]
    high = float(np.percentile(deciding, _BRIGHT)) if deciding.size else low + 1
    scaled = (values - low) / max(high - low, 1e-6)
    return np.asarray(np.clip(scaled, 0, 1) * 255, dtype=np.uint8)


def draw_background(panel: Panel) -> Image.Image:
    """Return what lies below the outlines, RGB: the slice, sides, bar and frame."""
    picture = _enlarge(panel.gray, panel, Image.Resampling.BICUBIC).convert("RGB")
    step, (top, left) = PANEL / panel.edge, panel.corner
    draw = ImageDraw.Draw(picture)
    look: dict[str, Any] = {"stroke_width": 1, "stroke_fill": _BACKGROUND}
    write: Any = partial(draw.text, fill=_TEXT, font=_font(12), **look)
    if panel.frame is not None:
        x, y, size = np.subtract(panel.frame, (left, top, 0)) * step
        draw.rectangle((x, y, x + size, y + size), outline=_TEXT)
    draw.line((10, PANEL - 10, 10 + _BAR * step, PANEL - 10), fill=_TEXT, width=2)
    write((10, PANEL - 27), f"{_BAR} mm")
    write((6, 4), panel.sides[0])
    write((PANEL - 6, 4), panel.sides[1], anchor="ra")
    return picture


def draw_outlines(panel: Panel) -> Image.Image:
    """Return the outlines of a panel alone, RGBA, transparent elsewhere."""
    picture = Image.new("RGBA", (PANEL, PANEL))
    diagonal = np.add(*np.indices((PANEL, PANEL)))
    for outline in panel.outlines:
        cut = _enlarge(outline.mask.astype(np.uint8), panel, Image.Resampling.NEAREST)
        mask = np.asarray(cut) > 0
        opacity = np.where(mask, outline.fill, 0)
        if outline.hatched:
            opacity[mask & (diagonal % 6 < 2)] = 0.9
        dashes = diagonal // 4 % 2 == 0 if outline.dashed else True
        opacity[mask & ~binary_erosion(mask) & dashes] = 1
        layer = Image.new("RGBA", picture.size, ImageColor.getrgb(outline.color))
        layer.putalpha(Image.fromarray((opacity * 255).astype(np.uint8)))
        picture.alpha_composite(layer)
    return picture


def draw_sheet(
    rows: Sequence[Sequence[Panel]],
    *,
    title: str,
    facts: str = "",
    legend: Mapping[str, str] | None = None,
) -> bytes:
    """Return the PNG file of a sheet.

    Args:
        rows: The panels of each row.
        title: What stands above them.
        facts: What stands above them at the right.
        legend: What each color means: text and color.
    """
    width = max(len(row) for row in rows) * (PANEL + _GAP) + _GAP
    height = _HEAD + len(rows) * (PANEL + _NAME) + (_FOOT if legend else 0)
    picture, font = Image.new("RGB", (width, height), _BACKGROUND), _font(12)
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP, 8), title, fill=_TEXT, font=_font(15))
    draw.text((width - _GAP, 10), facts, fill=_FAINT, font=font, anchor="ra")
    for line, row in enumerate(rows):
        for column, panel in enumerate(row):
            x, y = _GAP + column * (PANEL + _GAP), _HEAD + line * (PANEL + _NAME)
            outlines = draw_outlines(panel)
            picture.paste(draw_background(panel), (x, y))
            picture.paste(outlines, (x, y), outlines)
            draw.text((x, y + PANEL + 4), panel.name, fill=_FAINT, font=font)
    end = float(_GAP)
    for text, color in (legend or {}).items():
        draw.text((end, height - _FOOT + 2), text, fill=color, font=font)
        end += font.getlength(text) + 3 * _GAP
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def save_overlays(
    file: Path, *, image: Path, reference: Path, predictions: Mapping[str, Path]
) -> None:
    """Save the axial slice with most of the lesions, and each prediction over it.

    Args:
        file: PNG file to write.
        image: The image of the case.
        reference: Its reference; lesions are > 0.
        predictions: Name and prediction of every model, likewise.
    """
    scan, true = to_ras(read_volume(image)), to_ras(read_volume(reference)).voxels > 0
    area = true.sum(axis=(0, 1))
    index = int(area.argmax()) if area.any() else true.shape[2] // 2
    gray, (x, y, _) = cut_slice(to_gray(scan.voxels), 2, index), scan.spacing
    edge = max(gray.shape[0] * y, gray.shape[1] * x)
    panels = [Panel("image", gray, size=(y, x), edge=edge)]
    for name, path in predictions.items():
        mask = to_ras(read_volume(path)).voxels > 0
        kinds = (mask & true, mask & ~true, ~mask & true)
        total = int(mask.sum()) + int(true.sum())
        dice = 2 * int(kinds[0].sum()) / total if total else np.nan
        outlines = [
            Outline(cut_slice(kind, 2, index), color, fill=1)
            for kind, color in zip(kinds, AGREEMENT_COLORS.values(), strict=True)
        ]
        title = f"{name.replace('_', ' ')}, DSC {dice:.2f}"
        panels.append(panels[0]._replace(name=title, outlines=outlines))
    write_whole(file, draw_sheet([panels], title="", legend=AGREEMENT_COLORS))


def _enlarge(values: Array, panel: Panel, how: Image.Resampling) -> Image.Image:
    """Return values of the voxels of a slice at the pixels of its panel."""
    top, left = (mm / size for mm, size in zip(panel.corner, panel.size, strict=True))
    height, width = (panel.edge / size for size in panel.size)
    # Whole voxels around the square; what lies beyond the slice becomes 0.
    x, y = math.floor(left), math.floor(top)
    around = (x, y, math.ceil(left + width), math.ceil(top + height))
    box = (left - x, top - y, left + width - x, top + height - y)
    return Image.fromarray(values).crop(around).resize((PANEL, PANEL), how, box=box)


@lru_cache
def _font(size: int) -> Any:
    """Return matplotlib's font, which knows most alphabets."""
    path = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size)
