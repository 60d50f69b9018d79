"""A phantom and nnU-Net plans for it.

The plans of `make_plans` are what `FCADensePlanner` writes into configuration ``2d``
for a data set whose largest image is the phantom; those of `plan_as_stock` are what
nnU-Net's default planner writes.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning import plan_and_preprocess_api as api
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.training.dataloading.nnunet_dataset import (
    comp_blosc2_params,
    nnUNetDatasetBlosc2,
)
from nnunetv2.utilities.plans_handling.plans_handler import (
    ConfigurationManager,
    PlansManager,
)

from benchmarks._process import in_fresh_process
from nnunet_cel.phantom.subject import Kind, make_subject
from nnunet_cel.planning.declarations import BASE, architecture
from nnunet_cel.planning.preprocessor import FCADensePreprocessor
from nnunet_cel.planning.sizes import cubic_extent
from nnunet_cel.settings import BLOCK, Settings
from nnunet_cel.training.trainer import FCADenseTrainer

__all__ = [
    "DATASET_JSON",
    "give_random_weights",
    "make_phantom",
    "make_plans",
    "plan_as_stock",
    "preprocess",
    "save_case",
    "write_raw_dataset",
]

DATASET_JSON: dict[str, Any] = {
    "channel_names": {"0": "CE-T1w"},
    "labels": {"background": 0, "lesion": 1},
    "file_ending": ".nii.gz",
}
_STOCK_ID = 998
_STOCK_DATASET = f"Dataset{_STOCK_ID}_Phantom"
# not a seed of `nnunet-cel phantom` or `demo`: no model was trained on these subjects
_SEED = 20_241


@functools.cache
def make_phantom(
    index: int, *, spacing: float, kind: Kind = "cel"
) -> tuple[np.ndarray, np.ndarray]:
    """Return image and label map, ``(1, Z, Y, X)`` as nnU-Net reads them.

    Args:
        index: Number of the subject.
        spacing: Voxel edge in mm.
        kind: ``"wmh"`` (FLAIR) or ``"cel"`` (CE-T1w).
    """
    subject = make_subject(kind, _SEED, index, spacing=spacing, head=False)
    image = subject.brain_image.voxels.T[None].astype(np.float32)
    return image, subject.lesions.voxels.T[None].astype(np.int16)


def make_plans(image: np.ndarray, *, spacing: float, **settings: Any) -> dict[str, Any]:
    """Return plans for an image ``(1, Z, Y, X)``.

    Args:
        image: Image that decides about the extent S.
        spacing: Target spacing in mm, along all axes.
        settings: Settings that differ from the defaults.
    """
    cropped, _, _ = crop_to_nonzero(image)
    extent = cubic_extent(np.array([cropped.shape[1:]]))
    resampling = {"order": 3, "order_z": 0, "force_separate_z": False}
    base = {
        "data_identifier": "FCADensePlans_2d",
        "preprocessor_name": FCADensePreprocessor.__name__,
        "batch_size": 16,
        "patch_size": [extent] * 3,
        "median_image_size_in_voxels": list(cropped.shape[1:]),
        "spacing": [spacing] * 3,
        "normalization_schemes": ["KDELastPeakNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**resampling, "is_seg": False},
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {
            **resampling,
            "is_seg": False,
            "order": 1,
        },
        "batch_dice": True,
        "architecture": architecture("fcadensenet"),
        BLOCK: Settings(**settings).to_block(),
    }
    return {
        "dataset_name": "Dataset999_Benchmark",
        "plans_name": "FCADensePlans",
        "original_median_spacing_after_transp": [spacing] * 3,
        "original_median_shape_after_transp": list(cropped.shape[1:]),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {BASE: base},
        "experiment_planner_used": "FCADensePlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
    }


def write_raw_dataset(
    folder: Path, phantom: tuple[np.ndarray, np.ndarray], *, spacing: float, cases: int
) -> Path:
    """Write a phantom as a raw data set of nnU-Net; return the data set's folder.

    Args:
        folder: What ``nnUNet_raw`` names.
        phantom: Image and label map.
        spacing: Voxel edge in mm.
        cases: How often the phantom is in it.
    """
    dataset = folder / _STOCK_DATASET
    for name, array in zip(("imagesTr", "labelsTr"), phantom, strict=True):
        (dataset / name).mkdir(parents=True)
        image = sitk.GetImageFromArray(array[0])
        image.SetSpacing([spacing] * 3)
        channel = "_0000" if name == "imagesTr" else ""
        for case in range(cases):
            sitk.WriteImage(image, dataset / name / f"phantom_{case}{channel}.nii.gz")
    (dataset / "dataset.json").write_text(
        json.dumps({**DATASET_JSON, "numTraining": cases})
    )
    return dataset


def plan_as_stock(
    phantom: tuple[np.ndarray, np.ndarray], *, spacing: float
) -> dict[str, Any]:
    """Return the plans that nnU-Net's default planner makes of a phantom.

    Args:
        phantom: Image and label map.
        spacing: Voxel edge in mm.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = {
            f"nnUNet_{each}": str(folder / each)
            for each in ("raw", "preprocessed", "results")
        }
        write_raw_dataset(folder / "raw", phantom, spacing=spacing, cases=2)
        # nnU-Net reads the variables when it is imported
        with mock.patch.dict(os.environ, variables):
            in_fresh_process(_plan, "ExperimentPlanner")
        (plans,) = (folder / "preprocessed" / _STOCK_DATASET).glob("*Plans.json")
        result: dict[str, Any] = json.loads(plans.read_text())
    return result


