"""TransUNet: timm's hybrid, position embeddings of any extent, pretrained files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import timm.layers
import timm.models.resnetv2
import torch
from safetensors.torch import save_file
from timm.layers import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from nnunet_cel.networks import TransUNet

SMALL: dict[str, Any] = {
    "position_extent": 64,
    "backbone_layers": (1, 1, 2),
    "backbone_features": (128, 128, 256),
    "embedding": 32,
    "depth": 2,
    "num_heads": 2,
    "bridge_features": 16,
    "decoder_features": (16, 8, 8, 4),
}


def small(channels: int = 3, **arguments: Any) -> TransUNet:
    """Return a small TransUNet for two heads, always the same one."""
    torch.manual_seed(5)
    return TransUNet(channels, 2, **(SMALL | arguments))


def hybrid(*, image_size: int = 64, class_token: bool = False) -> VisionTransformer:
    """Return timm's own hybrid of the same size, as its builder puts it together."""
    backbone = timm.models.resnetv2.ResNetV2(
        layers=list(SMALL["backbone_layers"]),
        channels=SMALL["backbone_features"],
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="",
        conv_layer=functools.partial(timm.layers.StdConv2d, eps=1e-8),
    )
    network = VisionTransformer(
        img_size=image_size,
        global_pool="token" if class_token else "",
        class_token=class_token,
        embed_dim=SMALL["embedding"],
        depth=SMALL["depth"],
        num_heads=SMALL["num_heads"],
        embed_layer=functools.partial(HybridEmbed, backbone=backbone, proj=True),
        patch_size=1,
    )
    nn.init.normal_(network.pos_embed)
    return network.eval()


def test_encoder_is_the_hybrid_of_timm(tmp_path: Path) -> None:
    """With its weights, loaded from a file, the tokens are those of timm's network.

    The decoder stays random.
    """
    oracle, file = hybrid(), tmp_path / "hybrid.safetensors"
    save_file(oracle.state_dict(), file)
    network = small(pretrained_file=str(file)).eval()
    decoder = {k: v.clone() for k, v in network.decoder.state_dict().items()}

    line = network.load_initial_weights()

    assert f"backbone and transformer from {tmp_path}" in line
    stacks = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        tokens = network.transformer.forward_features(network.backbone(stacks))
        torch.testing.assert_close(tokens, oracle.forward_features(stacks))
    torch.testing.assert_close(network.decoder.state_dict(), decoder, rtol=0, atol=0)


def test_classifier_of_other_colors_and_extent_is_adapted(tmp_path: Path) -> None:
    """Of a .pth: no class token, colors twice at half the weight, fewer positions."""
    oracle = hybrid(image_size=96, class_token=True)
    with torch.no_grad():
        oracle.pos_embed[:, 1:] = torch.arange(32.0)
    torch.save({"state_dict": oracle.state_dict()}, tmp_path / "hybrid of timm.pth")
    network = small(6, pretrained_file=str(tmp_path / "hybrid of timm.pth"))

    network.load_initial_weights()

    own = network.transformer
    torch.testing.assert_close(own.blocks.state_dict(), oracle.blocks.state_dict())
    positions = torch.arange(32.0).expand(1, 16, 32)
    torch.testing.assert_close(own.pos_embed.detach(), positions)
    colors = oracle.patch_embed.backbone.stem.conv.weight / 2
    stem = network.backbone.stem.conv.weight
    torch.testing.assert_close(stem, torch.cat([colors, colors], dim=1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "FileNotFoundError.*Correct the path"),
        ({"state_dict": Path("code that would run")}, "weights_only"),
        ({}, "KeyError"),
        ({k: torch.ones(9) for k in hybrid().state_dict()}, "missing or another file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    """The error names the file and the cure; building and predicting need no file."""
    file = tmp_path / "other.pth"
    if content is not None:
        torch.save(content, file)
    network = small(pretrained_file=str(file)).eval()
    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32))

    with pytest.raises(ValueError, match=f"(?s)other.pth is .*{message}"):
        network.load_initial_weights()
