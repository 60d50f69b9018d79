"""Reads back what `nnunet-cel evaluate` wrote, and the label maps it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnunet_cel.evaluation.comparison import read_evaluation
from nnunet_cel.evaluation.dataset import FOLDERS
from nnunet_cel.evaluation.tables import read_table
from nnunet_cel.files import read_json, sha256
from nnunet_cel.scans import find_label_maps
from nnunet_cel.volumes import Volume, check_same_grid, read_label_map

__all__ = [
    "FN",
    "FP",
    "TP",
    "LabelMaps",
    "Results",
    "find_maps",
    "mark_agreement",
    "read_agreement",
    "read_results",
]

Array = npt.NDArray[Any]

TP, FP, FN = 1, 2, 3
"""Values of an agreement map; 0 is background in both."""

_TEXT = ("case", "map", "status", "size_bin")
_NEEDED = {
    *("label", "ignore_label", "n", "metrics", "scans", "sizes_mm3", "thresholds"),
    *("versions", "sha256"),
}


@dataclass(frozen=True)
class Results:
    """The results of an evaluation.

    Args:
        cases: One row for each case, in the order of their names.
        lesions: One row for each lesion of both maps.
        metrics: One row for each metric.
        summary: Content of ``summary.json``.
        froc: One row for each threshold, None without probabilities.
        calibration: One row for each bin of probability, None without probabilities.
        folders: Where predictions and references were, as far as it is known.
    """

    cases: pd.DataFrame
    lesions: pd.DataFrame
    metrics: pd.DataFrame
    summary: dict[str, Any]
    froc: pd.DataFrame | None
    calibration: pd.DataFrame | None
    folders: Mapping[str, str]


@dataclass(frozen=True)
class LabelMaps:
    """The label maps of one case, and what they were when they were evaluated.

    Args:
        case: Name of the case.
        prediction: Its prediction.
        reference: Its reference.
        sha256: SHA-256 of both, under ``prediction`` and ``reference``.
    """

    case: str
    prediction: Path
    reference: Path
    sha256: Mapping[str, str]


def read_results(folder: Path) -> Results:
    """Read the results of an evaluation.

    Args:
        folder: What `nnunet-cel evaluate` wrote.

    Raises:
        FileNotFoundError: If the folder holds no evaluation.
        ValueError: If it is damaged.
    """
    cases, summary = read_evaluation(folder)
    lesions = read_table(folder / "lesions.csv", text=_TEXT)
    lacking = sorted(_NEEDED - set(summary))
    strangers = set(lesions["case"]) - set(cases["case"])
    if lacking or strangers or summary["n"] != len(cases):
        raise ValueError(
            f"The evaluation in {folder} must be one of this version, whose files "
            f"belong together. It lacks {', '.join(lacking) or 'cases'}. Evaluate "
            "again."
        )
    froc, calibration = (
        read_table(path, text=("level",)) if path.is_file() else None
        for path in (folder / "froc.csv", folder / "calibration.csv")
    )
    known = folder / FOLDERS
    return Results(
        cases=cases,
        lesions=lesions,
        metrics=read_table(folder / "summary.csv", text=("metric", "name", "unit")),
        summary=summary,
        froc=froc,
        calibration=calibration,
        folders=read_json(known) if known.is_file() else {},
    )


def find_maps(
    results: Results,
    predictions: Path | None = None,
    references: Path | None = None,
) -> dict[str, LabelMaps] | None:
    """Return the label maps of each case; None if they are no longer where they were.

    Args:
        results: The results.
        predictions: Folder of the predictions, None for the one that was evaluated.
        references: Folder of the references, likewise.

    Raises:
        FileNotFoundError: If a folder that was named is missing.
        ValueError: If a folder lacks the label map of a case; the message lists all.
    """
    found: dict[str, dict[str, Path]] = {}
    for name, given in (("prediction", predictions), ("reference", references)):
        known = results.folders.get(f"{name}s")
        if given is None and (known is None or not Path(known).is_dir()):
            return None
        folder = given or Path(known or "")
        found[name] = find_label_maps(folder)
        missing = sorted(set(results.cases["case"]) - set(found[name]))
        if missing:
            raise ValueError(
                f"The folder {folder} must have the {name} of every case. It lacks "
                f"{', '.join(missing)}: evaluate again, or name the folder with "
                f"--{name}s."
            )
    hashes = results.summary["sha256"]
    return {
        case: LabelMaps(
            case, found["prediction"][case], found["reference"][case], hashes[case]
        )
        for case in results.cases["case"]
    }


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
        if sha256(path) != maps.sha256[name]:
            raise ValueError(
                f"The {name} {path} must be the one that was evaluated. It was changed "
                "since then: evaluate again."
            )
    prediction = read_label_map(maps.prediction)
    reference = read_label_map(maps.reference)
    check_same_grid(f"The prediction {maps.prediction}", prediction, reference)
    values = mark_agreement(
        prediction.voxels, reference.voxels, label=label, ignore=ignore
    )
    return Volume(values, reference.affine)


def mark_agreement(
    prediction: Array, reference: Array, *, label: int, ignore: int | None = None
) -> Array:
    """Return where two label maps agree, voxel by voxel, uint8.

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
