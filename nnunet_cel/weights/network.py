"""Builds networks without memory, to compare their tensors with those of a file."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nnunetv2
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.label_handling.label_handling import (
    determine_num_input_channels,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from nnunet_cel.discovery import CLASSES
from nnunet_cel.weights.plans import refuse

__all__ = ["build_network", "check_fit", "find_trainer", "tied_tensors"]

_MOST_MODULES = 10_000  # the largest network here, TransUNet, has some 500


def find_trainer(name: str) -> type[nnUNetTrainer]:
    """Return a trainer's class: one of ours, or one that nnU-Net brings.

    Unlike nnU-Net's look-up, this one takes no other objects of nnU-Net's modules and
    searches no folders of the user.

    Raises:
        ValueError: If there is no such trainer.
    """
    rule = "FCADenseTrainer, or a trainer nnUNetTrainer... that nnU-Net brings"
    found: Any = None
    if name == "FCADenseTrainer":
        found = getattr(importlib.import_module(CLASSES[name]), name)
    elif re.fullmatch("nnUNetTrainer[A-Za-z0-9_]{0,99}", name):
        root = nnunetv2.__path__[0]
        found = recursive_find_python_class(
            str(Path(root, "training", "nnUNetTrainer")),
            name,
            "nnunetv2.training.nnUNetTrainer",
            root,
        )
    if not isinstance(found, type) or not issubclass(found, nnUNetTrainer):
        raise refuse("trainer", rule, name)
    return found


def build_network(
    plans: dict[str, Any], dataset: dict[str, Any], *, configuration: str, trainer: str
) -> nn.Module:
    """Build the network of checked plans on the meta device, as the predictor does.

    Args:
        plans: Plans that `check_plans` has let pass.
        dataset: ``dataset.json`` that `check_dataset` has let pass.
        configuration: Name of the configuration.
        trainer: Name of the trainer's class.

    Raises:
        ImportError: If the network needs a package that is not installed.
        ValueError: If the trainer is unknown, or no network can be built of the plans.
    """
    trainer_class = find_trainer(trainer)
    manager = PlansManager(plans)
    entry = manager.get_configuration(configuration)
    try:
        with torch.device("meta"), _few_modules():
            network: nn.Module = trainer_class.build_network_architecture(
                manager,
                entry,
                determine_num_input_channels(manager, entry, dataset),
                manager.get_label_manager(dataset).num_segmentation_heads,
                enable_deep_supervision=False,
            )
    except ImportError:
        raise
    except Exception as error:
        # strange numbers make the libraries of networks raise almost anything
        raise ValueError(
            f"The plans must describe a network. {entry.network_arch_class_name} "
            f"cannot be built of configuration {configuration!r}: {error!r:.300}."
        ) from error
    return network


def tied_tensors(network: nn.Module) -> dict[str, str]:
    """Return the names of tied tensors, each with the name that files store it under.

    The names are those of the state dict; a tensor's first name is the stored one.
    """
    first: dict[int, str] = {}
    tied = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        stored = first.setdefault(id(tensor), name)
        if stored != name:
            tied[name] = stored
    return tied


def check_fit(
    weights: Mapping[str, Tensor], network: nn.Module, *, source: Path | str
) -> None:
    """Refuse weights that are not those of a network, by name, shape and kind.

    Args:
        weights: Tensors by name, on any device, meta included.
        network: The network, on any device.
        source: What to call the weights in messages.

    Raises:
        ValueError: If a name is missing or unknown, a shape is another, or integers
            stand where fractions belong. The message names the first of them.
    """
    expected: dict[str, Tensor] = network.state_dict()
    problems = [f"{name!r} is missing" for name in expected if name not in weights]
    problems += [
        f"{name!r:.100} is unknown" for name in weights if name not in expected
    ]
    for name, tensor in expected.items():
        got = weights.get(name)
        if got is None:
            continue
        if got.shape != tensor.shape:
            problems.append(
                f"{name!r} has shape {tuple(got.shape)}, not {tuple(tensor.shape)}"
            )
        elif got.is_floating_point() != tensor.is_floating_point() or got.is_complex():
            problems.append(f"{name!r} is of {got.dtype}, not {tensor.dtype}")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"The weights in {source} must be those of the network that the plans "
            f"describe. {'; '.join(problems[:3])}{more}: the plans are those of "
            "another model, or of another configuration."
        )


@contextmanager
def _few_modules() -> Iterator[None]:
    """Raise when a network of far too many modules is built, before it takes hours."""
    count = 0

    def check(module: nn.Module, name: str, submodule: nn.Module | None) -> None:
        nonlocal count
        count += 1
        if count > _MOST_MODULES:
            raise ValueError(f"it has more than {_MOST_MODULES} modules")

    hook = register_module_module_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()
