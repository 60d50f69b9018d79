"""The planner: what it writes is what nnU-Net reads, for all kinds of data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import plan_and_preprocess
from nnunetv2.experiment_planning import plan_and_preprocess_api as api
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cel.planning.declarations import configurations
from nnunet_cel.planning.normalization import tissue_peak
from nnunet_cel.planning.planner import FCADensePlanner, normalization_of_channel
from nnunet_cel.settings import BLOCK, Settings

Writer = Callable[..., Path]


def test_every_declared_configuration_is_planned(planned_folders: Path) -> None:
    """nnU-Net resolves each; they share the data of ``2d`` and differ in settings.

    1 mm, S x S x S with S = 64 for 44 voxels, 16 stacks, KDE, FCA-DenseNet.
    """
    file = planned_folders / "preprocessed" / "Dataset501_Tiny" / "FCADensePlans.json"
    manager = PlansManager(str(file))
    for name, declared in configurations().items():
        configuration = manager.get_configuration(name)
        settings = Settings.from_configuration(configuration.configuration, name=name)

        assert configuration.data_identifier == "FCADensePlans_2d"
        assert configuration.spacing == [1.0, 1.0, 1.0]
        assert configuration.patch_size == [64, 64, 64]
        assert configuration.batch_size == 16
        assert configuration.normalization_schemes == ["KDEHighestPeakNormalization"]
        assert configuration.preprocessor_name == "FCADensePreprocessor"
        assert settings == Settings(**declared["settings"])
        assert set(configuration.configuration[BLOCK]) == set(settings.to_block())
    base = manager.get_configuration("2d")
    assert base.network_arch_class_name == "nnunet_cel.networks.FCADenseNet"
    assert manager.plans_name == "FCADensePlans"
    assert manager.plans["image_reader_writer"] == "SimpleITKIO"


def test_preprocessed_cases(planned_folders: Path) -> None:
    """Cases are cropped to the head, their peak is 1, and they keep their labels."""
    folder = planned_folders / "preprocessed" / "Dataset501_Tiny" / "FCADensePlans_2d"
    dataset = nnUNetDatasetBlosc2(str(folder))

    for case in dataset.identifiers:
        image, segmentation, _, _ = dataset.load_case(case)
        assert tissue_peak(image[:][0], last=False) == pytest.approx(1, rel=0.01)
        assert set(np.unique(segmentation[:])) <= {-1, 0, 1}
    assert (segmentation[:] == 1).sum() == 0, "the last case is lesion-free"


def test_normalization_by_channel_name() -> None:
    """T1w, with or without contrast: last peak. FLAIR and others: highest peak."""
    for name in ("FLAIR", "T1-FLAIR", "PD"):
        assert normalization_of_channel(name) == "KDEHighestPeakNormalization"
    for name in ("T1w post Gd", "t1ce", "MPRAGE"):
        assert normalization_of_channel(name) == "KDELastPeakNormalization"
    assert normalization_of_channel("noNorm") == "NoNormalization"
    assert normalization_of_channel("CT") == "CTNormalization"


def test_several_channels_and_thick_slices(
    nnunet_folders: Path, dataset_writer: Writer
) -> None:
    """Two channels are normalized each in its way, 3 mm slices become 1 mm ones."""
    thick = {"shape": (16, 18, 8), "spacing": (1, 1, 3), "channels": ("FLAIR", "T1")}
    dataset_writer(nnunet_folders / "raw", "Dataset502_Thick", cases=1, **thick)

    plan_and_preprocess(502)

    folder = nnunet_folders / "preprocessed" / "Dataset502_Thick"
    plans = json.loads((folder / "FCADensePlans.json").read_text())
    schemes = plans["configurations"]["2d"]["normalization_schemes"]
    assert schemes == ["KDEHighestPeakNormalization", "KDELastPeakNormalization"]
    dataset = nnUNetDatasetBlosc2(str(folder / "FCADensePlans_2d"))
    image = dataset.load_case("case_00")[0][:]
    # SimpleITK puts the axis of the slices first; repeated slices would make two of
    # three differences along it zero
    assert len(image) == 2
    assert image.shape[1] > 16
    assert (np.abs(np.diff(image[0], axis=0)).mean(axis=(1, 2)) > 1e-3).all()


def test_options_of_the_command_are_honored(
    nnunet_folders: Path, dataset_writer: Writer
) -> None:
    """Target spacing, name, memory and preprocessor; regions get sigmoid heads.

    Planning again keeps what the user added to the plans file.
    """
    name = "Dataset504_Options"
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    raw = nnunet_folders / "raw"
    dataset_writer(raw, name, cases=1, shape=(20, 20, 16), labels=labels)
    file = nnunet_folders / "preprocessed" / name / "Mine.json"
    file.parent.mkdir()
    fingerprint = {
        "shapes_after_crop": [[16, 40, 20]],
        "spacings": [[1, 1, 1]],
        "foreground_intensity_properties_per_channel": {},
    }
    (file.parent / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    options = {
        "overwrite_target_spacing": (0.25, 0.25, 0.25),
        "overwrite_plans_name": "Mine",
        "gpu_memory_target_in_gb": 4,
        "preprocess_class_name": "SomeoneElses",
    }

    plans, _ = api.plan_experiment_dataset(504, FCADensePlanner, **options)
    edited = json.loads(file.read_text())
    edited["configurations"]["2d_mine"] = {"inherits_from": "2d", "batch_size": 3}
    file.write_text(json.dumps(edited))
    api.plan_experiment_dataset(504, FCADensePlanner, **options)

    base = plans["configurations"]["2d"]
    assert base["spacing"] == [0.25] * 3
    assert base["data_identifier"] == "Mine_2d"
    assert base["patch_size"] == [160] * 3  # 40 mm
    assert base["architecture"]["arch_kwargs"]["gradient_checkpointing"] is True
    assert base["batch_size"] == 16
    assert base["preprocessor_name"] == "SomeoneElses"
    small = plans["configurations"]["2d_64"]
    assert small["architecture"]["arch_kwargs"]["gradient_checkpointing"] is False
    assert {c[BLOCK]["heads"] for c in plans["configurations"].values()} == {"sigmoid"}
    assert PlansManager(str(file)).get_configuration("2d_mine").batch_size == 3

    fingerprint["shapes_after_crop"].append([1, 40, 20])
    (file.parent / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    with pytest.raises(ValueError, match=r"1 2D image\(s\).*Dataset504.*nnU-Net"):
        api.plan_experiment_dataset(504, FCADensePlanner)
