"""The recipes of CONTRIBUTING.md: network, loss, converter and metric are added.

Each is added where its recipe says, and then used as those that come with the package.
"""

from __future__ import annotations

import json
import shutil
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
from torch import Tensor, nn

from nnunet_cel import cli, settings
from nnunet_cel.dataset_conversion import command, isbi2015
from nnunet_cel.dataset_conversion.source import SourceCase
from nnunet_cel.evaluation.metrics import METRICS, Counts, EdgeCase, Metric
from nnunet_cel.networks import SliceNetwork
from nnunet_cel.planning import declarations
from nnunet_cel.training.losses import VoxelLoss
from nnunet_cel.training.trainer import FCADenseTrainer
from nnunet_cel.volumes import Volume, write_volume

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
    monkeypatch.setenv("nnUNet_raw", str(planned_folders / "raw"))
    folder = nnunet_folders / "preprocessed" / name
    shutil.copytree(planned_folders / "preprocessed" / name, folder)

    plan_experiments([501], "FCADensePlanner")
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


def write_scans(root: Path, *, scans: str, lesions: str, number: int) -> None:
    """Write images and the outlines of a lesion of eight voxels in them."""
    label = np.zeros((8, 8, 8), np.uint8)
    label[2:4, 2:4, 2:4] = 1
    for folder, voxels in ((scans, np.roll(label, 1, axis=0)), (lesions, label)):
        (root / folder).mkdir(parents=True)
        for index in range(number):
            file = root / folder / f"case{index}.nii.gz"
            moved = np.roll(voxels, index, axis=2)
            write_volume(file, Volume(moved, np.eye(4)))


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
    write_scans(tmp_path / "toy", scans="scans", lesions="lesions", number=5)

    source, raw = str(tmp_path / "toy"), str(tmp_path / "raw")
    status = cli.main(["convert", "toy", source, "-d", "511", "-o", raw, *QUIET])

    assert status == 0
    dataset = json.loads((tmp_path / "raw/Dataset511_TOY/dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "T2"}
    assert dataset["numTraining"] == 5


def jaccard(counts: Counts) -> float:
    """Return the voxels of both maps as a share of those of any."""
    return counts.tp / (counts.tp + counts.fp + counts.fn)


def test_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is measured and compared; an earlier evaluation has no value for it."""
    monkeypatch.chdir(tmp_path)
    write_scans(tmp_path, scans="p", lesions="r", number=2)

    assert cli.main(["evaluate", "p", "r", "-o", "before", *QUIET]) == 0
    nothing = EdgeCase(empty_prediction=0, empty_reference=0, both_empty=1)
    toy = Metric("Jaccard", "higher", "voxels", jaccard, edge_case=nothing)
    monkeypatch.setitem(METRICS, "Toy", toy)
    assert cli.main(["evaluate", "p", "r", "-o", "after", *QUIET]) == 0

    values = pd.read_csv("after/cases.csv")["Toy"].tolist()
    assert values == pytest.approx([1 / 3, 1 / 3])  # 4 of 12 voxels
    assert cli.main(["compare", "before", "after", "-o", "comparison"]) == 0
    for name in ("before", "after"):
        assert cli.main(["report", name, "-o", f"{name}.html", *QUIET]) == 0
