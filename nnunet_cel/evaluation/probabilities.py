"""Reads the lesion probabilities that nnU-Net saves beside a prediction.

`nnUNetv2_predict --save_probabilities` writes them to ``CASE.npz`` under the key
``probabilities``, as (classes, Z, Y, X). The file ``CASE.pkl`` is not needed, and not
opened, because opening a pickle can run code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunet_cel.evaluation.labels import Labels

__all__ = ["check_probabilities", "read_probabilities"]

Array = npt.NDArray[Any]


def read_probabilities(path: Path, shape: Sequence[int], labels: Labels) -> Array:
    """Read the lesion probability that nnU-Net saved beside a prediction.

    Args:
        path: The ``.npz`` file.
        shape: Shape (X, Y, Z) of the label map.
        labels: What label values mean; says which class is the lesion.

    Returns:
        Shape (X, Y, Z).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not hold probabilities of that shape.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no probabilities {path}. Predict with --save_probabilities, or "
            "evaluate without --probabilities."
        )
    expected = tuple(shape)[::-1]
    try:
        with path.open("rb") as file:  # numpy would leave a damaged one open
            content = np.load(file, allow_pickle=False)
            saved = np.asarray(content["probabilities"])
    except Exception as error:  # a damaged archive can fail anywhere in numpy
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"The probabilities {path} cannot be read: {reason}. Predict the case "
            "again with --save_probabilities."
        ) from error
    if saved.ndim != 4 or saved.shape[1:] != expected or saved.dtype.kind != "f":
        raise ValueError(
            f"The probabilities {path} must have the shape (classes, "
            f"{', '.join(map(str, expected))}), that of the label map in reverse. Got "
            f"{saved.shape} of {saved.dtype} instead: they are of another prediction."
        )
    try:
        chosen = saved[labels.channel(len(saved))]
    except ValueError as error:
        raise ValueError(f"{error} This concerns {path}.") from error
    if not (chosen.min() >= 0 and chosen.max() <= 1 + 1e-3):
        raise ValueError(
            f"The probabilities {path} must be from 0 to 1. Got values from "
            f"{chosen.min():g} to {chosen.max():g} instead."
        )
    return np.asarray(chosen.transpose(2, 1, 0))


def check_probabilities(path: Path, probabilities: Array, mask: Array) -> None:
    """Refuse probabilities that are low where the label map has lesion.

    Only their order is compared, because a label map may come from any threshold, and
    postprocessing may have removed lesions.

    Args:
        path: Their file.
        probabilities: Lesion probability, shape (X, Y, Z).
        mask: Lesion voxels of the label map, same shape.

    Raises:
        ValueError: If they cannot be of one prediction.
    """
    if not mask.any():
        return
    usual = float(np.median(probabilities[mask]))
    above = int(np.count_nonzero((probabilities >= usual) & ~mask))
    if above > max(mask.size // 100, int(np.count_nonzero(mask))):
        raise ValueError(
            f"The probabilities {path} must be high where the label map has lesion. "
            f"Got {above} voxels outside that have at least the median of those "
            "inside: they are of another prediction, or nnU-Net turned the axes "
            "(NibabelIOWithReorient), so that they cannot be used."
        )
