"""The planner: what it writes is what nnU-Net reads, for all kinds of data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunetv2.experiment_planning import plan_and_preprocess_api as api
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cel.planning.declarations import configurations
from nnunet_cel.planning.normalization import tissue_peak
from nnunet_cel.planning.planner import FCADensePlanner, normalization_of_channel
from nnunet_cel.settings import BLOCK, Settings

Writer = Callable[..., Path]


def plan(dataset: int, **kwargs: Any) -> dict[str, Any]:
    """Extract the fingerprint and plan, as nnUNetv2_plan_and_preprocess does."""
    api.extract_fingerprints([dataset], num_processes=1)
    plans: dict[str, Any]
    plans, _ = api.plan_experiment_dataset(dataset, FCADensePlanner, **kwargs)
    return plans


@pytest.fixture(scope="module")
def plans(planned_folders: Path) -> dict[str, Any]:
    """The plans of the tiny data set."""
    file = planned_folders / "preprocessed" / "Dataset501_Tiny" / "FCADensePlans.json"
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def test_base_configuration(plans: dict[str, Any]) -> None:
    """1 mm, S x S x S with S = 64 for 44 voxels, 16 stacks, KDE, FCA-DenseNet."""
    base = PlansManager(plans).get_configuration("2d")

    assert base.spacing == [1.0, 1.0, 1.0]
    assert base.patch_size == [64, 64, 64]
    assert base.batch_size == 16
    assert base.normalization_schemes == ["KDEHighestPeakNormalization"]
    assert base.network_arch_class_name == "nnunet_cel.networks.FCADenseNet"
    assert base.preprocessor_name == "FCADensePreprocessor"
    assert plans["plans_name"] == "FCADensePlans"
    assert plans["image_reader_writer"] == "SimpleITKIO"


def test_every_declared_configuration_is_planned(plans: dict[str, Any]) -> None:
    """nnU-Net resolves each; they share the data of ``2d`` and differ in settings."""
    manager = PlansManager(plans)
    for name, declared in configurations().items():
        configuration = manager.get_configuration(name)
        settings = Settings.from_configuration(configuration.configuration, name=name)

        assert configuration.data_identifier == "FCADensePlans_2d"
        assert configuration.patch_size == [64, 64, 64]
        assert settings == Settings(**declared["settings"])
        assert set(plans["configurations"][name][BLOCK]) == set(settings.to_block())


def test_preprocessed_cases(planned_folders: Path) -> None:
    """Cases are cropped to the head, their peak is 1, and they keep their labels."""
    folder = planned_folders / "preprocessed" / "Dataset501_Tiny" / "FCADensePlans_2d"
    dataset = nnUNetDatasetBlosc2(str(folder))

    for case in dataset.identifiers:
        image, segmentation, _, _ = dataset.load_case(case)
        assert tissue_peak(image[:][0], last=False) == pytest.approx(1, rel=0.01)
        assert set(np.unique(segmentation[:])) <= {-1, 0, 1}
    assert (segmentation[:] == 1).sum() == 0, "the last case is lesion-free"


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("FLAIR", "KDEHighestPeakNormalization"),
        ("T1-FLAIR", "KDEHighestPeakNormalization"),
        ("PD", "KDEHighestPeakNormalization"),
        ("T1w post Gd", "KDELastPeakNormalization"),
        ("t1ce", "KDELastPeakNormalization"),
        ("MPRAGE", "KDELastPeakNormalization"),
        ("noNorm", "NoNormalization"),
        ("CT", "CTNormalization"),
    ],
)
def test_normalization_by_channel_name(name: str, scheme: str) -> None:
    """T1w, with or without contrast: last peak. FLAIR and others: highest peak."""
    assert normalization_of_channel(name) == scheme


def test_several_channels_and_thick_slices(
    nnunet_folders: Path, dataset_writer: Writer
) -> None:
    """Two channels are normalized each in its way, 3 mm slices become 1 mm ones."""
    dataset_writer(
        nnunet_folders / "raw",
        "Dataset502_Thick",
        cases=2,
        channels=("FLAIR", "T1"),
        shape=(30, 34, 12),
        spacing=(1, 1, 3),
    )

    plans = plan(502)
    api.preprocess([502], "FCADensePlans", ["2d"], num_processes=[1])

    base = plans["configurations"]["2d"]
    assert base["normalization_schemes"] == [
        "KDEHighestPeakNormalization",
        "KDELastPeakNormalization",
    ]
    folder = nnunet_folders / "preprocessed" / "Dataset502_Thick" / "FCADensePlans_2d"
    image, _, _, _ = nnUNetDatasetBlosc2(str(folder)).load_case("case_00")
    assert image.shape[0] == 2
    assert max(image.shape[1:]) > 30
    # repeated slices would make two of three differences across slices zero
    axis = int(np.argmin(np.abs(np.array(image.shape[1:]) - 36)))
    steps = np.abs(np.diff(image[:][0], axis=axis)).mean(
        axis=tuple(other for other in range(3) if other != axis)
    )
    assert (steps > 1e-3).all()


def test_regions_get_sigmoid_heads(
    nnunet_folders: Path, dataset_writer: Writer
) -> None:
    """Labels that are regions are planned with sigmoid heads."""
    dataset_writer(
        nnunet_folders / "raw",
        "Dataset503_Regions",
        cases=2,
        labels={"background": 0, "whole": [1, 2], "core": 2},
    )
    file = nnunet_folders / "raw" / "Dataset503_Regions" / "dataset.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"regions_class_order": [1, 2]})
    )

    plans = plan(503)

    assert {c[BLOCK]["heads"] for c in plans["configurations"].values()} == {"sigmoid"}


def test_options_of_the_command_are_honored(
    nnunet_folders: Path, dataset_writer: Writer
) -> None:
    """Target spacing, name of the plans, memory target and preprocessor."""
    dataset_writer(nnunet_folders / "raw", "Dataset504_Options", cases=2)

    plans = plan(
        504,
        overwrite_target_spacing=(0.25, 0.25, 0.25),
        overwrite_plans_name="Mine",
        gpu_memory_target_in_gb=4,
        preprocess_class_name="SomeoneElses",
    )

    base = plans["configurations"]["2d"]
    assert (nnunet_folders / "preprocessed/Dataset504_Options/Mine.json").is_file()
    assert base["spacing"] == [0.25] * 3
    assert base["data_identifier"] == "Mine_2d"
    assert base["patch_size"] == [160] * 3  # the head is 40 mm long
    assert base["architecture"]["arch_kwargs"]["gradient_checkpointing"] is True
    assert base["batch_size"] == 16
    assert base["preprocessor_name"] == "SomeoneElses"
    small = plans["configurations"]["2d_64"]
    assert small["architecture"]["arch_kwargs"]["gradient_checkpointing"] is False


def test_configurations_of_the_user_survive(
    nnunet_folders: Path, dataset_writer: Writer
) -> None:
    """Planning again keeps what the user added to the plans file."""
    dataset_writer(nnunet_folders / "raw", "Dataset505_Again", cases=2)
    plan(505)
    file = nnunet_folders / "preprocessed" / "Dataset505_Again" / "FCADensePlans.json"
    edited = json.loads(file.read_text())
    edited["configurations"]["2d_mine"] = {"inherits_from": "2d", "batch_size": 3}
    file.write_text(json.dumps(edited))

    plan(505)

    assert PlansManager(str(file)).get_configuration("2d_mine").batch_size == 3


def test_2d_images_are_refused(nnunet_folders: Path, dataset_writer: Writer) -> None:
    """Images of one slice end in an error that names the data set and the cure."""
    dataset_writer(
        nnunet_folders / "raw", "Dataset506_Flat", cases=2, shape=(40, 40, 1)
    )

    with pytest.raises(
        ValueError, match=r"2 2D image\(s\).*Dataset506_Flat.*nnU-Net's"
    ):
        plan(506)
