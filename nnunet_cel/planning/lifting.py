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
from nnunet_cel.planning.declarations import BASE_NETWORK, architecture
from nnunet_cel.planning.sizes import (
    BATCH_SIZE,
    MULTIPLE,
    cubic_extent,
    training_shapes,
)
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
        ValueError: If the configuration does not exist or is part of a cascade, or its
            settings, patch size or batch size are not allowed.
        FileNotFoundError: If stock plans have no ``dataset_fingerprint.json`` beside
            them.
    """
    plans = deepcopy(plans)
    known = plans["configurations"]
    if configuration not in known:
        raise ValueError(
            f"The plans {plans['plans_name']!r} of {plans['dataset_name']} must have "
            f"the configuration that is to be trained, {configuration!r}. They have "
            f"{', '.join(map(repr, known))}. Choose one of these, or plan it with "
            "nnUNetv2_plan_and_preprocess."
        )
    resolved = PlansManager(plans).get_configuration(configuration)
    if resolved.previous_stage_name is not None:
        raise ValueError(
            f"FCADenseTrainer cannot train {configuration!r}: it is the second stage "
            f"of a cascade after {resolved.previous_stage_name!r}. Choose '2d'."
        )
    entry = known[configuration]
    heirs, root = [], entry
    while "inherits_from" in root:
        heirs.append(root)
        root = known[root["inherits_from"]]
    # planner and trainer write this key, users do not
    if "heads" not in root.get(BLOCK, {}):
        chosen = {key for heir in heirs for key in heir}
        if "architecture" not in chosen:
            entry["architecture"] = architecture(BASE_NETWORK)
        if "batch_size" not in chosen:
            entry["batch_size"] = BATCH_SIZE
        if "patch_size" not in chosen:
            entry["patch_size"] = [_extent(plans, resolved, preprocessed)] * 3
    settings = Settings.from_configuration(resolved.configuration, name=configuration)
    labels = PlansManager(plans).get_label_manager(dataset_json)
    heads = "sigmoid" if labels.has_regions else "softmax"
    settings = settings.model_copy(update={"heads": heads})
    entry[BLOCK] = settings.to_block()
    resolved = PlansManager(plans).get_configuration(configuration)
    _check_numbers(resolved, settings, configuration)
    return plans, settings


def _check_numbers(resolved: Any, settings: Settings, name: str) -> None:
    patch_size, batch_size = list(resolved.patch_size), resolved.batch_size
    extent = patch_size[0]
    if patch_size != [extent] * 3 or extent < 1 or extent % MULTIPLE:
        raise ValueError(
            f"The 'patch_size' of configuration {name!r} must be [S, S, S], three "
            f"times the same multiple of {MULTIPLE} voxels. Got {patch_size} instead."
        )
    if (settings.training_window or extent) > extent:
        raise ValueError(
            f"The 'training_window' of configuration {name!r} must be at most the "
            f"patch size, {extent} voxels. Got {settings.training_window} instead."
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"The 'batch_size' of configuration {name!r} must be an integer >= 1. Got "
            f"{batch_size!r} instead."
        )


def _extent(plans: dict[str, Any], resolved: Any, preprocessed: str | None) -> int:
    file = Path(preprocessed or ".", plans["dataset_name"], "dataset_fingerprint.json")
    if not file.is_file():
        raise FileNotFoundError(
            f"Plans of stock nnU-Net must have their fingerprint beside them. {file} "
            "does not exist. Run nnUNetv2_extract_fingerprint."
        )
    shapes = training_shapes(
        read_json(file),
        spacing=resolved.spacing,
        transpose_forward=plans["transpose_forward"],
    )
    return cubic_extent(shapes)
