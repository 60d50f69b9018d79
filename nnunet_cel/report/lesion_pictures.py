"""Draws views of lesions as SVG and PNG.

True positive is filled red, false positive green and hatched with a solid outline,
false negative yellow with a dashed outline, so that they differ by more than color.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from nnunet_cel.pictures import AGREEMENT_COLORS
from nnunet_cel.report.agreement import KINDS
from nnunet_cel.report.lesion_views import LesionView, Panel
from nnunet_cel.report.rendering import environment
from nnunet_cel.report.style import AGREEMENT_OPACITY

__all__ = [
    "STATUS_MARKS",
    "describe_lesion",
    "draw_png",
    "draw_svg",
    "panel_context",
]

Array = npt.NDArray[Any]

STATUS_MARKS = {"hit": "\u25cf", "missed": "\u25cb", "false": "\u25b2"}
"""A sign for each status, so that color is not needed to tell them apart."""

_CROP_PIXELS = 112
_SLICE_PIXELS = 144
_QUALITY = 86
_SCALE_MM = 10
_EDGE, _GAP, _HEAD, _FOOT = 240, 8, 34, 24  # of the PNG file, in pixels
_TEXT, _FAINT, _BACKGROUND = (215, 220, 226), (139, 148, 158), (11, 13, 16)


def describe_lesion(row: dict[str, Any]) -> str:
    """Return size and probability of a lesion as text."""
    text = f"{row['volume_mm3']:.0f} mm\u00b3, {int(row['voxels'])} voxels"
    highest = row.get("max_probability", math.nan)
    if math.isnan(highest):
        return text
    return (
        f"{text}, probability up to {highest:.2f} (mean {row['mean_probability']:.2f})"
    )


def panel_context(panel: Panel) -> dict[str, Any]:
    """Return what the template needs to draw a panel; lengths are in mm."""
    height, width = panel.extent
    left, top = (width - panel.edge) / 2, (height - panel.edge) / 2
    return {
        "title": panel.title,
        "sides": panel.sides,
        "left": left,
        "top": top,
        "edge": panel.edge,
        "width": width,
        "height": height,
        "frame": panel.frame,
        "scale": _SCALE_MM if panel.frame is None else None,
        "image": _jpeg(panel) if panel.gray.any() else None,
        "kinds": [
            {
                "name": name,
                "fill": _fill_path(panel.agreement == value, panel.size),
                "outline": _outline_path(panel.agreement == value, panel.size),
            }
            for value, name in enumerate(KINDS, start=1)
            if (panel.agreement == value).any()
        ],
    }


def draw_svg(panels: Sequence[dict[str, Any]], title: str) -> str:
    """Return the SVG file of a view.

    Args:
        panels: What :func:`panel_context` returned for each panel.
        title: What stands above them.
    """
    template = environment().get_template("lesion.svg")
    return template.render(
        panels=panels,
        title=title,
        colors=AGREEMENT_COLORS,
        opacity=AGREEMENT_OPACITY,
    )


def draw_png(view: LesionView, title: str) -> bytes:
    """Return the PNG file of a view.

    Args:
        view: The view.
        title: What stands above it.
    """
    panels = (*view.panels, view.locator)
    size = (len(panels) * (_EDGE + _GAP) + _GAP, _HEAD + _EDGE + _FOOT)
    picture = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP, 8), title, fill=_TEXT, font=_font(15))
    for number, panel in enumerate(panels):
        left = _GAP + number * (_EDGE + _GAP)
        picture.paste(_draw_panel(panel), (left, _HEAD))
        place = (left, _HEAD + _EDGE + 4)
        draw.text(place, panel.title, fill=_FAINT, font=_font(12))
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=6)
    return stream.getvalue()


def _draw_panel(panel: Panel) -> Image.Image:
    """Return a panel in pixels."""
    step = _EDGE / panel.edge
    height, width = panel.extent
    left, top = (width - panel.edge) / 2, (height - panel.edge) / 2
    whole = (max(1, round(width * step)), max(1, round(height * step)))
    gray = Image.fromarray(panel.gray).resize(whole, Image.Resampling.BICUBIC)
    picture = Image.new("RGB", (_EDGE, _EDGE), (0, 0, 0))
    picture.paste(gray, (round(-left * step), round(-top * step)))
    _draw_agreement(picture, _pixels_of_agreement(panel, left, top))
    draw = ImageDraw.Draw(picture)
    outlined = partial(draw.text, fill=_TEXT, stroke_width=1, stroke_fill=_BACKGROUND)
    if panel.frame is not None:
        x, y = (panel.frame[0] - left) * step, (panel.frame[1] - top) * step
        size = panel.frame[2] * step
        draw.rectangle((x, y, x + size, y + size), outline=_TEXT)
    else:
        end = 10 + _SCALE_MM * step
        draw.line((10, _EDGE - 10, end, _EDGE - 10), fill=_TEXT, width=2)
        outlined((10, _EDGE - 27), f"{_SCALE_MM} mm", font=_font(11))
    outlined((6, 4), panel.sides[0], font=_font(12))
    outlined((_EDGE - 6, 4), panel.sides[1], font=_font(12), anchor="ra")
    return picture


def _pixels_of_agreement(panel: Panel, left: float, top: float) -> Array:
    """Return the agreement at each pixel of a panel whose corner lies there in mm."""
    pixels = (np.arange(_EDGE) + 0.5) * panel.edge / _EDGE
    found = panel.agreement
    for axis, start in enumerate((top, left)):
        voxels = np.floor((pixels + start) / panel.size[axis]).astype(int)
        inside = (voxels >= 0) & (voxels < found.shape[axis])
        found = found.take(voxels.clip(0, found.shape[axis] - 1), axis=axis)
        found = found * (inside[:, None] if axis == 0 else inside)
    return np.asarray(found)


def _draw_agreement(picture: Image.Image, values: Array) -> None:
    """Draw agreement over a picture of the same size."""
    rows, columns = np.indices(values.shape)
    for value, name in enumerate(KINDS, start=1):
        mask = values == value
        opacity = np.where(mask, AGREEMENT_OPACITY[name], 0)
        if name == "fp":
            opacity[mask & ((rows + columns) % 6 < 1.5)] = 0.9
        if name != "tp":
            edge = mask & ~_eroded(mask)
            if name == "fn":
                edge &= (rows + columns) // 4 % 2 == 0
            opacity[edge] = 1
        solid = Image.new("RGB", picture.size, AGREEMENT_COLORS[name])
        picture.paste(solid, mask=Image.fromarray((opacity * 255).astype(np.uint8)))


def _eroded(mask: Array) -> Array:
    """Return the pixels whose four neighbors are in the mask, too."""
    padded = np.pad(mask, 1)
    inner = mask & padded[2:, 1:-1] & padded[:-2, 1:-1]
    return np.asarray(inner & padded[1:-1, 2:] & padded[1:-1, :-2])


@lru_cache
def _font(size: int) -> Any:
    """Return matplotlib's font, which knows most alphabets."""
    path = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), size)


