"""What a study changes in the plans of its data sets, and so in its networks."""

from __future__ import annotations

from pathlib import Path

from nnunet_cel.files import read_json, to_json, write_whole
from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.settings import BLOCK, Settings
from nnunet_cel.study.models import wmh_dataset
from nnunet_cel.study.study import Study

__all__ = ["count_parameters", "write_settings"]


def write_settings(study: Study, preprocessed: Path, dataset: str) -> Path:
    """Write the settings of a study into the plans of a data set and return their file.

    They go into all configurations of the paper. What a configuration declares itself,
    such as the loss of `2d_ce`, stays.

    Args:
        study: The study.
        preprocessed: nnU-Net's folder of preprocessed data sets.
        dataset: Name of the data set, which `FCADensePlanner` planned.

    Raises:
        FileNotFoundError: If the data set is not planned.
    """
    path = preprocessed / dataset / "FCADensePlans.json"
    plans = read_json(path)
    training = study.training
    pretrains = dataset == wmh_dataset(study)
    own = training.pretraining if pretrains else training.finetuning
    settings = training.settings.model_dump(exclude_unset=True)
    settings |= own.model_dump(exclude_unset=True)
    for name, declared in configurations().items():
        entry = plans["configurations"][name]
        entry[BLOCK] |= settings | declared["settings"]
        if "training_window" in declared["settings"]:
            entry[BLOCK]["training_window"] = training.small_window
        if training.batch_size is not None:
            entry["batch_size"] = training.batch_size
        arguments = training.arch_kwargs.get(declared["network"], {})
        entry["architecture"]["arch_kwargs"] |= arguments
    write_whole(path, to_json(plans))
    return path


def count_parameters(study: Study, configuration: str) -> int:
    """Return the parameters of the network of a configuration, with two heads.

    Raises:
        ValueError: If the network cannot be built from its arguments.
        ImportError: If it needs a package that is not installed.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    declared = configurations()[configuration]
    arguments = study.training.arch_kwargs.get(declared["network"], {})
    entry = architecture(declared["network"])
    try:
        network = get_network_from_plans(
            entry["network_class_name"],
            entry["arch_kwargs"] | arguments,
            entry["_kw_requires_import"],
            Settings(**declared["settings"]).stack_size,
            2,
            allow_init=False,
        )
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"The 'training.arch_kwargs.{declared['network']}' of the study must be "
            f"what the network takes. Got {arguments}: {error}"
        ) from error
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
