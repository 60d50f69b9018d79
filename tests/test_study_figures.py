"""Tests of the figures of a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from studies import make_study, write_evaluation, write_log

from nnunet_cel.pictures import AGREEMENT_COLORS
from nnunet_cel.study.figures import write_figures
from nnunet_cel.study.models import evaluation_folders, figure_methods, model_folder


def test_sweep_is_drawn_from_all_weights(tmp_path: Path) -> None:
    """The numbers of the figure are in a table beside it."""
    ours = make_study()
    for number, method in enumerate(figure_methods(ours, 9)):
        (folder,) = evaluation_folders(ours, method).values()
        write_evaluation(
            tmp_path / folder, {"DSC": np.array([1, 3]) / 10 + number / 10}
        )
    (place,) = write_figures(ours, tmp_path, only=["figure9"])
    table = pd.read_csv(place / "sweep.csv")
    dice = table[table["metric"] == "DSC"]

    assert list(dice["lesion_weight"]) == [0.1, 0.25, 0.5, 0.75, 0.9]
    assert list(dice["mean"]) == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6])
    assert {path.name for path in place.iterdir()} == {
        "sweep.csv",
        "sweep.svg",
        "sweep.png",
    }


def test_overlays_show_all_networks(
    tmp_path: Path, dataset_writer: Callable[..., Path]
) -> None:
    """One picture for each scan of the test half, in the paper's colors."""
    ours = make_study(networks=["fcadensenet", "unet"])
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
    red = to_rgb(AGREEMENT_COLORS["true positive"])
    assert (abs(pixels - red).max(axis=-1) < 0.01).sum() > 100


def test_curves_of_both_trainings_are_drawn(tmp_path: Path) -> None:
    """Loss and Dice of pretraining and fine-tuning, with their numbers."""
    ours = make_study(training={"folds": 1})
    for stage, dataset in (
        ("pretrained", "Dataset501_WMH"),
        ("finetuned", "Dataset502_CEL"),
    ):
        write_log(tmp_path / model_folder(ours, stage, dataset, "2d", 0), [1.0, 1.0])
    (place,) = write_figures(ours, tmp_path, only=["figure8"])

    assert list(pd.read_csv(place / "finetuned.csv")["train_loss"]) == [0.5, 0.4]
    for stage in ("pretrained", "finetuned"):
        assert list(place.glob(f"{stage}_*.svg"))
        assert list(place.glob(f"{stage}_*.png"))


def test_missing_models_are_an_error_unless_a_part_is_wanted(tmp_path: Path) -> None:
    """A figure that failed leaves no folder behind."""
    for name in ("figure8", "figure9"):
        with pytest.raises(FileNotFoundError):
            write_figures(make_study(), tmp_path, only=[name])
        assert not (tmp_path / "figures" / name).exists()
    write_figures(make_study(), tmp_path, only=["figure8", "figure9"], partial=True)

    with pytest.raises(ValueError, match="name of a figure"):
        write_figures(make_study(), tmp_path, only=["figure1"])
