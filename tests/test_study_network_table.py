"""Tests of Table 2."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nnunet_cel.study.models import fold_folder
from nnunet_cel.study.network_table import (
    PARAMETERS,
    make_network_table,
    training_hours,
)
from nnunet_cel.study.study import parse_study

STUDY = parse_study(
    {
        "data": {
            "wmh": {"phantoms": {"isbi2015": 3}},
            "cel": {"phantoms": {"cel-bids": 4}},
        },
        "networks": ["unet"],
        "training": {"folds": 2},
    },
    folder=Path("/nowhere"),
)


def write_log(folder: Path, seconds: list[float]) -> None:
    """Write the log of a training with the times of its epochs."""
    folder.mkdir(parents=True)
    lines = []
    for epoch, time in enumerate(seconds):
        lines += [
            f"Epoch {epoch}",
            "Current learning rate: 0.0002",
            "train_loss 0.5",
            "val_loss 0.5",
            "Pseudo dice [0.1]",
            f"Epoch time: {time} s",
        ]
    stamped = "".join(f"2024-01-01 00:00:00.000000: {line}\n" for line in lines)
    (folder / "training_log_2024_1_1_00_00_00.txt").write_text(stamped)


def test_hours_are_means_over_folds(tmp_path: Path) -> None:
    """Half an hour and one and a half are one; fine-tuning took a quarter."""
    for fold, seconds in enumerate([[900.0, 900.0], [5400.0]]):
        name = fold_folder(STUDY, "pretrained", "Dataset501_WMH", "2d_unet", fold)
        write_log(tmp_path / name, seconds)
    name = fold_folder(STUDY, "finetuned", "Dataset502_CEL", "2d_unet", 0)
    write_log(tmp_path / name, [900.0])
    table = make_network_table(STUDY, tmp_path).set_index("metric")

    assert training_hours(tmp_path / name) == 0.25
    assert table.loc["Training time (h)", "mean"] == 1
    assert table.loc["Fine-tuning time (h)", "mean"] == 0.25
    assert table.loc[PARAMETERS, "mean"] == pytest.approx(2.0, abs=0.05)
    assert table.loc["Training time (h)", "paper"] == "~7"


def test_missing_trainings_are_left_blank_on_demand(tmp_path: Path) -> None:
    """Otherwise they are an error that names the folder."""
    table = make_network_table(STUDY, tmp_path, partial=True).set_index("metric")

    assert math.isnan(table.loc["Training time (h)", "mean"])
    with pytest.raises(FileNotFoundError, match="2d_unet"):
        make_network_table(STUDY, tmp_path)
