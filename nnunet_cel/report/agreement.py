"""Where prediction and reference agree, voxel by voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_cel.files import sha256
from nnunet_cel.report.results import LabelMaps
from nnunet_cel.volumes import Volume, check_same_grid, read_label_map

__all__ = ["FN", "FP", "KINDS", "TP", "agreement", "read_agreement"]

Array = npt.NDArray[Any]

TP, FP, FN = 1, 2, 3
"""Values of an agreement map; 0 is background in both."""

KINDS = {"tp": "true positive", "fp": "false positive", "fn": "false negative"}
"""Short and full names of the values, from 1 on."""


def agreement(
    prediction: Array, reference: Array, *, label: int, ignore: int | None = None
) -> Array:
    """Return the agreement of two label maps, uint8.

    Args:
        prediction: Label map, shape (X, Y, Z).
        reference: Label map of the same shape.
        label: Value of lesion voxels.
        ignore: Value of reference voxels that are left out.
    """
    predicted, true = prediction == label, reference == label
    if ignore is not None:
        predicted &= reference != ignore
    values = np.zeros(true.shape, dtype=np.uint8)
    values[predicted & true] = TP
    values[predicted & ~true] = FP
    values[~predicted & true] = FN
    return values


def read_agreement(maps: LabelMaps, *, label: int, ignore: int | None) -> Volume:
    """Read the label maps of a case and return their agreement, on their grid.

    Args:
        maps: The label maps.
        label: Value of lesion voxels.
        ignore: Value of reference voxels that are left out.

    Raises:
        ValueError: If a file was changed since it was evaluated, or cannot be read.
    """
    for name, path in (("prediction", maps.prediction), ("reference", maps.reference)):
        if sha256(path) != maps.sha256.get(name):
            raise ValueError(
                f"The {name} {path} must be the one that was evaluated. It was changed "
                "since then: evaluate again."
            )
    prediction = read_label_map(maps.prediction)
    reference = read_label_map(maps.reference)
    check_same_grid(f"The prediction {maps.prediction}", prediction, reference)
    values = agreement(prediction.voxels, reference.voxels, label=label, ignore=ignore)
    return Volume(values, reference.affine)
