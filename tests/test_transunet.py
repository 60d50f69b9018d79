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


def hybrid(
    *, image_size: int = 64, class_token: bool = False, channels: int = 3
) -> VisionTransformer:
    """Return timm's own hybrid of the same size, as its builder puts it together."""
    torch.manual_seed(6)
    network = VisionTransformer(
        img_size=image_size,
        in_chans=channels,
        num_classes=0 if not class_token else 10,
        global_pool="" if not class_token else "token",
        class_token=class_token,
        embed_dim=SMALL["embedding"],
        depth=SMALL["depth"],
        num_heads=SMALL["num_heads"],
        embed_layer=functools.partial(
            HybridEmbed,
            backbone=timm.models.resnetv2.ResNetV2(
                layers=list(SMALL["backbone_layers"]),
                channels=SMALL["backbone_features"],
                in_chans=channels,
                num_classes=0,
                global_pool="",
                preact=False,
                stem_type="",
                conv_layer=functools.partial(timm.layers.StdConv2d, eps=1e-8),
            ),
            proj=True,
        ),
        patch_size=1,
    )
    nn.init.normal_(network.pos_embed)
    return network.eval()


def write(oracle: VisionTransformer, folder: Path) -> str:
    """Write a network's weights; return the path of the file."""
    save_file(oracle.state_dict(), folder / "hybrid.safetensors")
    return str(folder / "hybrid.safetensors")


def test_encoder_is_the_hybrid_of_timm(tmp_path: Path) -> None:
    """With its weights, loaded from a file, the tokens are those of timm's network.

    The decoder stays random.
    """
    oracle = hybrid()
    network = small(pretrained_file=write(oracle, tmp_path)).eval()
    decoder = {k: v.clone() for k, v in network.decoder.state_dict().items()}

    line = network.load_initial_weights()

    assert f"backbone and transformer from {tmp_path}" in line
    stacks = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        tokens = network.transformer.forward_features(network.backbone(stacks))
        torch.testing.assert_close(tokens, oracle.forward_features(stacks))
    torch.testing.assert_close(network.decoder.state_dict(), decoder, rtol=0, atol=0)


def test_checkpointing_changes_no_gradient() -> None:
    """Recomputed activations give the same gradients."""
    gradients = []
    for recompute in (False, True):
        network = small(gradient_checkpointing=recompute).train()
        torch.manual_seed(1)
        network(torch.randn(2, 3, 32, 32)).square().mean().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters()})

    torch.testing.assert_close(*gradients)


def test_class_token_and_head_are_left_out(tmp_path: Path) -> None:
    """Of a classifier in a .pth; what is left is the same transformer."""
    oracle = hybrid(class_token=True)
    torch.save({"state_dict": oracle.state_dict()}, tmp_path / "hybrid of timm.pth")
    network = small(pretrained_file=str(tmp_path / "hybrid of timm.pth"))

    network.load_initial_weights()

    own = network.transformer
    torch.testing.assert_close(own.blocks.state_dict(), oracle.blocks.state_dict())
    torch.testing.assert_close(own.pos_embed, oracle.pos_embed[:, 1:])


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_stem_is_adapted_to_the_stack(tmp_path: Path, channels: int) -> None:
    """Colors are repeated and weighed down: equal slices act as equal colors did."""
    oracle = hybrid()
    network = small(channels, pretrained_file=write(oracle, tmp_path)).eval()

    network.load_initial_weights()

    weight = network.backbone.stem.conv.weight
    assert weight.shape == (64, channels, 7, 7)
    original = oracle.patch_embed.backbone.stem.conv.weight.detach()
    expected = [3 / channels * original[:, slice_ % 3] for slice_ in range(channels)]
    if channels == 1:
        expected = [original.sum(dim=1)]
    torch.testing.assert_close(weight.detach(), torch.stack(expected, dim=1))


def test_positions_of_another_extent_are_interpolated(tmp_path: Path) -> None:
    """Embeddings of 6 x 6 positions become 4 x 4; equal ones stay what they are."""
    oracle = hybrid(image_size=96)
    with torch.no_grad():
        oracle.pos_embed[:] = torch.arange(32.0)
    network = small(pretrained_file=write(oracle, tmp_path))

    network.load_initial_weights()

    positions = network.transformer.pos_embed.detach()
    torch.testing.assert_close(positions, torch.arange(32.0).expand(1, 16, 32))


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
