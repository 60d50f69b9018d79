"""Table 2: what networks have and take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_cel.report.paper import paper_table
from nnunet_cel.study.models import (
    FOLD,
    cel_datasets,
    fold_folder,
    table_methods,
    wmh_dataset,
)
from nnunet_cel.study.plans import count_parameters
from nnunet_cel.study.study import Study

__all__ = ["PARAMETERS", "make_network_table", "training_hours"]

PARAMETERS = "Parameters (M)"
_PRETRAINING, _FINETUNING = "Training time (h)", "Fine-tuning time (h)"


def make_network_table(
    study: Study, home: Path, *, partial: bool = False
) -> pd.DataFrame:
    """Return one row for each network and quantity.

    Times are sums over the epochs of a training, means over folds and splits.

    Args:
        study: The study.
        home: Its folder.
        partial: Whether trainings that are missing are left blank.

    Raises:
        FileNotFoundError: If a training is missing and `partial` is False.
        ValueError: If its log has no epoch, likewise.
    """
    printed = paper_table("table2") if study.paper else {}
    rows: list[dict[str, Any]] = []
    for method in table_methods(study, "table2"):
        name = method.configuration
        pretrained = [
            home / fold_folder(study, "pretrained", wmh_dataset(study), name, fold)
            for fold in range(study.training.folds)
        ]
        finetuned = [
            home / fold_folder(study, "finetuned", dataset, name, FOLD)
            for dataset in cel_datasets(study)
        ]
        values = {
            PARAMETERS: count_parameters(study, name) / 1e6,
            _PRETRAINING: _mean_hours(pretrained, partial=partial),
            _FINETUNING: _mean_hours(finetuned, partial=partial),
        }
        rows += [
            {
                "block": "",
                "method": method.title,
                "configuration": name,
                "metric": quantity,
                "mean": value,
                "paper": printed.get(method.title, {}).get(quantity, ""),
            }
            for quantity, value in values.items()
        ]
    return pd.DataFrame(rows)


def training_hours(fold: Path) -> float:
    """Return how long the epochs of a training took, those that were repeated once.

    Args:
        fold: Folder of a fold of a model.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If its log has no epoch.
    """
    from nnunet_cel.report.training_log import read_training

    return float(read_training(fold)["seconds"].sum()) / 3600


def _mean_hours(folds: list[Path], *, partial: bool) -> float:
    """Return the mean time of trainings."""
    hours = []
    for fold in folds:
        try:
            hours.append(training_hours(fold))
        except (FileNotFoundError, ValueError):
            if not partial:
                raise
    return sum(hours) / len(hours) if hours else math.nan
