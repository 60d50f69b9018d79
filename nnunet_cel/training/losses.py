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
        settings: Settings of the configuration; ``heads`` says what the target is.
        ignore_label: Label of voxels that do not count, None if there is none.
        ddp: Whether training is distributed.
    """

    def __init__(
        self, settings: Settings, *, ignore_label: int | None = None, ddp: bool = False
    ) -> None:
        super().__init__()
        self.settings = settings
        self.sigmoid = settings.heads == "sigmoid"
        self.ignore_label = ignore_label
        self.ddp = ddp

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: Network output ``(B, K, H, W)`` in any floating point type; the loss
                is computed in float32, also under autocast.
            target: See the module's docstring.

        Returns:
            Scalar; 0 if every voxel is ignored.
        """
        with torch.autocast(logits.device.type, enabled=False):
            valid = None
            if self.ignore_label is not None and self.sigmoid:
                valid, target = target[:, -1:] == 0, target[:, :-1]
            elif self.ignore_label is not None:
                valid = target != self.ignore_label
                target = torch.where(valid, target, 0)
            return self._loss(logits.float(), target, valid)

    def _loss(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        """Return the mean over the voxels that ``valid`` ``(B, 1, H, W)`` marks."""
        loss = self._voxel_loss(logits, target)
        if valid is None:
            return loss.mean()
        valid = valid.expand_as(loss)
        return (loss * valid).sum() / valid.sum().clamp(min=1)

    def _voxel_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every voxel, one that can be expanded to the target."""
        raise NotImplementedError


class FocalLoss(VoxelLoss):
    """Focal loss on logits (Huang et al. 2024, Eq. 1).

    With softmax heads p is the probability of a voxel's own class: lesion voxels of any
    class weigh ``lesion_weight``, background voxels ``1 - lesion_weight``. With sigmoid
    heads the binary loss is taken for every region and averaged over the regions. With
    ``gamma = 0`` it is weighted cross-entropy.
    """

    def _voxel_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.sigmoid:
            lesion = target.to(logits.dtype)
            # -log p of the true class is softplus of the logit with its sign turned
            surprise = F.softplus(torch.where(lesion > 0.5, -logits, logits))
        else:
            lesion = (target > 0).to(logits.dtype)
            log_probabilities = logits.log_softmax(dim=1)
            surprise = -log_probabilities.gather(1, target.long())
        lesion_weight, gamma = self.settings.lesion_weight, self.settings.gamma
        weight = lesion_weight * lesion + (1 - lesion_weight) * (1 - lesion)
        if gamma == 0:
            return weight * surprise
        # 1 - p without cancellation for p near 1. Its slope at 0, gamma < 1, is
        # infinite: the smallest normal number keeps the gradient finite.
        missing = (-torch.expm1(-surprise)).clamp(min=torch.finfo(logits.dtype).tiny)
        return weight * missing.pow(gamma) * surprise


class CrossEntropyLoss(VoxelLoss):
    """Cross-entropy (softmax heads) or its binary form (sigmoid heads), Table 7."""

    def _voxel_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        if self.sigmoid:
            return F.binary_cross_entropy_with_logits(
                logits, target.to(logits.dtype), reduction="none"
            )
        return F.cross_entropy(logits, target[:, 0].long(), reduction="none")[:, None]


class DiceLoss(VoxelLoss):
    """nnU-Net's soft Dice loss over the batch, without background (Table 7).

    It is -1 for a perfect prediction, as in nnU-Net. The batch is that of all
    processes.
    """

    def _loss(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        dice = MemoryEfficientSoftDiceLoss(
            apply_nonlin=torch.sigmoid if self.sigmoid else softmax_helper_dim1,
            batch_dice=True,
            do_bg=self.sigmoid,
            smooth=1e-5,
            ddp=self.ddp,
        )
        loss: Tensor = dice(logits, target, loss_mask=valid)
        return loss


def build_loss(
    settings: Settings, *, ignore_label: int | None, ddp: bool = False
) -> VoxelLoss:
    """Return the loss that the settings name; see `VoxelLoss` for the arguments."""
    loss: Any = pydoc.locate(LOSSES[settings.loss])
    built: VoxelLoss = loss(settings, ignore_label=ignore_label, ddp=ddp)
    return built
