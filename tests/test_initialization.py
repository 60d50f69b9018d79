"""Initial weights: the untrained network puts out the lesion prior."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunet_cel.networks.initialization import (
    initialize_convolutions,
    initialize_head,
    prior_bias,
)


@pytest.mark.parametrize("num_heads", [2, 3, 5])
def test_softmax_bias_gives_all_foreground_together_the_prior(num_heads: int) -> None:
    """Softmax of the bias: background has 1 - prior, the classes share the prior."""
    bias = prior_bias(num_heads, lesion_prior=0.02, heads="softmax")

    probabilities = torch.tensor(bias).softmax(0)

    assert probabilities[0].item() == pytest.approx(0.98)
    share = [0.02 / (num_heads - 1)] * (num_heads - 1)
    assert probabilities[1:].tolist() == pytest.approx(share)


def test_sigmoid_bias_gives_every_region_the_prior() -> None:
    """Sigmoid of the bias is the prior for every region."""
    bias = prior_bias(3, lesion_prior=0.02, heads="sigmoid")

    assert torch.tensor(bias).sigmoid().tolist() == pytest.approx([0.02] * 3)


def test_convolutions_keep_the_variance_of_relu_features() -> None:
    """He: through ten convolutions with ReLU the second moment stays of order one."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(10):
        layers += [nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular"), nn.ReLU()]
    network = nn.Sequential(*layers)
    initialize_convolutions(network)

    with torch.no_grad():
        moment = network(torch.randn(4, 64, 16, 16)).square().mean().item()

    assert 0.1 < moment < 3


def test_head_without_bias_is_refused() -> None:
    """A head that cannot hold the prior is an error."""
    with pytest.raises(ValueError, match="must have a bias"):
        initialize_head(
            nn.Conv2d(4, 2, 1, bias=False), lesion_prior=0.01, heads="softmax"
        )
