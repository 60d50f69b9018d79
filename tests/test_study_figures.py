"""Tests of the figures of a study."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from nnunet_cel.evaluation.metrics import METRICS
from nnunet_cel.evaluation.tables import write_table
from nnunet_cel.pictures import AGREEMENT_COLORS
from nnunet_cel.study.figures import draw_sweep, write_figures
from nnunet_cel.study.models import evaluation_folders, fold_folder, sweep
from nnunet_cel.study.study import Study, parse_study

DATA = {"wmh": {"phantoms": {"isbi2015": 3}}, "cel": {"phantoms": {"cel-bids": 4}}}


def study(**content: Any) -> Study:
    """Return a study on phantoms."""
    return parse_study({"data": DATA, **content}, folder=Path("/nowhere"))


def test_sweep_is_drawn_from_all_weights(tmp_path: Path) -> None:
    """The numbers of the figure are in a table beside it."""
    for number, (_, method) in enumerate(sweep()):
        (folder,) = evaluation_folders(study(), method).values()
        (tmp_path / folder).mkdir(parents=True)
        dice = np.array([0.1, 0.3]) + number / 10
        cases = pd.DataFrame(
            {
                **{"case": ["a", "b"], **dict.fromkeys(METRICS, 0.5)},
                **{"DSC": dice, "reference_ml": 1.0, "reference_lesions": 1},
            }
        )
        write_table(tmp_path / folder / "cases.csv", cases)
        summary = json.dumps({"protocol": {"name": "paper"}})
        (tmp_path / folder / "summary.json").write_text(summary)
    (place,) = write_figures(study(), tmp_path, only=["figure9"])
    table = pd.read_csv(place / "sweep.csv")
    dice_rows = table[table["metric"] == "DSC"]

    assert list(dice_rows["lesion_weight"]) == [weight for weight, _ in sweep()]
    assert list(dice_rows["mean"]) == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6])
    assert {path.name for path in place.iterdir()} == {
        "sweep.csv",
        "sweep.svg",
        "sweep.png",
    }


def test_sweep_says_its_numbers() -> None:
    """Those who cannot see the figure can read it."""
    rows = [
        {"lesion_weight": w, "metric": m, "mean": w, "ci_low": 0, "ci_high": 1}
        for w in (0.25, 0.75)
        for m in ("DSC", "PPV", "TPR")
    ]

    assert "0.25: 0.250; 0.75: 0.750" in draw_sweep(pd.DataFrame(rows)).alt


def test_overlays_show_all_networks(
    tmp_path: Path, dataset_writer: Callable[..., Path]
) -> None:
    """One picture for each scan of the test half, in the paper's colors."""
    ours = study(networks=["fcadensenet", "unet"])
    raw = dataset_writer(tmp_path / "raw", "Dataset502_CEL", cases=1)
    label = nibabel.load(raw / "labelsTr" / "case_00.nii.gz")
    folders = [raw / "labelsTs"] + [
        tmp_path / "predictions" / "finetuned" / "Dataset502_CEL" / name
        for name in ("2d", "2d_unet")
    ]
    for folder in folders:
        folder.mkdir(parents=True)
        nibabel.save(label, folder / "case_00.nii.gz")
    (place,) = write_figures(ours, tmp_path, only=["figure7"])
    (picture,) = place.iterdir()
    pixels = imread(picture)[..., :3]

    assert picture.name == "case_00.png"
    red = to_rgb(AGREEMENT_COLORS["tp"])
    assert (abs(pixels - red).max(axis=-1) < 0.01).sum() > 100


def test_curves_of_both_trainings_are_drawn(tmp_path: Path) -> None:
    """Loss and Dice of pretraining and fine-tuning, with their numbers."""
    ours = study(training={"folds": 1})
    for stage, dataset in (
        ("pretrained", "Dataset501_WMH"),
        ("finetuned", "Dataset502_CEL"),
    ):
        folder = tmp_path / fold_folder(ours, stage, dataset, "2d", 0)
        folder.mkdir(parents=True)
        lines = [
            line
            for epoch in range(2)
            for line in (
                f"Epoch {epoch}",
                f"train_loss 0.{5 - epoch}",
                "val_loss 0.5",
                "Pseudo dice [0.1]",
            )
        ]
        stamped = "".join(f"2024-01-01 00:00:00.000000: {line}\n" for line in lines)
        (folder / "training_log_2024_1_1_00_00_00.txt").write_text(stamped)
    (place,) = write_figures(ours, tmp_path, only=["figure8"])

    assert list(pd.read_csv(place / "finetuned.csv")["train_loss"]) == [0.5, 0.4]
    for stage in ("pretrained", "finetuned"):
        assert list(place.glob(f"{stage}_*.svg"))
        assert list(place.glob(f"{stage}_*.png"))


def test_missing_models_are_an_error_unless_a_part_is_wanted(tmp_path: Path) -> None:
    """A figure that failed leaves no folder behind."""
    for name in ("figure8", "figure9"):
        with pytest.raises(FileNotFoundError):
            write_figures(study(), tmp_path, only=[name])
        assert not (tmp_path / "figures" / name).exists()
    write_figures(study(), tmp_path, only=["figure8", "figure9"], partial=True)

    with pytest.raises(ValueError, match="name of a figure"):
        write_figures(study(), tmp_path, only=["figure1"])
