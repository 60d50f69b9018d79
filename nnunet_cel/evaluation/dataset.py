"""Evaluates all cases of a folder and writes what was found.

Files of an evaluation:

- ``cases.csv``: one row for each case, ``lesions.csv``: one for each lesion.
- ``summary.csv``: one row for each metric; ``summary.json``: the same, with the
  protocol, the versions and all that concerns scans and sizes.
- ``froc.csv``, ``calibration.csv``: detection at other thresholds and calibration,
  with probabilities only.
- ``folders.json``: where predictions and references are on this computer, for commands
  that come after. Names of folders may tell more than others should know, so they stand
  nowhere else, and only you may read this file.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.cases import CaseResult, evaluate_case
from nnunet_cel.evaluation.labels import Labels, read_labels
from nnunet_cel.evaluation.probabilities import (
    check_probabilities,
    read_probabilities,
)
from nnunet_cel.evaluation.protocol import Protocol
from nnunet_cel.evaluation.summary import (
    RESAMPLES,
    summarize_metrics,
    summarize_scans,
    summarize_sizes,
)
from nnunet_cel.evaluation.tables import plain, write_table
from nnunet_cel.evaluation.thresholds import (
    average_precision,
    calibrate,
    count_reliability,
    expected_calibration_error,
    froc,
    threshold_for_lfdr,
)
from nnunet_cel.files import sha256, to_json, write_whole
from nnunet_cel.parallel import try_cases
from nnunet_cel.scans import pair_cases
from nnunet_cel.volumes import check_same_grid, read_label_map

__all__ = [
    "FOLDERS",
    "WANTED_LFDR",
    "Evaluation",
    "evaluate_folders",
    "write_evaluation",
]

WANTED_LFDR = (0.1, 0.2, 0.3, 0.4, 0.5)
"""For each of these a threshold is looked for."""

FOLDERS = "folders.json"
"""Name of the file that says where predictions and references are."""

_PACKAGES = (
    "nnunet-cel",
    "connected-components-3d",
    "nibabel",
    "numpy",
    "pandas",
    "scipy",
)


@dataclass(frozen=True)
class Evaluation:
    """What the evaluation of a data set found.

    Args:
        tables: The content of each ``.csv`` file by its name without the ending.
        summary: Content of ``summary.json``.
        folders: Content of ``folders.json``.
    """

    tables: Mapping[str, pd.DataFrame]
    summary: dict[str, Any]
    folders: Mapping[str, str]


def evaluate_folders(
    predictions: Path | str,
    references: Path | str,
    protocol: Protocol,
    *,
    probabilities: bool = False,
    label: int | None = None,
    ignore_label: int | None = None,
    subset: bool = False,
    wanted_lfdr: Sequence[float] = WANTED_LFDR,
    seed: int = 0,
    processes: int = 1,
    description: str | None = None,
) -> Evaluation:
    """Compare all predictions of a folder with their references.

    Args:
        predictions: Folder with one label map for each case.
        references: Folder with a label map of the same name for each of them.
        protocol: The rules.
        probabilities: Whether to use the ``.npz`` file beside each prediction.
        label: Value of lesion voxels; None is 1, see
            :func:`~nnunet_cel.evaluation.labels.read_labels`.
        ignore_label: Value of reference voxels to leave out; None asks
            ``dataset.json``.
        subset: Whether references without a prediction are left out.
        wanted_lfdr: Lesion false discovery rates to look for a threshold for.
        seed: Seed of the bootstrap.
        processes: Number of processes.
        description: Title of a progress bar, None for no bar.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If files are missing, damaged or do not match; the message lists
            all of them.
    """
    predictions, references = Path(predictions), Path(references)
    pairs = pair_cases(predictions, references, subset=subset)
    labels = read_labels(
        [references, references.parent, predictions], lesion=label, ignore=ignore_label
    )
    results = try_cases(
        partial(_evaluate_files, protocol, labels, probabilities),
        [(name, *files) for name, files in pairs.items()],
        processes=processes,
        description=description,
    )
    done = dict(zip(pairs, results, strict=True))
    cases = pd.DataFrame([{"case": n, **result.row} for n, (result, _) in done.items()])
    lesions = _join({name: result.lesions for name, (result, _) in done.items()})
    metrics = summarize_metrics(cases, seed=seed)
    tables = {"cases": cases, "lesions": lesions, "summary": metrics}
    thresholds = None
    if probabilities:
        of_cases = [result for result, _ in done.values()]
        curve = froc([r.sweep for r in of_cases if r.sweep is not None], protocol)
        calibration = _calibrate(of_cases, lesions)
        tables |= {"froc": curve, "calibration": calibration}
        thresholds = _summarize_thresholds(curve, calibration, wanted_lfdr)
    summary = {
        "protocol": protocol.to_dict(),
        "label": labels.lesion,
        "ignore_label": labels.ignore,
        "n": len(cases),
        "metrics": metrics.set_index("metric").to_dict("index"),
        "bootstrap": {"seed": seed, "resamples": RESAMPLES},
        "scans": summarize_scans(cases),
        "sizes_mm3": summarize_sizes(lesions, protocol),
        "thresholds": thresholds,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "sha256": {name: hashes for name, (_, hashes) in done.items()},
    }
    folders = {
        "predictions": str(predictions.resolve()),
        "references": str(references.resolve()),
    }
    return Evaluation(tables, summary, folders)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write the files of an evaluation to a folder that exists."""
    for name, table in evaluation.tables.items():
        write_table(folder / f"{name}.csv", table)
    write_whole(folder / FOLDERS, to_json(dict(evaluation.folders)), mode=0o600)
    write_whole(folder / "summary.json", to_json(plain(evaluation.summary)))


