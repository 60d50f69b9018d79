"""Evaluates all cases of a folder, or counts their lesions without a reference.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_cel.evaluation.cases import evaluate_case
from nnunet_cel.evaluation.labels import Labels, read_labels, read_probabilities
from nnunet_cel.evaluation.lesions import find_lesions, is_dropped, tabulate_lesions
from nnunet_cel.evaluation.protocol import Protocol
from nnunet_cel.evaluation.summary import (
    RESAMPLES,
    summarize_metrics,
    summarize_scans,
    summarize_sizes,
)
from nnunet_cel.evaluation.tables import plain, write_table
from nnunet_cel.evaluation.thresholds import (
    calibrate,
    count_reliability,
    froc,
    summarize_thresholds,
)
from nnunet_cel.files import sha256, to_json, write_whole
from nnunet_cel.parallel import try_cases
from nnunet_cel.scans import find_label_maps, pair_cases, pair_images
from nnunet_cel.volumes import check_same_grid, read_label_map, read_volume

__all__ = [
    "FOLDERS",
    "WANTED_LFDR",
    "Evaluation",
    "count_lesions",
    "evaluate_folders",
    "write_evaluation",
]

WANTED_LFDR = (0.1, 0.2, 0.3, 0.4, 0.5)
"""For each of these a threshold is looked for."""

FOLDERS = "folders.json"
"""Name of the file that says where predictions and references are."""

_PACKAGES = (
    *("nnunet-cel", "connected-components-3d", "nibabel", "numpy", "pandas", "scipy"),
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
    predictions: Path,
    references: Path,
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
    found = _join(list(pairs), results)
    cases = found["cases"]
    lesions = found["lesions"].sort_values(
        ["case", "map", "lesion"], ascending=[True, False, True]
    )
    metrics = summarize_metrics(cases, seed=seed)
    tables = {"cases": cases, "lesions": lesions, "summary": metrics}
    thresholds = None
    if probabilities:
        curve = froc(found["sweep"])
        calibration = _calibrate(found["reliability"], lesions)
        thresholds = summarize_thresholds(curve, calibration, wanted_lfdr)
        tables |= {"froc": curve, "calibration": calibration}
    summary = {
        "protocol": protocol.to_dict(),
        "label": labels.lesion,
        "ignore_label": labels.ignore,
        "n": len(cases),
        "metrics": metrics.set_index("metric").to_dict("index"),
        "bootstrap": {"seed": seed, "resamples": RESAMPLES},
        "scans": summarize_scans(cases),
        "sizes_mm3": summarize_sizes(lesions),
        "thresholds": thresholds,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "sha256": {
            name: {"prediction": sha256(predicted), "reference": sha256(true)}
            for name, (predicted, true) in pairs.items()
        },
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


def count_lesions(
    predictions: Path,
    protocol: Protocol,
    *,
    images: Path | None = None,
    label: int | None = None,
    processes: int = 1,
    description: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count and measure the lesions of all label maps of a folder.

    Args:
        predictions: Folder with one label map for each case.
        protocol: Its connectivity, smallest lesion and size bins.
        images: Folder with the images, ``CASE.nii.gz`` or ``CASE_0000.nii.gz`` and so
            on; None for no intensities.
        label: Value of lesion voxels; None is 1, see
            :func:`~nnunet_cel.evaluation.labels.read_labels`.
        processes: Number of processes.
        description: Title of a progress bar, None for no bar.

    Returns:
        One row for each lesion, the largest of a case first, and one row for each case,
        those without lesions included.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If files are missing or damaged; the message lists all of them.
    """
    maps = find_label_maps(predictions)
    labels = read_labels([predictions, predictions.parent], lesion=label)
    pictures = pair_images(images, list(maps)) if images is not None else {}
    done = try_cases(
        partial(_count_case, protocol, labels),
        [(path, pictures.get(name, {})) for name, path in maps.items()],
        processes=processes,
        description=description,
    )
    found = _join(list(maps), done)
    return found["lesions"], found["cases"]


def _join(
    cases: Sequence[str], results: Sequence[Mapping[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """Return the tables of all cases, joined, with the case in the first column."""
    return {
        name: pd.concat(
            [result[name] for result in results], keys=cases, names=["case", "row"]
        )
        .reset_index("case")
        .reset_index(drop=name != "reliability")
        for name in results[0]
    }


def _evaluate_files(
    protocol: Protocol, labels: Labels, probable: bool, files: tuple[str, Path, Path]
) -> dict[str, pd.DataFrame]:
    """Return the tables of a case."""
    name, predicted, true = files
    prediction, reference = read_label_map(predicted), read_label_map(true)
    check_same_grid(f"The prediction {predicted}", prediction, reference)
    labels.check(predicted, prediction.voxels)
    labels.check(true, reference.voxels)
    probabilities = None
    if probable:
        saved = predicted.parent / f"{name}.npz"
        probabilities = read_probabilities(saved, prediction.voxels, labels)
    return evaluate_case(
        prediction, reference, protocol, labels=labels, probabilities=probabilities
    )


def _calibrate(reliability: pd.DataFrame, lesions: pd.DataFrame) -> pd.DataFrame:
    """Return the calibration of voxels and of predicted lesions."""
    judged = lesions[
        (lesions["map"] == "prediction") & lesions["status"].isin(["hit", "false"])
    ]
    found = count_reliability(
        judged["mean_probability"].to_numpy(dtype=float),
        (judged["status"] == "hit").to_numpy(),
    )
    voxels = reliability.groupby("row")[list(found)].sum()
    return calibrate({"voxels": voxels, "lesions": found})


def _count_case(
    protocol: Protocol, labels: Labels, task: tuple[Path, Mapping[str, Path]]
) -> dict[str, pd.DataFrame]:
    """Return lesions and sums of a case."""
    path, images = task
    volume = read_label_map(path)
    labels.check(path, volume.voxels)
    lesions = find_lesions(volume.voxels == labels.lesion, protocol.connectivity)
    table = tabulate_lesions(lesions, volume.affine, protocol)
    for channel, image in images.items():
        picture = read_volume(image)
        check_same_grid(f"The image {image}", picture, volume)
        column = f"intensity_{channel}" if channel else "intensity"
        table[column] = lesions.means(picture.voxels)
    dropped = is_dropped(lesions, protocol, volume.voxel_volume)
    ml = table["volume_mm3"] / 1000
    row = {
        "lesions": (~dropped).sum(),
        "volume_ml": ml[~dropped].sum(),
        "dropped": dropped.sum(),
        "dropped_ml": ml[dropped].sum(),
    }
    table = table[~dropped].sort_values("voxels", ascending=False, kind="stable")
    table.insert(0, "lesion", np.arange(1, len(table) + 1))
    return {"lesions": table, "cases": pd.DataFrame([row])}