def _plan(planner: str) -> None:
    api.extract_fingerprints([_STOCK_ID], num_processes=1)
    api.plan_experiments([_STOCK_ID], planner)


def give_random_weights(predictor: Any, plans: dict[str, Any]) -> None:
    """Give nnU-Net's predictor the network of plans, with one channel, untrained."""
    torch.manual_seed(0)
    plans_manager = PlansManager(plans)
    configuration_manager = plans_manager.get_configuration(BASE)
    network = FCADenseTrainer.build_network_architecture(
        plans_manager, configuration_manager, 1, 2, enable_deep_supervision=False
    )
    predictor.manual_initialization(
        network,
        plans_manager,
        configuration_manager,
        [network.state_dict()],
        DATASET_JSON,
        FCADenseTrainer.__name__,
        None,
    )


def preprocess(
    phantom: tuple[np.ndarray, np.ndarray],
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    *,
    spacing: float,
    dataset_json: dict[str, Any] = DATASET_JSON,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return image, segmentation and properties as nnU-Net's preprocessing does.

    Args:
        phantom: Image and label map.
        plans_manager: Plans.
        configuration_manager: Configuration.
        spacing: Voxel edge of the phantom in mm.
        dataset_json: Description of the data set that was planned.
    """
    image, label = phantom
    data, segmentation, properties = FCADensePreprocessor(verbose=False).run_case_npy(
        image,
        label,
        {"spacing": [spacing] * 3},
        plans_manager,
        configuration_manager,
        dataset_json,
    )
    return data, segmentation, properties


def save_case(
    case: tuple[np.ndarray, np.ndarray, dict[str, Any]],
    path: Path,
    patch_size: Sequence[int],
) -> list[int]:
    """Write a case as nnU-Net's preprocessing does; return the image's chunks.

    Args:
        case: What `preprocess` returns.
        path: Files to write, without their endings.
        patch_size: Patch size that decides about chunks and blocks.
    """
    image, segmentation, properties = case
    image = image.astype(np.float32, copy=False)
    segmentation = segmentation.astype(np.int16, copy=False)
    blocks, chunks = comp_blosc2_params(image.shape, patch_size, image.itemsize)
    blocks_seg, chunks_seg = comp_blosc2_params(
        segmentation.shape, patch_size, segmentation.itemsize
    )
    nnUNetDatasetBlosc2.save_case(
        image,
        segmentation,
        properties,
        str(path),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )
    return list(chunks)
