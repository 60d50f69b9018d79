"""Completes plans for FCADenseTrainer, in a copy.

Plans of stock nnU-Net know nothing of our settings, and their 2D patches are no
volumes. *Lifting* gives such a configuration what `FCADensePlanner` would have given
it: the paper's network and batch size, and a patch of S x S x S voxels, because the
model is a volume model that looks at slices. What stock nnU-Net planned is replaced;
what the user chose, in settings or in a configuration that inherits, is kept. The
lifted plans are what nnU-Net saves beside the weights, so prediction needs nothing
else.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cel.files import read_json
from nnunet_cel.planning import sizes
from nnunet_cel.planning.declarations import BASE_NETWORK, architecture
from nnunet_cel.settings import BLOCK, Settings

__all__ = ["lift_plans"]


def lift_plans(
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    *,
    preprocessed: str | None,
) -> tuple[dict[str, Any], Settings]:
    """Return a copy of plans that FCADenseTrainer can train, and its settings.

    Args:
        plans: Plans of `FCADensePlanner` or of stock nnU-Net.
        configuration: Name of the configuration.
        dataset_json: The data set's ``dataset.json``.
        preprocessed: Folder ``nnUNet_preprocessed``, None if it is not set.

    Raises:
        RuntimeError: If the configuration does not exist.
        ValueError: If it is part of a cascade, or its settings or patch size are not
            allowed.
        FileNotFoundError: If stock plans have no ``dataset_fingerprint.json`` beside
            them.
    """
    plans = deepcopy(plans)
    known = plans["configurations"]
    resolved = PlansManager(plans).get_configuration(configuration)
    if resolved.previous_stage_name is not None:
        raise ValueError(
            f"FCADenseTrainer cannot train {configuration!r}, the second stage of a "
            "cascade. Choose '2d'."
        )
    entry = known[configuration]
    chosen, root = set(), entry
    while "inherits_from" in root:
        chosen |= root.keys()
        root = known[root["inherits_from"]]
    # planner and trainer write this key, users do not
    if "heads" not in root.get(BLOCK, {}):
        if "architecture" not in chosen:
            entry["architecture"] = architecture(BASE_NETWORK)
        if "batch_size" not in chosen:
            entry["batch_size"] = sizes.BATCH_SIZE
        if "patch_size" not in chosen:
            entry["patch_size"] = [_extent(plans, resolved, preprocessed)] * 3
    settings = Settings.from_configuration(resolved.configuration, name=configuration)
    labels = PlansManager(plans).get_label_manager(dataset_json)
    heads = "sigmoid" if labels.has_regions else "softmax"
    settings = settings.model_copy(update={"heads": heads})
    entry[BLOCK] = settings.to_block()
    patch_size = list(PlansManager(plans).get_configuration(configuration).patch_size)
    extent = patch_size[0]
    if patch_size != [extent] * 3 or extent < 1 or extent % sizes.MULTIPLE:
        raise ValueError(
            f"The 'patch_size' of configuration {configuration!r} must be [S, S, S], "
            f"three times the same multiple of {sizes.MULTIPLE} voxels. Got "
            f"{patch_size} instead."
        )
    if (settings.training_window or extent) > extent:
        raise ValueError(
            f"The 'training_window' of configuration {configuration!r} must be at most "
            f"the patch size, {extent} voxels. Got {settings.training_window} instead."
        )
    return plans, settings


def _extent(plans: dict[str, Any], resolved: Any, preprocessed: str | None) -> int:
    file = Path(preprocessed or ".", plans["dataset_name"], "dataset_fingerprint.json")
    if not file.is_file():
        raise FileNotFoundError(
            f"Plans of stock nnU-Net must have their fingerprint beside them. {file} "
            "does not exist. Run nnUNetv2_extract_fingerprint."
        )
    order = plans["transpose_forward"]
    shapes = sizes.training_shapes(read_json(file), resolved.spacing, order)
    return sizes.cubic_extent(shapes)
