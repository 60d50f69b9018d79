"""The recipes of CONTRIBUTING.md: network, loss, converter and metric are added.

Each is added where its recipe says, and then used as those that come with the package.
"""

from __future__ import annotations

import json
import shutil
import types
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import plan_and_preprocess
from torch import Tensor, nn

from nnunet_cel import cli, settings
from nnunet_cel.dataset_conversion import command, isbi2015
from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.evaluation.metrics import METRICS, EdgeCase, Metric
from nnunet_cel.networks import SliceNetwork
from nnunet_cel.planning import declarations
from nnunet_cel.training.losses import VoxelLoss
from nnunet_cel.training.trainer import FCADenseTrainer

QUIET = ("-np", "1", "--no-progress")


class ToyNetwork(SliceNetwork):
    """A convolution with features between it and the head."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        features: int,
        lesion_prior: float = 0.01,
    ) -> None:
        super().__init__(input_channels, lesion_prior=lesion_prior)
        self.body = nn.Conv2d(input_channels, features, 3, padding=1)
        self.head = nn.Conv2d(features, num_classes, 1)

    def _logits(self, stacks: Tensor) -> Tensor:
        return self.head(self.body(stacks).relu())


class ToyLoss(VoxelLoss):
    """The squared error of the probability of lesion."""

    def _voxel_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits.softmax(dim=1)[:, 1:].sum(1, keepdim=True) - target) ** 2


def test_a_network_and_a_loss(
    nnunet_folders: Path, planned_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry each is all that planning, training and validation need."""
    load = declarations._load
    toy = {
        "network_class_name": f"{__name__}.ToyNetwork",
        "arch_kwargs": {"features": 4, "lesion_prior": 0.01},
        "_kw_requires_import": [],
    }
    monkeypatch.setattr(
        declarations,
        "_load",
        lambda name: load(name) | ({"toy": toy} if name == "networks.json" else {}),
    )
    monkeypatch.setitem(settings.LOSSES, "toy", f"{__name__}.ToyLoss")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    name = "Dataset501_Tiny"
    shutil.copytree(planned_folders / "raw" / name, nnunet_folders / "raw" / name)

    plan_and_preprocess(501)
    folder = nnunet_folders / "preprocessed" / name
    plans = json.loads((folder / "FCADensePlans.json").read_text())
    plans["continue_training"] = False
    for configuration in ("2d_toy", "2d_64_toy"):
        plans["configurations"][configuration][settings.BLOCK] |= {
            "loss": "toy",
            "max_epochs": 1,
            "iterations_per_epoch": 2,
            "validation_iterations": 1,
        }
    dataset = json.loads((folder / "dataset.json").read_text())
    trainer = FCADenseTrainer(plans, "2d_toy", 0, dataset, torch.device("cpu"))
    trainer.logger.plot_progress_png = lambda folder: None
    trainer.run_training()
    trainer.perform_actual_validation()

    assert isinstance(trainer.triplanar_network.network, ToyNetwork)
    assert isinstance(trainer.loss, ToyLoss)
    assert np.isfinite(trainer.logger.get_value("train_losses", step=None)).all()
    results = Path(trainer.output_folder)
    assert (results / "checkpoint_final.pth").is_file()
    assert len(list((results / "validation").glob("*.nii.gz"))) == 1


def find_cases(root: Path) -> list[SourceCase]:
    """Return the toy's cases."""
    return [
        SourceCase(
            identifier=image.name.removesuffix(".nii.gz"),
            source="Toy",
            root=root,
            image=image,
            labels=(root / "lesions" / image.name,),
            group=image.name,
        )
        for image in sorted((root / "scans").glob("*.nii.gz"))
    ]


def test_a_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source with its entry is a sub-command that writes a data set."""
    toy = types.ModuleType("toy", "A toy.")
    toy.TERMS = replace(isbi2015.TERMS, name="Toy", channel="T2")
    toy.add_arguments = lambda group: None
    toy.find_cases = find_cases
    monkeypatch.setattr(command, "SOURCES", {**command.SOURCES, "toy": toy})
    label = np.zeros((8, 8, 8), np.uint8)
    label[2:4, 2:4, 2:4] = 1
    for number in range(5):
        image = np.full((8, 8, 8), 100 + number, np.int16)
        for folder, voxels in (("scans", image), ("lesions", label)):
            (tmp_path / "toy" / folder).mkdir(parents=True, exist_ok=True)
            file = tmp_path / "toy" / folder / f"patient{number}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), file)

    source, raw = str(tmp_path / "toy"), str(tmp_path / "raw")
    status = cli.main(["convert", "toy", source, "-d", "511", "-o", raw, *QUIET])

    assert status == 0
    dataset = json.loads((tmp_path / "raw/Dataset511_TOY/dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "T2"}
    assert dataset["numTraining"] == 5


def test_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is measured and compared; an earlier evaluation has no value for it."""
    label = np.zeros((8, 8, 8), np.uint8)
    label[2:4, 2:4, 2:4] = 1
    for number in range(2):
        for folder, voxels in (("p", np.roll(label, 1, axis=0)), ("r", label)):
            (tmp_path / folder).mkdir(exist_ok=True)
            file = tmp_path / folder / f"case{number}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), file)

    def evaluate(out: str) -> pd.DataFrame:
        folders = [str(tmp_path / name) for name in ("p", "r")]
        options = ["-o", str(tmp_path / out), *QUIET]
        assert cli.main(["evaluate", *folders, *options]) == 0
        return pd.read_csv(tmp_path / out / "cases.csv")

    evaluate("before")
    nothing = EdgeCase(empty_prediction=0, empty_reference=0, both_empty=1)
    toy = Metric("Jaccard", "higher", "voxels", jaccard, edge_case=nothing)
    monkeypatch.setitem(METRICS, "Toy", toy)

    assert evaluate("after")["Toy"].tolist() == pytest.approx(
        [1 / 3, 1 / 3]
    )  # 4 of 12 voxels
    folders = [str(tmp_path / name) for name in ("before", "after")]
    comparison = tmp_path / "comparison"
    assert cli.main(["compare", *folders, "-o", str(comparison)]) == 0
    pages = [cli.main(["report", f, "-o", f"{f}.html", *QUIET]) for f in folders]
    assert pages == [0, 0]


def jaccard(counts: object) -> float:
    """Return the voxels of both maps as a share of those of any."""
    return counts.tp / (counts.tp + counts.fp + counts.fn)
