"""What `FCADenseTrainer` expects of the networks that it trains on stacks.

Every network of the paper maps stacks ``(B, C, H, W)`` to logits ``(B, K, H, W)`` and
ends in a convolution, its *head*, that starts at a small probability of lesion.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nnunet_cel.networks.initialization import (
    initialize_convolutions,
    initialize_head,
)

__all__ = ["SliceNetwork"]


class SliceNetwork(nn.Module):
    """Base of the slice networks: stacks ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    A subclass sets ``head``, its last convolution, calls `reset_parameters`, and maps
    stacks to logits in ``_logits``. Where it can halve certain edges only, slices are
    padded with zeros at their far ends, and the logits there are cut off again.

    Args:
        input_channels: Channels of the input, ``C``.
        lesion_prior: Probability of lesion that the untrained network puts out.
        minimum_extent: Height and width in voxels that the input must have at least.
        multiple: Slices are padded to multiples of this number of voxels.
    """

    head: nn.Conv2d

    def __init__(
        self,
        input_channels: int,
        *,
        lesion_prior: float,
        minimum_extent: int = 1,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.lesion_prior = lesion_prior
        self.minimum_extent = minimum_extent
        self.multiple = multiple

    def forward(self, stacks: Tensor) -> Tensor:
        """Map stacks ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

        Raises:
            ValueError: If the stacks have another number of channels than the network,
                or are smaller than ``minimum_extent``.
        """
        self._check_input(stacks)
        height, width = stacks.shape[2:]
        below, right = -height % self.multiple, -width % self.multiple
        if below or right:
            stacks = F.pad(stacks, (0, right, 0, below))
        return self._logits(stacks)[..., :height, :width]

    def _logits(self, stacks: Tensor) -> Tensor:
        """Map stacks whose edges are multiples of ``multiple`` to logits."""
        raise NotImplementedError

    def reset_parameters(self, *, heads: str = "softmax") -> None:
        """Draw new weights: He for convolutions, the lesion prior for the head.

        Args:
            heads: ``"softmax"`` or ``"sigmoid"``, what the logits are meant for.
        """
        initialize_convolutions(self)
        initialize_head(self.head, lesion_prior=self.lesion_prior, heads=heads)

    def load_initial_weights(self) -> str:
        """Load the weights that a training from scratch starts from, if there are any.

        The trainer calls it once, when a training starts and neither a checkpoint nor
        ``-pretrained_weights`` gives the weights; predictions never do.

        Returns:
            A sentence for the log.
        """
        return "Initial weights: random."

    def _check_input(self, stacks: Tensor) -> None:
        if stacks.shape[1] != self.input_channels:
            raise ValueError(
                f"{type(self).__name__} must get stacks with {self.input_channels} "
                f"channels. Got {stacks.shape[1]} instead."
            )
        height, width = stacks.shape[2:]
        if min(height, width) < self.minimum_extent:
            raise ValueError(
                f"{type(self).__name__} must get slices of at least "
                f"{self.minimum_extent} x {self.minimum_extent} voxels. Got "
                f"{height} x {width} instead."
            )
