"""Initial weights: He for convolutions, a small lesion prior for the head.

With few lesion voxels, a head that starts at probability 1/2 makes background dominate
the first iterations of the focal loss, and networks collapse to empty output. Starting
at the log-odds of a small prior avoids it (T.-Y. Lin et al., "Focal Loss for Dense
Object Detection", section 3.3; the paper's reference 38).
"""

from __future__ import annotations

import math

from torch import nn

__all__ = ["initialize_convolutions", "initialize_head", "prior_bias"]


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


def initialize_head(head: nn.Conv2d, *, lesion_prior: float, heads: str) -> None:
    """Initialize the last convolution so that its output starts at the lesion prior."""
    # a He-sized head would drown the prior: its output has the variance of its input
    nn.init.normal_(head.weight, std=0.01)
    if head.bias is None:
        raise ValueError("The head must have a bias to start at the lesion prior.")
    biases = prior_bias(head.out_channels, lesion_prior=lesion_prior, heads=heads)
    head.bias.data.copy_(head.bias.data.new_tensor(biases))
