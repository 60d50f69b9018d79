"""Attention-UNet: MONAI's network at the size of Table 2."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import AttentionUnet
from torch import nn

from nnunet_cel.networks import AttentionUNet


@pytest.mark.parametrize(
    ("channels", "num_classes", "parameters"),
    [(3, 1, 2_144_915), (3, 2, 2_144_936), (7, 2, 2_145_656)],
)
def test_parameter_counts_are_those_of_table_2(
    channels: int, num_classes: int, parameters: int
) -> None:
    """Table 2's 2.1 M, for one pair of neighbors and for three."""
    with torch.device("meta"):
        network = AttentionUNet(channels, num_classes)

    assert sum(p.numel() for p in network.parameters()) == parameters


def test_is_the_network_of_the_library() -> None:
    """MONAI's own network with the same weights gives the same logits."""
    network = AttentionUNet(5, 3, features=(4, 8, 12)).eval()
    oracle = AttentionUnet(2, 5, 3, channels=(4, 8, 12), strides=(2, 2)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    oracle.load_state_dict(
        {
            key.replace("network.", "model.").replace("head.", "model.2.conv."): value
            for key, value in network.state_dict().items()
        }
    )
    stacks = torch.randn(2, 5, 20, 16)

    torch.testing.assert_close(network(stacks), oracle(stacks))


def test_single_level_is_refused() -> None:
    """A U-Net without a second level is none."""
    with pytest.raises(ValueError, match=r"at least two levels. Got \[20\] instead"):
        AttentionUNet(3, 2, features=(20,))
