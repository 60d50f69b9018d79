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

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cel.planning.declarations import BASE, architecture, configurations
from nnunet_cel.planning.extent import cubic_extent, training_shapes
from nnunet_cel.planning.memory import BATCH_SIZE
from nnunet_cel.settings import BLOCK, Settings

__all__ = ["lift_plans"]


def lift_plans(
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
    *,
    preprocessed: str | None,
) -> dict[str, Any]:
    """Return a copy of plans whose configuration FCADenseTrainer can train.

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
    names = list(plans["configurations"])
    if configuration not in names:
        raise ValueError(
            f"The plans {plans['plans_name']!r} of {plans['dataset_name']} must have "
            f"the configuration that is to be trained, {configuration!r}. They have "
            f"{', '.join(map(repr, names))}. Choose one of these, or plan it with "
            "nnUNetv2_plan_and_preprocess."
        )
    entry = plans["configurations"][configuration]
    resolved = PlansManager(plans).get_configuration(configuration)
    if resolved.previous_stage_name is not None:
        raise ValueError(
            f"FCADenseTrainer cannot train {configuration!r}: it is the second stage "
            f"of a cascade after {resolved.previous_stage_name!r}. Choose '2d'."
        )
    *heirs, root = _ancestry(plans, configuration)
    # planner and trainer write this key, users do not
    if "heads" not in root.get(BLOCK, {}):
        chosen = {key for heir in heirs for key in heir}
        if "architecture" not in chosen:
            entry["architecture"] = architecture(configurations()[BASE]["network"])
        if "batch_size" not in chosen:
            entry["batch_size"] = BATCH_SIZE
        if "patch_size" not in chosen:
            entry["patch_size"] = [_extent(plans, resolved, preprocessed)] * 3
    settings = Settings.from_configuration(resolved.configuration, name=configuration)
    labels = PlansManager(plans).get_label_manager(dataset_json)
    heads = "sigmoid" if labels.has_regions else "softmax"
    entry[BLOCK] = settings.to_block() | {"heads": heads}
    _check_numbers(PlansManager(plans).get_configuration(configuration), configuration)
    return plans


def _ancestry(plans: dict[str, Any], configuration: str) -> list[dict[str, Any]]:
    """Return a configuration and all that it inherits from, the root last."""
    entries = [plans["configurations"][configuration]]
    while "inherits_from" in entries[-1]:
        entries.append(plans["configurations"][entries[-1]["inherits_from"]])
    return entries


def _check_numbers(resolved: Any, name: str) -> None:
    patch_size, batch_size = list(resolved.patch_size), resolved.batch_size
    if len(patch_size) != 3 or len(set(patch_size)) != 1 or patch_size[0] < 1:
        raise ValueError(
            f"The 'patch_size' of configuration {name!r} must be [S, S, S], three "
            f"equal numbers of voxels. Got {patch_size} instead."
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
        json.loads(file.read_text(encoding="utf-8")),
        spacing=resolved.spacing,
        transpose_forward=plans["transpose_forward"],
    )
    return cubic_extent(shapes)