def _jpeg(panel: Panel) -> str:
    """Return the gray values as a data address.

    Small panels are enlarged smoothly, because browsers do it less well, and whole
    slices are made smaller.
    """
    height, width = panel.extent
    pixels = _CROP_PIXELS if panel.frame is None else _SLICE_PIXELS
    step = pixels / max(height, width)
    size = (max(1, round(width * step)), max(1, round(height * step)))
    gray = Image.fromarray(panel.gray).resize(size, Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    gray.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _runs(mask: Array) -> list[tuple[int, int, int]]:
    """Return row, first column and end of every run of True in the rows of a mask."""
    padded = np.pad(mask, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)
    return list(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True))


def _fill_path(mask: Array, size: tuple[float, float]) -> str:
    """Return an SVG path that covers the voxels of a mask."""
    dy, dx = size
    return "".join(
        f"M{start * dx:.4g} {row * dy:.4g}h{(end - start) * dx:.4g}v{dy:.4g}"
        f"h{(start - end) * dx:.4g}z"
        for row, start, end in _runs(mask)
    )


def _outline_path(mask: Array, size: tuple[float, float]) -> str:
    """Return an SVG path along the borders of a mask."""
    dy, dx = size
    rows = np.diff(np.pad(mask, ((1, 1), (0, 0))).astype(np.int8), axis=0) != 0
    columns = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1) != 0
    across = "".join(
        f"M{start * dx:.4g} {row * dy:.4g}h{(end - start) * dx:.4g}"
        for row, start, end in _runs(rows)
    )
    down = "".join(
        f"M{column * dx:.4g} {start * dy:.4g}v{(end - start) * dy:.4g}"
        for column, start, end in _runs(columns.T)
    )
    return across + down
