"""Settings of one configuration: the block ``"nnunet_cel"`` in the plans file.

Everything that nnU-Net's own plans have no key for (neighbors, loss, optimizer,
schedule, sampling) stands in one block of the configuration. A configuration without a
block, such as one that stock nnU-Net planned, gets the defaults, which are the paper's
values (Huang et al. 2024, sections "Hyperparameter settings", "Focal loss in
FCA-DenseNet" and "2.5D MR image slicing strategy").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from nnunet_cel.schema import Model, closest, parse

__all__ = ["BLOCK", "LOSSES", "Settings"]

BLOCK = "nnunet_cel"

LOSSES = {
    "focal": "nnunet_cel.training.losses.FocalLoss",
    "cross_entropy": "nnunet_cel.training.losses.CrossEntropyLoss",
    "dice": "nnunet_cel.training.losses.DiceLoss",
}
"""The losses by name. Import paths, because reading settings must not import torch."""


class Settings(Model):
    """All settings of a configuration that nnU-Net's plans have no key for.

    Args:
        neighbor_pairs: Pairs of neighboring slices in a stack; a stack has
            ``2 * neighbor_pairs + 1`` slices (paper: 1).
        training_window: Edge length in voxels of the square windows that training
            crops from the slices. None stands for the patch size.
        loss: ``"focal"`` (paper Eq. 1), ``"cross_entropy"`` or ``"dice"`` (Table 7), or
            another name in `LOSSES`.
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

    neighbor_pairs: NonNegativeInt = 1
    training_window: PositiveInt | None = None
    loss: str = "focal"
    lesion_weight: float = Field(default=0.75, gt=0, lt=1)
    gamma: float = Field(default=1.0, ge=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    max_epochs: PositiveInt = 300
    patience: PositiveInt = 50
    iterations_per_epoch: PositiveInt | None = None
    validation_iterations: PositiveInt = 50
    oversample_foreground_percent: float = Field(default=1.0, ge=0, le=1)
    augmentation: Literal["paper", "nnunet"] = "paper"
    test_time_mirroring: bool = False
    slice_batch_size: PositiveInt | None = None
    cpu_bfloat16: bool = False
    heads: Literal["softmax", "sigmoid"] = "softmax"
    seed: NonNegativeInt | None = 12345

    @field_validator("loss")
    @classmethod
    def _is_known_loss(cls, name: str) -> str:
        if name not in LOSSES:
            raise ValueError(
                f"must be one of {', '.join(map(repr, LOSSES))}. Got {name!r} instead."
                f"{closest(name, LOSSES)}"
            )
        return name

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
        what = f"the block {BLOCK!r} of configuration {name!r}"
        return parse(cls, configuration.get(BLOCK, {}), what)

    def to_block(self) -> dict[str, Any]:
        """Return all settings as a JSON-ready dict, the block of the plans file."""
        return self.model_dump()
