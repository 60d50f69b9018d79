"""Records how an image was prepared, so that predictions can be brought back.

The record is a JSON file for each case. It holds the grid of the original image, which
is enough to restore a label map, also where the original image is not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_cel.files import read_json
from nnunet_cel.resampling import Box, Grid
from nnunet_cel.volumes import MOST_VOXELS

__all__ = ["read_grids", "transform_record"]


def transform_record(
    *,
    case: str,
    source_sha256: str,
    original: Grid,
    box: Box,
    prepared: Grid,
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Return what is written about a case.

    Args:
        case: Name of the case.
        source_sha256: SHA-256 of the original file, or of those of the DICOM series.
        original: Grid of the original image.
        box: What was cut out of it.
        prepared: Grid of the prepared image.
        settings: What was done.
        versions: Versions of the packages that did it.
    """
    return {
        "case": case,
        "source_sha256": source_sha256,
        "original": _grid_record(original),
        "crop": {
            "first": [part.start for part in box],
            "stop": [part.stop for part in box],
        },
        "prepared": _grid_record(prepared),
        "settings": dict(settings),
        "versions": dict(versions),
    }


def read_grids(path: Path) -> tuple[Grid, Grid]:
    """Return the grids of the original and of the prepared image of a record.

    Raises:
        ValueError: If the file is not such a record.
    """
    try:
        record = read_json(path)
        grids = _read_grid(record["original"]), _read_grid(record["prepared"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(
            f"The file {path} must be a transform that nnunet-cel prepare wrote. It "
            "has no grids of the images: name the original image itself."
        ) from error
    return grids


def _read_grid(record: Any) -> Grid:
    x, y, z = (int(size) for size in record["shape"])
    affine = np.array(record["affine"], dtype=float).reshape(4, 4)
    if min(x, y, z) < 1 or x * y * z > MOST_VOXELS:
        raise ValueError(f"the shape is {x} x {y} x {z}")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError("the affine is singular")
    return Grid((x, y, z), affine)


def _grid_record(grid: Grid) -> dict[str, Any]:
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}
