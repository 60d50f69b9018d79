"""Reads back what `nnunet-cel evaluate` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_cel.evaluation.comparison import read_evaluation
from nnunet_cel.evaluation.dataset import FOLDERS
from nnunet_cel.evaluation.tables import read_table
from nnunet_cel.files import read_json
from nnunet_cel.scans import find_label_maps

__all__ = ["LabelMaps", "Results", "find_maps", "read_results"]

_TEXT = ("case", "map", "status", "size_bin")
_CENTROID = ("centroid_x", "centroid_y", "centroid_z")
_BOX = tuple(f"box_{axis}_{end}" for axis in "xyz" for end in ("first", "last"))
_LESION_COLUMNS = (*_TEXT, "lesion", "voxels", "volume_mm3", *_CENTROID, *_BOX)
_ENTRIES = (
    "label",
    "ignore_label",
    "n",
    "metrics",
    "scans",
    "sizes_mm3",
    "thresholds",
    "versions",
    "sha256",
)


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
    sha256: dict[str, str]

    @property
    def files(self) -> tuple[Path, Path]:
        """Both files."""
        return self.prediction, self.reference


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
    lacking = [name for name in _ENTRIES if name not in summary]
    lacking += [name for name in _LESION_COLUMNS if name not in lesions.columns]
    if (
        lacking
        or summary["n"] != len(cases)
        or set(lesions["case"]) - set(cases["case"])
    ):
        raise ValueError(
            f"The evaluation in {folder} must be one of this version, whose files "
            f"belong together. It lacks {', '.join(lacking) or 'cases'}. Evaluate "
            "again."
        )

    def optional(name: str) -> pd.DataFrame | None:
        path = folder / f"{name}.csv"
        return read_table(path, text=("level",)) if path.is_file() else None

    return Results(
        cases=cases,
        lesions=lesions,
        metrics=read_table(folder / "summary.csv", text=("metric", "name", "unit")),
        summary=summary,
        froc=optional("froc"),
        calibration=optional("calibration"),
        folders=_read_folders(folder / FOLDERS),
    )


def _read_folders(path: Path) -> dict[str, str]:
    """Return where predictions and references were; nothing if nobody says it."""
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        folders = {name: str(content[name]) for name in ("predictions", "references")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The file {path} must say where predictions and references are. It does "
            "not: remove it, and name the folders with --predictions and --references."
        ) from error
    return folders


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
    return {
        case: LabelMaps(
            case,
            found["prediction"][case],
            found["reference"][case],
            dict(results.summary["sha256"].get(case, {})),
        )
        for case in results.cases["case"]
    }
