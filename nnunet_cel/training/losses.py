"""Losses on logits, in the shapes of nnU-Net's trainer.

Network output is ``(B, K, H, W)``. Targets are label maps ``(B, 1, H, W)`` for softmax
heads, where channel 0 of the output is background, or one-hot regions ``(B, K, H, W)``
for sigmoid heads; with an ignore label the target of sigmoid heads has one more channel
that is 1 where voxels are ignored.

The focal loss is Eq. 1 of Huang et al. 2024 with the factor y that its first term lacks
in print,

    FL(p, y) = - w y (1 - p)^gamma log(p) - (1 - w) (1 - y) p^gamma log(1 - p),

where w is the ``lesion_weight``. Reference: T.-Y. Lin et al., "Focal Loss for Dense
Object Detection", 2018.
"""

from __future__ import annotations

import inspect
import pydoc
from typing import Any

import torch
import torch.nn.functional as F
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.helpers import softmax_helper_dim1
from torch import Tensor, nn

from nnunet_cel.settings import LOSSES, Settings

__all__ = ["CrossEntropyLoss", "DiceLoss", "FocalLoss", "VoxelLoss", "build_loss"]


class VoxelLoss(nn.Module):
    """Base of all losses: a loss of voxels, averaged over those that are not ignored.

    A new loss defines `_voxel_loss` and stands in `nnunet_cel.settings.LOSSES`.

    Args:
        heads: ``"softmax"`` or ``"sigmoid"``.
        ignore_label: Label of voxels that do not count, None if there is none.
    """

    def __init__(self, *, heads: str, ignore_label: int | None) -> None:
        super().__init__()
        self.heads = heads
        self.ignore_label = ignore_label

    def _valid_and_target(self, target: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return a mask ``(B, 1, H, W)`` of valid voxels, and the target without it."""
        if self.ignore_label is None:
            return None, target
        if self.heads == "sigmoid":
            return target[:, -1:] == 0, target[:, :-1]
        valid = target != self.ignore_label
        return valid, torch.where(valid, target, 0)

    def _voxel_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every voxel, one that can be expanded to the target."""
        raise NotImplementedError

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over all voxels that are not ignored.

        Args:
            logits: Network output ``(B, K, H, W)`` in any floating point type; the loss
                is computed in float32, also under autocast.
            target: See the module's docstring.

        Returns:
            Scalar; 0 if every voxel is ignored.
        """
        with torch.autocast(logits.device.type, enabled=False):
            valid, target = self._valid_and_target(target)
            loss = self._voxel_loss(logits.float(), target)
            if valid is None:
                return loss.mean()
            valid = valid.expand_as(loss)
            return (loss * valid).sum() / valid.sum().clamp(min=1)


class FocalLoss(VoxelLoss):
    """Focal loss on logits (Huang et al. 2024, Eq. 1).

    With softmax heads p is the probability of a voxel's own class: lesion voxels of any
    class weigh ``lesion_weight``, background voxels ``1 - lesion_weight``. With sigmoid
    heads the binary loss is taken for every region and averaged over the regions. With
    ``gamma = 0`` it is weighted cross-entropy.

    Args:
        lesion_weight: Weight of lesion voxels, in (0, 1).
        gamma: Focusing exponent, >= 0.
        heads: ``"softmax"`` or ``"sigmoid"``.
        ignore_label: Label of voxels that do not count, None if there is none.
    """

    def __init__(
        self,
        *,
        lesion_weight: float = 0.75,
        gamma: float = 1.0,
        heads: str = "softmax",
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(heads=heads, ignore_label=ignore_label)
        self.lesion_weight = lesion_weight
        self.gamma = gamma

    def _voxel_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.heads == "sigmoid":
            lesion = target.to(logits.dtype)
            # -log p of the true class is softplus of the logit with its sign turned
            surprise = F.softplus(torch.where(lesion > 0.5, -logits, logits))
        else:
            lesion = (target > 0).to(logits.dtype)
            log_probabilities = logits.log_softmax(dim=1)
            surprise = -log_probabilities.gather(1, target.long())
        weight = self.lesion_weight * lesion + (1 - self.lesion_weight) * (1 - lesion)
        if self.gamma == 0:
            return weight * surprise
        # 1 - p without cancellation for p near 1. Its slope at 0, gamma < 1, is
        # infinite: the smallest normal number keeps the gradient finite.
        missing = (-torch.expm1(-surprise)).clamp(min=torch.finfo(logits.dtype).tiny)
        return weight * missing.pow(self.gamma) * surprise


class CrossEntropyLoss(VoxelLoss):
    """Cross-entropy (softmax heads) or its binary form (sigmoid heads), Table 7."""

    def _voxel_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.heads == "sigmoid":
            return F.binary_cross_entropy_with_logits(
                logits, target.to(logits.dtype), reduction="none"
            )
        return F.cross_entropy(logits, target[:, 0].long(), reduction="none")[:, None]


class DiceLoss(VoxelLoss):
    """nnU-Net's soft Dice loss over the batch, without background (Table 7).

    It is -1 for a perfect prediction, as in nnU-Net.

    Args:
        heads: ``"softmax"`` or ``"sigmoid"``.
        ignore_label: Label of voxels that do not count, None if there is none.
        ddp: Whether the Dice runs over the batches of all processes.
    """

    def __init__(
        self,
        *,
        heads: str = "softmax",
        ignore_label: int | None = None,
        ddp: bool = False,
    ) -> None:
        super().__init__(heads=heads, ignore_label=ignore_label)
        self.dice = MemoryEfficientSoftDiceLoss(
            apply_nonlin=torch.sigmoid if heads == "sigmoid" else softmax_helper_dim1,
            batch_dice=True,
            do_bg=heads == "sigmoid",
            smooth=1e-5,
            ddp=ddp,
        )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the negative soft Dice; arguments as in the module's docstring."""
        with torch.autocast(logits.device.type, enabled=False):
            valid, target = self._valid_and_target(target)
            loss: Tensor = self.dice(logits.float(), target, loss_mask=valid)
            return loss


def build_loss(
    settings: Settings, *, ignore_label: int | None, ddp: bool = False
) -> VoxelLoss:
    """Return the loss that the settings name.

    Its arguments are the settings of the same names, and what else is given here.

    Args:
        settings: Settings of the configuration.
        ignore_label: nnU-Net's ignore label, None if the data set has none.
        ddp: Whether training is distributed (the Dice loss gathers over processes).
    """
    loss: Any = pydoc.locate(LOSSES[settings.loss])
    known = settings.to_block() | {"ignore_label": ignore_label, "ddp": ddp}
    wanted = inspect.signature(loss).parameters
    built: VoxelLoss = loss(**{key: known[key] for key in wanted})
    return built
