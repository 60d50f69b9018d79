"""What `FCADenseTrainer` expects of the networks that it trains on stacks.

Every network of the paper maps stacks ``(B, C, H, W)`` to logits ``(B, K, H, W)`` and
ends in a convolution, its *head*, that starts at a small probability of lesion: from
probability 1/2, with few lesion voxels, background would dominate the first iterations
of the focal loss, and networks collapse to empty output (T.-Y. Lin et al., "Focal Loss
for Dense Object Detection", section 3.3; the paper's reference 38).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SliceNetwork", "initialize_convolutions"]


class SliceNetwork(nn.Module):
    """Base of the slice networks: stacks ``(B, C, H, W)`` to logits ``(B, K, H, W)``.

    A subclass sets ``head``, its last convolution, calls `reset_parameters`, and maps
    stacks to logits in ``_logits``. Where it can halve certain edges only, slices are
    padded with zeros at their far ends, and the logits there are cut off again.

    Args:
        input_channels: Channels of the input, ``C``.
        lesion_prior: Probability of lesion that the untrained network puts out.
        multiple: Slices are padded to multiples of this number of voxels.
    """

    head: nn.Conv2d

    def __init__(
        self, input_channels: int, *, lesion_prior: float, multiple: int = 1
    ) -> None:
        super().__init__()
        self.input_channels = input_channels
        self.lesion_prior = lesion_prior
        self.multiple = multiple

    def forward(self, stacks: Tensor) -> Tensor:
        """Map stacks ``(B, C, H, W)`` to logits ``(B, K, H, W)``."""
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
        self._reset_head(heads)

    def _reset_head(self, heads: str) -> None:
        """Make the head put out the prior: of each region, or of all foreground."""
        # a He-sized head would drown the prior with the variance of its input
        nn.init.normal_(self.head.weight, std=0.01)
        bias, count = self.head.bias, self.head.out_channels
        assert bias is not None
        log_odds = math.log(self.lesion_prior / (1 - self.lesion_prior))
        values = [log_odds] * count
        if heads == "softmax" and count > 1:  # channel 0 is background
            values = [0.0] + [log_odds - math.log(count - 1)] * (count - 1)
        bias.data.copy_(bias.data.new_tensor(values))

    def load_initial_weights(self) -> str:
        """Load the weights that a training from scratch starts from, if there are any.

        The trainer calls it once, when a training starts and neither a checkpoint nor
        ``-pretrained_weights`` gives the weights, and logs the sentence returned.
        """
        return "Initial weights: random."


def initialize_convolutions(network: nn.Module) -> None:
    """Draw He weights for all convolutions of a network; biases become zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