def _evaluate_files(
    protocol: Protocol, labels: Labels, probable: bool, files: tuple[str, Path, Path]
) -> tuple[CaseResult, dict[str, str]]:
    """Return the result of a case and the hashes of its files."""
    name, predicted, true = files
    prediction, reference = read_label_map(predicted), read_label_map(true)
    check_same_grid(f"The prediction {predicted}", prediction, reference)
    labels.check(predicted, prediction.voxels)
    labels.check(true, reference.voxels)
    probabilities = None
    if probable:
        saved = predicted.parent / f"{name}.npz"
        probabilities = read_probabilities(saved, prediction.voxels.shape, labels)
        lesion = prediction.voxels == labels.lesion
        check_probabilities(saved, probabilities, lesion)
    result = evaluate_case(
        prediction, reference, protocol, labels=labels, probabilities=probabilities
    )
    return result, {"prediction": sha256(predicted), "reference": sha256(true)}


def _join(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the lesions of all cases in one table."""
    # Empty tables have no types, and would change those of the others.
    filled = {name: table for name, table in tables.items() if len(table)} or tables
    lesions = pd.concat(filled, names=["case"]).reset_index("case")
    return lesions.sort_values(
        ["case", "map", "lesion"], ascending=[True, False, True], ignore_index=True
    )


def _calibrate(results: Iterable[CaseResult], lesions: pd.DataFrame) -> pd.DataFrame:
    """Return the calibration of voxels and of predicted lesions."""
    voxels = sum(r.reliability for r in results if r.reliability is not None)
    judged = lesions[
        (lesions["map"] == "prediction") & lesions["status"].isin(["hit", "false"])
    ]
    found = count_reliability(
        judged["mean_probability"].to_numpy(dtype=float),
        (judged["status"] == "hit").to_numpy(),
    )
    return calibrate({"voxels": np.asarray(voxels), "lesions": found})


def _summarize_thresholds(
    curve: pd.DataFrame, calibration: pd.DataFrame, wanted_lfdr: Sequence[float]
) -> dict[str, Any]:
    """Return what is said about thresholds."""
    return {
        "average_precision": average_precision(curve),
        "for_lfdr": [
            {"wanted": wanted, "found": threshold_for_lfdr(curve, wanted)}
            for wanted in wanted_lfdr
        ],
        "calibration_error": {
            level: expected_calibration_error(calibration, level)
            for level in ("voxels", "lesions")
        },
    }
