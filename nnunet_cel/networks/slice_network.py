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

__all__ = ["SliceNetwork", "initialize_convolutions", "prior_bias"]


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
        channels, height, width = stacks.shape[1:]
        if channels != self.input_channels:
            raise ValueError(
                f"{type(self).__name__} must get stacks with {self.input_channels} "
                f"channels. Got {channels} instead."
            )
        if min(height, width) < self.minimum_extent:
            raise ValueError(
                f"{type(self).__name__} must get slices of at least "
                f"{self.minimum_extent} x {self.minimum_extent} voxels. Got "
                f"{height} x {width} instead."
            )
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
        # a He-sized head would drown the prior with the variance of its input
        nn.init.normal_(self.head.weight, std=0.01)
        bias, prior = self.head.bias, self.lesion_prior
        assert bias is not None
        values = prior_bias(len(bias), lesion_prior=prior, heads=heads)
        bias.data.copy_(bias.data.new_tensor(values))

    def load_initial_weights(self) -> str:
        """Load the weights that a training from scratch starts from, if there are any.

        The trainer calls it once, when a training starts and neither a checkpoint nor
        ``-pretrained_weights`` gives the weights; predictions never do.

        Returns:
            A sentence for the log.
        """
        return "Initial weights: random."


def initialize_convolutions(network: nn.Module) -> None:
    """Draw He weights for all convolutions of a network; biases become zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def prior_bias(num_heads: int, *, lesion_prior: float, heads: str) -> list[float]:
    """Return the biases that make an otherwise silent head put out the prior.

    Args:
        num_heads: Output channels of the head.
        lesion_prior: Probability of all foreground classes together (softmax) or of
            each region (sigmoid), in (0, 1).
        heads: ``"softmax"`` (channel 0 is background) or ``"sigmoid"``.
    """
    log_odds = math.log(lesion_prior / (1 - lesion_prior))
    if heads == "sigmoid" or num_heads == 1:
        return [log_odds] * num_heads
    foreground = num_heads - 1
    return [0.0] + [log_odds - math.log(foreground)] * foreground
