"""Reads back what `nnunet-cel evaluate` wrote, and the label maps it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
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
    "read_agreement",
    "read_results",
]

TP, FP, FN = 1, 2, 3
"""Values of an agreement map; 0 is background in both."""

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
        summary: Content of ``summary.json``.
        froc: One row for each threshold, None without probabilities.
        calibration: One row for each bin of probability, None without probabilities.
        maps: The label maps of each case, None if they are no longer where they were.
    """

    cases: pd.DataFrame
    lesions: pd.DataFrame
    summary: dict[str, Any]
    froc: pd.DataFrame | None
    calibration: pd.DataFrame | None
    maps: Mapping[str, LabelMaps] | None


class LabelMaps(NamedTuple):
    """The label maps of one case, and how they were evaluated.

    Args:
        case: Name of the case.
        prediction: Its prediction.
        reference: Its reference.
        sha256: SHA-256 of both, under ``prediction`` and ``reference``.
        label: Value of lesion voxels.
        ignore: Value of reference voxels that are left out.
    """

    case: str
    prediction: Path
    reference: Path
    sha256: Mapping[str, str]
    label: int = 1
    ignore: int | None = None


def read_results(
    folder: Path, predictions: Path | None = None, references: Path | None = None
) -> Results:
    """Read the results of an evaluation.

    Args:
        folder: What `nnunet-cel evaluate` wrote.
        predictions: Folder of the predictions, None for the one that was evaluated.
        references: Folder of the references, likewise.

    Raises:
        FileNotFoundError: If the folder holds no evaluation, or one that was named is
            missing.
        ValueError: If it is damaged, or the label map of a case is missing; the message
            lists all.
    """
    cases, summary = read_evaluation(folder)
    lesions = read_table(
        folder / "lesions.csv", text=("case", "map", "status", "size_bin")
    )
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
    path = folder / FOLDERS
    known = read_json(path) if path.is_file() else {}
    places: dict[str, Path | None] = {
        name: Path(place) for name, place in known.items() if Path(place).is_dir()
    }
    folders = {
        "predictions": predictions or places.get("predictions"),
        "references": references or places.get("references"),
    }
    maps = _find_maps(folders, cases["case"].tolist(), summary)
    return Results(cases, lesions, summary, froc, calibration, maps)


def _find_maps(
    folders: Mapping[str, Path | None], cases: Sequence[str], summary: Mapping[str, Any]
) -> dict[str, LabelMaps] | None:
    """Return the label maps of each case, None if nobody knows where they are."""
    found = []
    for name, folder in folders.items():
        if folder is None:
            return None
        found.append(find_label_maps(folder))
        missing = [case for case in cases if case not in found[-1]]
        if missing:
            raise ValueError(
                f"The folder {folder} must have the {name} of all cases. It lacks "
                f"{', '.join(missing)}: evaluate again, or name the folder with "
                f"--{name}."
            )
    values = (summary["label"], summary["ignore_label"])
    return {
        case: LabelMaps(
            case, found[0][case], found[1][case], summary["sha256"][case], *values
        )
        for case in cases
    }


def read_agreement(maps: LabelMaps) -> Volume:
    """Read the label maps of a case and return their agreement, on their grid.

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
    predicted, true = (map.voxels == maps.label for map in (prediction, reference))
    if maps.ignore is not None:
        predicted &= reference.voxels != maps.ignore
    values = np.select([predicted & true, predicted, true], [TP, FP, FN], 0)
    return Volume(values.astype(np.uint8), reference.affine)
