"""What is recorded of a prepared scan, so that predictions can be brought back.

The record is a JSON file for each case. It holds the grid of the original image, which
is enough to restore a label map, also where the original image is not at hand.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import model_validator

from nnunet_cel.files import read_json
from nnunet_cel.resampling import Grid
from nnunet_cel.schema import Model
from nnunet_cel.volumes import MOST_VOXELS

__all__ = ["GridRecord", "ScanRecord", "read_record"]


class GridRecord(Model):
    """A grid: number of voxels along each axis, and voxel indices to mm in RAS."""

    shape: list[int]
    affine: list[list[float]]

    @classmethod
    def of(cls, grid: Grid) -> GridRecord:
        """Return the record of a grid."""
        return cls(shape=list(grid.shape), affine=grid.affine.tolist())

    @property
    def grid(self) -> Grid:
        """The grid."""
        x, y, z = self.shape
        return Grid((x, y, z), np.array(self.affine, dtype=float))

    @model_validator(mode="after")
    def _must_be_possible(self) -> GridRecord:
        shape, affine = self.grid
        if min(shape) < 1 or math.prod(shape) > MOST_VOXELS:
            raise ValueError(f"the shape is {shape}")
        if affine.shape != (4, 4) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError("the affine is singular")
        return self


class ScanRecord(Model):
    """How a scan was prepared.

    Args:
        case: Name of the case.
        source_sha256: SHA-256 of the original file, or of those of the DICOM series.
        original: Grid of the original image.
        crop: What was cut out of it: the first voxel, and the one behind the last.
        prepared: Grid of the prepared image.
        settings: What was done.
        versions: Versions of the packages that did it.
    """

    case: str
    source_sha256: str
    original: GridRecord
    crop: dict[str, list[int]]
    prepared: GridRecord
    settings: dict[str, Any]
    versions: dict[str, str]


def read_record(path: Path) -> ScanRecord:
    """Return the record of a scan.

    Raises:
        ValueError: If the file is not such a record.
    """
    try:
        return ScanRecord.model_validate(read_json(path))
    except ValueError as error:
        raise ValueError(
            f"The file {path} must be a transform that nnunet-cel prepare wrote. It "
            "has no grids of the images: name the original image itself."
        ) from error
