"""U-Net, ResUNet and Attention-UNet: the libraries' networks, sized as in Table 2."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import (
    PlainConvUNet,
    ResidualEncoderUNet,
)
from dynamic_network_architectures.building_blocks.residual import BasicBlockD
from monai.networks.nets import AttentionUnet
from torch import nn

from nnunet_cel.networks import AttentionUNet, ResUNet, UNet

LIBRARY: dict[str, Any] = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 12],
    "conv_op": nn.Conv2d,
    "kernel_sizes": [[3, 3]] * 3,
    "strides": [[1, 1], [2, 2], [2, 2]],
    "num_classes": 3,
    "conv_bias": True,
    "norm_op": nn.BatchNorm2d,
    "nonlin": nn.ReLU,
}


@pytest.mark.parametrize(
    ("network", "oracle"),
    [
        (
            UNet(5, 3, features=(4, 8, 12), convs_per_level=1),
            PlainConvUNet(5, n_conv_per_stage=1, n_conv_per_stage_decoder=1, **LIBRARY),
        ),
        (
            ResUNet(5, 3, features=(4, 8, 12), blocks_per_level=3),
            ResidualEncoderUNet(
                5, n_blocks_per_stage=3, n_conv_per_stage_decoder=1, **LIBRARY
            ),
        ),
    ],
    ids=["UNet", "ResUNet"],
)
def test_is_the_network_of_the_library(
    network: UNet | ResUNet, oracle: nn.Module
) -> None:
    """The library's own network with the same weights gives the same logits."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    weights = {
        key.removeprefix("network."): value
        for key, value in network.state_dict().items()
    }
    for part in ("weight", "bias"):
        weights[f"decoder.seg_layers.1.{part}"] = weights.pop(f"head.{part}")
    unused = oracle.load_state_dict(weights, strict=False)
    stacks = torch.randn(2, 5, 20, 16)

    assert unused.unexpected_keys == []
    # of its heads, for deep supervision, ours has the last only
    assert {key.rsplit(".", 1)[0] for key in unused.missing_keys} == {
        "decoder.seg_layers.0"
    }
    torch.testing.assert_close(network.eval()(stacks), oracle.eval()(stacks))


def test_residual_branches_start_at_zero() -> None:
    """Every residual block starts as its skip connection."""
    network = ResUNet(3, 2, features=(4, 8)).eval()
    blocks = [m for m in network.modules() if isinstance(m, BasicBlockD)]
    features = torch.randn(1, 4, 8, 8)

    assert len(blocks) == 4
    with torch.inference_mode():
        torch.testing.assert_close(blocks[1](features), features.relu())


def test_attention_unet_is_the_network_of_monai() -> None:
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
