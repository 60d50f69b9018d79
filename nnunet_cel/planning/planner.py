"""Plans the paper's networks and ablations as configurations of one plans file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import (
    channel_name_to_normalization_mapping,
)

from nnunet_cel.planning.declarations import BASE, architecture, configurations
from nnunet_cel.planning.normalization import (
    KDEHighestPeakNormalization,
    KDELastPeakNormalization,
)
from nnunet_cel.planning.preprocessor import FCADensePreprocessor
from nnunet_cel.planning.sizes import cubic_extent, fit_to_memory, training_shapes
from nnunet_cel.settings import BLOCK, Settings

__all__ = ["FCADensePlanner", "normalization_of_channel"]

SPACING = (1.0, 1.0, 1.0)  # mm, paper section "Data preprocessing and postprocessing"
GPU_MEMORY = 11.0  # GB of the paper's cards, section "Experimental environment"
AXES = [0, 1, 2]
T1_NAMES = ("t1", "mprage", "spgr", "bravo", "gado", "gd")


def normalization_of_channel(channel_name: str) -> str:
    """Return the name of the normalization scheme for a channel of ``dataset.json``.

    Names that nnU-Net itself gives a meaning (noNorm, zscore, CT, rescale_to_0_1,
    rgb_to_0_1) keep it. T1w names, with or without contrast, get the last peak of the
    density; all others, FLAIR above all, the highest.
    """
    name = channel_name.casefold()
    if name in channel_name_to_normalization_mapping:
        return str(channel_name_to_normalization_mapping[name].__name__)
    is_t1 = "flair" not in name and any(part in name for part in T1_NAMES)
    scheme = KDELastPeakNormalization if is_t1 else KDEHighestPeakNormalization
    return str(scheme.__name__)


class FCADensePlanner(default_experiment_planner.ExperimentPlanner):
    """Planner of ``FCADensePlans``; the arguments are those of nnU-Net's planner.

    Writes the configuration ``2d`` (volumes of S x S x S voxels of 1 mm, batches of 16
    stacks, KDE normalization, FCA-DenseNet) and all others that ``plans/`` declares.
    They differ in network and settings only and share the preprocessed data of ``2d``.

    ``gpu_memory_target_in_gb`` decides whether activations are recomputed instead of
    stored and, where that is not enough, lowers the batch size. Default: 11 GB.
    """

    def __init__(self, dataset_name_or_id: str | int, **options: Any) -> None:
        ours = {"gpu_memory_target_in_gb": GPU_MEMORY, "plans_name": "FCADensePlans"}
        if options.get("preprocessor_name") in (None, "DefaultPreprocessor"):
            options["preprocessor_name"] = FCADensePreprocessor.__name__
        super().__init__(dataset_name_or_id, **(ours | options))

    def plan_experiment(self) -> dict[str, Any]:
        """Plan all declared configurations, save the plans file and return the plans.

        Raises:
            ValueError: If the data set has 2D images.
        """
        fingerprint = self.dataset_fingerprint
        flat = sum(min(shape) < 2 for shape in fingerprint["shapes_after_crop"])
        if flat:
            raise ValueError(
                f"{type(self).__name__} must get volumes: FCA-DenseNet looks at slices "
                f"of three planes. Got {flat} 2D image(s), with a single slice that is "
                f"not empty, in {self.dataset_name}. Plan 2D data with nnU-Net's own "
                "planner."
            )
        spacing = [float(edge) for edge in self.overwrite_target_spacing or SPACING]
        shapes = training_shapes(fingerprint, spacing)
        extent = cubic_extent(shapes)
        planned = {
            name: ({} if name == BASE else {"inherits_from": BASE})
            | self._plan_training(declared, extent)
            for name, declared in configurations().items()
        }
        planned[BASE] |= self._plan_data(spacing, shapes, extent)
        # nnU-Net expects the description of the data set beside its plans
        folder = Path(nnUNet_preprocessed, self.dataset_name)
        shutil.copy(Path(self.raw_dataset_folder, "dataset.json"), folder)
        median_shape = np.median(fingerprint["shapes_after_crop"], axis=0).round()
        median_spacing = np.median(fingerprint["spacings"], axis=0)
        self.plans = {
            "dataset_name": self.dataset_name,
            "plans_name": self.plans_identifier,
            "original_median_spacing_after_transp": median_spacing.tolist(),
            "original_median_shape_after_transp": median_shape.astype(int).tolist(),
            "image_reader_writer": self.determine_reader_writer().__name__,
            "transpose_forward": AXES,  # all three planes are treated alike
            "transpose_backward": AXES,
            "configurations": planned,
            "experiment_planner_used": type(self).__name__,
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": fingerprint[
                "foreground_intensity_properties_per_channel"
            ],
        }
        # nnU-Net's planners print, too: there is no log at this stage
        print(
            f"{self.dataset_name}: volumes of {[extent] * 3} voxels of {spacing} mm, "
            f"batches of {planned[BASE]['batch_size']} stacks, normalization "
            f"{planned[BASE]['normalization_schemes']}. Configurations: "
            f"{', '.join(planned)}."
        )
        self.save_plans(self.plans)
        return self.plans

    def _plan_data(
        self, spacing: list[float], shapes: np.ndarray, extent: int
    ) -> dict[str, Any]:
        """Return what all configurations share: how the data are preprocessed."""
        data_fn, data_kwargs, seg_fn, seg_kwargs = self.determine_resampling()
        export_fn, export_kwargs = self.determine_segmentation_softmax_export_fn()
        # nnU-Net repeats thick slices instead of resampling across them, which suits
        # networks that do not look across them; ours does, in two of three planes
        in_all_directions = {"force_separate_z": False}
        key = "channel_names" if "channel_names" in self.dataset_json else "modality"
        channels = self.dataset_json[key].values()
        return {
            "data_identifier": self.generate_data_identifier(BASE),
            "preprocessor_name": self.preprocessor_name,
            "patch_size": [extent] * 3,
            "median_image_size_in_voxels": np.median(shapes, axis=0).tolist(),
            "spacing": spacing,
            "normalization_schemes": [normalization_of_channel(c) for c in channels],
            "use_mask_for_norm": [False] * len(channels),
            "resampling_fn_data": data_fn.__name__,
            "resampling_fn_seg": seg_fn.__name__,
            "resampling_fn_data_kwargs": data_kwargs | in_all_directions,
            "resampling_fn_seg_kwargs": seg_kwargs | in_all_directions,
            "resampling_fn_probabilities": export_fn.__name__,
            "resampling_fn_probabilities_kwargs": export_kwargs | in_all_directions,
            "batch_dice": True,
        }

    def _plan_training(self, declared: dict[str, Any], extent: int) -> dict[str, Any]:
        """Return what a configuration needs beyond the data: network and settings."""
        has_regions = any(
            isinstance(label, list) and len(label) > 1
            for label in self.dataset_json["labels"].values()
        )
        settings = Settings(
            **declared["settings"], heads="sigmoid" if has_regions else "softmax"
        )
        window = min(settings.training_window or extent, extent)
        batch_size, gradient_checkpointing = fit_to_memory(
            self.UNet_vram_target_GB, window=window, network=declared["network"]
        )
        return {
            "batch_size": batch_size,
            "architecture": architecture(
                declared["network"], gradient_checkpointing=gradient_checkpointing
            ),
            BLOCK: settings.to_block(),
        }
