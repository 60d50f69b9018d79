"""Evaluations of made-up label maps, for the tests of reports and exports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_cel import cli
from nnunet_cel.evaluation.dataset import evaluate_folders, write_evaluation
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.volumes import Volume, write_volume

AFFINE = np.diag([2.0, 2, 2, 1])


def run(*arguments: object) -> int:
    """Run the command line in this process."""
    return cli.main([str(argument) for argument in arguments])


def write_maps(folder: Path, maps: Mapping[str, np.ndarray], ending: str = "") -> Path:
    """Write a volume of each case and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for case, voxels in maps.items():
        write_volume(folder / f"{case}{ending}.nii.gz", Volume(voxels, AFFINE))
    return folder


def evaluate(
    root: Path,
    references: Mapping[str, np.ndarray],
    predictions: Mapping[str, np.ndarray],
    *,
    folder: str = "p",
    probabilities: bool = False,
    **options: Any,
) -> Path:
    """Write label maps and their evaluation and return the folder of the latter."""
    true = write_maps(root / "r", references)
    predicted = write_maps(root / folder, predictions)
    for case, mask in predictions.items() if probabilities else ():
        soft = np.stack([1 - 0.9 * mask, 0.9 * mask]).transpose(0, 3, 2, 1)
        np.savez(predicted / f"{case}.npz", probabilities=soft)
    options["probabilities"] = probabilities
    evaluation = evaluate_folders(predicted, true, load_protocol(), **options)
    out = root / f"evaluation of {folder}"
    out.mkdir()
    write_evaluation(evaluation, out)
    return out
