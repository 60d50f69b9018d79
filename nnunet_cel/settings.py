"""Settings of one configuration: the block ``"nnunet_cel"`` in the plans file.

Everything that nnU-Net's own plans have no key for (neighbors, loss, optimizer,
schedule, sampling) stands in one block of the configuration. It is parsed here, once,
into a frozen dataclass that checks every value. A configuration without a block, such
as one that stock nnU-Net planned, gets the defaults, which are the paper's values
(Huang et al. 2024, sections "Hyperparameter settings", "Focal loss in FCA-DenseNet"
and "2.5D MR image slicing strategy").
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BLOCK", "Settings"]

BLOCK = "nnunet_cel"

LOSSES = ("focal", "cross_entropy", "dice")
AUGMENTATIONS = ("paper", "nnunet")
HEADS = ("softmax", "sigmoid")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a configuration that nnU-Net's plans have no key for.

    Args:
        neighbor_pairs: Pairs of neighboring slices in a stack; a stack has
            ``2 * neighbor_pairs + 1`` slices (paper: 1).
        training_window: Edge length in voxels of the square windows that training
            crops from the slices. None stands for the patch size.
        loss: ``"focal"`` (paper Eq. 1), ``"cross_entropy"`` or ``"dice"`` (Table 7).
        lesion_weight: Weight of lesion voxels in the focal loss, in (0, 1); background
            voxels weigh ``1 - lesion_weight``.
        gamma: Focusing exponent of the focal loss, >= 0.
        learning_rate: Learning rate of Adam, constant.
        max_epochs: Epochs at most.
        patience: Training stops after this many epochs without a new best.
        iterations_per_epoch: Training batches in an epoch. None stands for one pass
            over the pool of lesion-bearing slices.
        validation_iterations: Batches in the fixed pool of the online validation, at
            most.
        oversample_foreground_percent: Share of a batch that holds lesion, in [0, 1];
            the rest is drawn from lesion-free slices (paper: 1).
        augmentation: ``"paper"`` (flips, rotation, shifts) or ``"nnunet"`` (the
            stock augmentation of nnU-Net's 2D training).
        test_time_mirroring: Whether nnU-Net mirrors at test time, 8 times the cost.
        slice_batch_size: Stacks per forward pass when a volume is predicted. None
            stands for a default that depends on the device.
        cpu_bfloat16: Whether the network runs in bfloat16 on CPUs that have native
            instructions for it (elsewhere it stays in float32).
        heads: ``"softmax"``, or ``"sigmoid"`` for region-based training. The planner
            and the trainer write it from the labels in ``dataset.json``.
        seed: Seed of sampling, augmentation and dropout. None draws a new one for
            every training.

    Raises:
        ValueError: If a value is out of its range or of the wrong type.
    """

    neighbor_pairs: int = 1
    training_window: int | None = None
    loss: str = "focal"
    lesion_weight: float = 0.75
    gamma: float = 1.0
    learning_rate: float = 2e-4
    max_epochs: int = 300
    patience: int = 50
    iterations_per_epoch: int | None = None
    validation_iterations: int = 50
    oversample_foreground_percent: float = 1.0
    augmentation: str = "paper"
    test_time_mirroring: bool = False
    slice_batch_size: int | None = None
    cpu_bfloat16: bool = False
    heads: str = "softmax"
    seed: int | None = 12345

    def __post_init__(self) -> None:
        _check_integer(self, "neighbor_pairs", minimum=0)
        _check_integer(self, "training_window", minimum=1, optional=True)
        _check_choice(self, "loss", LOSSES)
        _check_number(self, "lesion_weight", low=0.0, high=1.0, open_interval=True)
        _check_number(self, "gamma", low=0.0)
        _check_number(self, "learning_rate", low=0.0, open_interval=True)
        _check_integer(self, "max_epochs", minimum=1)
        _check_integer(self, "patience", minimum=1)
        _check_integer(self, "iterations_per_epoch", minimum=1, optional=True)
        _check_integer(self, "validation_iterations", minimum=1)
        _check_number(self, "oversample_foreground_percent", low=0.0, high=1.0)
        _check_choice(self, "augmentation", AUGMENTATIONS)
        _check_flag(self, "test_time_mirroring")
        _check_integer(self, "slice_batch_size", minimum=1, optional=True)
        _check_flag(self, "cpu_bfloat16")
        _check_choice(self, "heads", HEADS)
        _check_integer(self, "seed", minimum=0, optional=True)

    @property
    def stack_size(self) -> int:
        """Slices in a stack, ``2 * neighbor_pairs + 1``."""
        return 2 * self.neighbor_pairs + 1

    @classmethod
    def from_configuration(
        cls, configuration: Mapping[str, Any], *, name: str = "2d"
    ) -> Settings:
        """Parse the settings of a (resolved) nnU-Net configuration.

        Args:
            configuration: The configuration as nnU-Net's ``ConfigurationManager`` holds
                it, with or without our block.
            name: Name of the configuration, for error messages.

        Raises:
            ValueError: If the block is no object, has an unknown key, or a value that
                is not allowed. The message names setting and configuration.
        """
        block = configuration.get(BLOCK, {})
        if not isinstance(block, Mapping):
            raise ValueError(
                f"The {BLOCK!r} block of configuration {name!r} must be an object with "
                f"settings. Got {block!r} instead."
            )
        known = [field.name for field in dataclasses.fields(cls)]
        for key in block:
            if key not in known:
                closest = difflib.get_close_matches(str(key), known, n=1)
                hint = f" Did you mean {closest[0]!r}?" if closest else ""
                raise ValueError(
                    f"The {BLOCK!r} block of configuration {name!r} has the unknown "
                    f"setting {key!r}.{hint} Known settings: {', '.join(known)}."
                )
        try:
            return cls(**block)
        except ValueError as error:
            message = str(error).replace(
                " must be", f" of configuration {name!r} must be", 1
            )
            raise ValueError(message) from None

    def to_block(self) -> dict[str, Any]:
        """Return all settings as a JSON-ready dict, the block of the plans file."""
        return dataclasses.asdict(self)


def _fail(name: str, rule: str, value: object) -> None:
    raise ValueError(f"The {name!r} setting must be {rule}. Got {value!r} instead.")


def _check_integer(
    settings: Settings, name: str, *, minimum: int, optional: bool = False
) -> None:
    value = getattr(settings, name)
    if optional and value is None:
        return
    # bool is an int in Python; "neighbor_pairs": true is a mistake all the same
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        _fail(name, f"an integer >= {minimum}{' or null' if optional else ''}", value)


def _check_number(
    settings: Settings,
    name: str,
    *,
    low: float,
    high: float = math.inf,
    open_interval: bool = False,
) -> None:
    value = getattr(settings, name)
    if high == math.inf:
        rule = f"a number {'>' if open_interval else '>='} {low:g}"
    else:
        left, right = "()" if open_interval else "[]"
        rule = f"a number in {left}{low:g}, {high:g}{right}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(name, rule, value)
    inside = low < value < high if open_interval else low <= value <= high
    if not inside or value == math.inf:
        _fail(name, rule, value)


def _check_choice(settings: Settings, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(settings, name)
    if value not in choices:
        _fail(name, f"one of {', '.join(map(repr, choices))}", value)


def _check_flag(settings: Settings, name: str) -> None:
    value = getattr(settings, name)
    if not isinstance(value, bool):
        _fail(name, "true or false", value)
