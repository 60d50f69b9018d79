"""Reads back what `nnunet-cel evaluate` wrote, and the label maps it was made of."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnunet_cel import parallel
from nnunet_cel.evaluation.comparison import read_evaluation
from nnunet_cel.evaluation.dataset import FOLDERS, Evaluation
from nnunet_cel.evaluation.tables import read_table
from nnunet_cel.files import read_json, sha256
from nnunet_cel.scans import find_label_maps
from nnunet_cel.volumes import Volume, check_same_grid, read_label_map

__all__ = [
    "FN",
    "FP",
    "TP",
    "LabelMaps",
    "add_evaluation",
    "read_agreement",
    "read_results",
]

TP, FP, FN = 1, 2, 3
"""Values of an agreement map; 0 is background in both."""

_NEEDED = {
    "summary.json": "label ignore_label n metrics scans sizes_mm3 thresholds versions "
    "sha256",
    "cases.csv": "predicted_ml reference_hit predicted_lesions predicted_false",
    "lesions.csv": "case map lesion status voxels volume_mm3 centroid_x centroid_y "
    "centroid_z box_x_first box_y_first box_z_first box_x_last box_y_last box_z_last",
    "froc.csv": "threshold sensitivity false_lesions_per_scan volume_ratio",
    "calibration.csv": "level mean_probability observed",
}
"""Entries and columns of each file that a report needs."""


class LabelMaps(NamedTuple):
    """The label maps of one case, and how they were evaluated.

    Args:
        case: Name of the case.
        prediction: Its prediction.
        reference: Its reference.
        sha256: SHA-256 of both, under ``prediction`` and ``reference``.
        label: Value of lesion voxels.
        ignore: Value of reference voxels that are left out, None for none.
    """

    case: str
    prediction: Path
    reference: Path
    sha256: Mapping[str, str]
    label: int
    ignore: int | None


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of commands that read an evaluation and its label maps."""
    parser.add_argument("evaluation", type=Path, metavar="OUT")
    for name in ("predictions", "references"):
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="DIR",
            help=f"where the {name} are, if they were moved after the evaluation",
        )
    parallel.add_arguments(parser)


def read_results(
    folder: Path, predictions: Path | None = None, references: Path | None = None
) -> tuple[Evaluation, dict[str, LabelMaps] | None]:
    """Read the results of an evaluation, and where its label maps are.

    Args:
        folder: What `nnunet-cel evaluate` wrote.
        predictions: Folder of the predictions, None for the one that was evaluated.
        references: Folder of the references, likewise.

    Returns:
        Its files, those that are made with probabilities only if there are any; the
        label maps of each case, None if they are no longer where they were.

    Raises:
        FileNotFoundError: If the folder holds no evaluation, or one that was named is
            missing.
        ValueError: If it is damaged, or the label map of a case is missing; the message
            lists all.
    """
    cases, summary = read_evaluation(folder)
    files: dict[str, Any] = {"summary.json": summary, "cases.csv": cases}
    more = ("froc.csv", "calibration.csv") if summary.get("thresholds") else ()
    for name in ("lesions.csv", *more):
        text = ("case", "map", "status", "size_bin", "level")
        files[name] = read_table(folder / name, text=text)
    for name, content in files.items():
        lacking = sorted(set(_NEEDED[name].split()) - set(content))
        if lacking:
            raise ValueError(
                f"The file {folder / name} must be one that 'nnunet-cel evaluate' of "
                f"this version wrote. It lacks {', '.join(lacking)}: evaluate again."
            )
    known = files["lesions.csv"]["case"].isin(cases["case"])
    if summary["n"] != len(cases) or not known.all():
        raise ValueError(
            f"The files of the evaluation in {folder} must belong together. They tell "
            "of different cases: evaluate again."
        )
    places = {"predictions": predictions, "references": references}
    if (folder / FOLDERS).is_file():
        for name, path in read_json(folder / FOLDERS).items():
            if places.get(name) is None and Path(path).is_dir():
                places[name] = Path(path)
    return files, _find_maps(places, cases["case"].tolist(), summary)


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
                f"{', '.join(missing)}: evaluate again, or name another with --{name}."
            )
    (predicted, true), hashes = found, summary["sha256"]
    labels = (summary["label"], summary["ignore_label"])
    return {c: LabelMaps(c, predicted[c], true[c], hashes[c], *labels) for c in cases}


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
