"""What a study changes in the plans of its data sets, and so in its networks."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunet_cel.files import read_json, to_json, write_whole
from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.settings import BLOCK, Settings
from nnunet_cel.study.models import wmh_dataset
from nnunet_cel.study.study import Study

__all__ = ["adapt_plans", "count_parameters", "write_settings"]

_PLANS = "FCADensePlans.json"
_WINDOW = "training_window"


def write_settings(study: Study, preprocessed: Path, dataset: str) -> Path:
    """Write the settings of a study into the plans of a data set and return their file.

    Args:
        study: The study.
        preprocessed: nnU-Net's folder of preprocessed data sets.
        dataset: Name of the data set.

    Raises:
        FileNotFoundError: If the data set is not planned.
        ValueError: If a training window is larger than the planned volumes.
    """
    path = preprocessed / dataset / _PLANS
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no plans {path}. Plan the data set first: "
            f"nnUNetv2_plan_and_preprocess -d {dataset} -pl FCADensePlanner."
        )
    training = study.training
    pretrains = dataset == wmh_dataset(study)
    settings: dict[str, Any] = {}
    for given in (
        training.settings,
        training.pretraining if pretrains else training.finetuning,
    ):
        settings |= given.model_dump(exclude_unset=True)
    plans = adapt_plans(read_json(path), study, settings)
    write_whole(path, to_json(plans))
    return path


def adapt_plans(
    plans: Mapping[str, Any], study: Study, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return plans with the settings of a study in all configurations of the paper.

    What a configuration declares itself, such as the loss of `2d_ce`, stays.

    Args:
        plans: Plans of `FCADensePlanner`.
        study: The study.
        settings: Settings of the trainings on this data set.

    Raises:
        ValueError: If a training window is larger than the planned volumes.
    """
    changed = deepcopy(dict(plans))
    extent = plans["configurations"]["2d"]["patch_size"][0]
    for name, declared in configurations().items():
        entry = changed["configurations"][name]
        own = declared["settings"]
        block = entry[BLOCK]
        block |= {key: value for key, value in settings.items() if key not in own}
        if _WINDOW in own:
            block[_WINDOW] = study.training.small_window
        if (block[_WINDOW] or 0) > extent:
            key = "small_window" if _WINDOW in own else f"settings.{_WINDOW}"
            raise ValueError(
                f"The 'training.{key}' of the study must be at most the extent of the "
                f"volumes, {extent} voxels in {plans['dataset_name']}. Got "
                f"{block[_WINDOW]} instead."
            )
        if study.training.batch_size is not None:
            entry["batch_size"] = study.training.batch_size
        arguments = study.training.arch_kwargs.get(declared["network"], {})
        entry["architecture"]["arch_kwargs"] |= arguments
    return changed


def count_parameters(study: Study, configuration: str) -> int:
    """Return the parameters of the network of a configuration, with two heads.

    Raises:
        ValueError: If the network cannot be built from its arguments.
        ImportError: If it needs a package that is not installed.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    declared = configurations()[configuration]
    arguments = study.training.arch_kwargs.get(declared["network"], {})
    entry = architecture(declared["network"], **arguments)
    try:
        network = get_network_from_plans(
            entry["network_class_name"],
            entry["arch_kwargs"],
            entry["_kw_requires_import"],
            Settings(**declared["settings"]).stack_size,
            2,
            allow_init=False,
        )
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ValueError(
            f"The 'training.arch_kwargs.{declared['network']}' of the study must be "
            f"what the network takes. Got {arguments}: {error}"
        ) from error
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
