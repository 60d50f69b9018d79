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
from torch import Tensor, nn

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


def tokens(network: TransUNet, stacks: Tensor) -> Tensor:
    """Return what the transformer hands to the decoder."""
    features: Tensor = network.transformer.forward_features(network.backbone(stacks))
    return features


def test_encoder_is_the_hybrid_of_timm(tmp_path: Path) -> None:
    """With its weights, loaded from a file, the tokens are those of timm's network."""
    oracle = hybrid()
    save_file(oracle.state_dict(), tmp_path / "hybrid.safetensors")
    network = small(pretrained_file=str(tmp_path / "hybrid.safetensors")).eval()
    network.load_initial_weights()
    stacks = torch.randn(2, 3, 64, 64)

    with torch.inference_mode():
        torch.testing.assert_close(
            tokens(network, stacks), oracle.forward_features(stacks)
        )


def test_checkpointing_changes_no_gradient() -> None:
    """Recomputed activations give the same gradients."""
    gradients = []
    for recompute in (False, True):
        network = small(gradient_checkpointing=recompute).train()
        torch.manual_seed(1)
        network(torch.randn(2, 3, 32, 32)).square().mean().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters()})

    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("ending", "class_token"), [(".safetensors", True), (".pth", False)]
)
def test_pretrained_file(tmp_path: Path, ending: str, class_token: bool) -> None:
    """Encoder from the file, other heads of it left out; the decoder stays random."""
    oracle = hybrid(class_token=class_token)
    weights = oracle.state_dict()
    file = tmp_path / f"hybrid of timm{ending}"
    if ending == ".pth":
        torch.save({"state_dict": weights}, file)
    else:
        save_file(weights, file)
    network = small(pretrained_file=str(file))
    decoder = {k: v.clone() for k, v in network.decoder.state_dict().items()}

    line = network.load_initial_weights()

    assert f"backbone and transformer from {file}" in line
    torch.testing.assert_close(
        network.backbone.state_dict(), oracle.patch_embed.backbone.state_dict()
    )
    own = network.transformer.state_dict()
    for key, value in oracle.blocks.state_dict().items():
        torch.testing.assert_close(own[f"blocks.{key}"], value)
    torch.testing.assert_close(
        own["pos_embed"], weights["pos_embed"][:, int(class_token) :]
    )
    torch.testing.assert_close(network.decoder.state_dict(), decoder, rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 3, 5, 7])
def test_stem_is_adapted_to_the_stack(tmp_path: Path, channels: int) -> None:
    """Colors are repeated and weighed down: equal slices act as equal colors did."""
    oracle = hybrid()
    save_file(oracle.state_dict(), tmp_path / "hybrid.safetensors")
    network = small(
        channels, pretrained_file=str(tmp_path / "hybrid.safetensors")
    ).eval()

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
    save_file(oracle.state_dict(), tmp_path / "hybrid.safetensors")
    network = small(pretrained_file=str(tmp_path / "hybrid.safetensors"))

    network.load_initial_weights()

    positions = network.transformer.pos_embed.detach()
    torch.testing.assert_close(positions, torch.arange(32.0).expand(1, 16, 32))


def _of_another_size(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.repeat_interleave(2, 0) for key, value in weights.items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>not found</html>", "holds weights only.*cannot be read"),
        ({"state_dict": Path("code that would run")}, "cannot be read"),
        ({}, "no fitting weights for 77 of 77"),
        (_of_another_size(hybrid().state_dict()), "no fitting weights for"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    """The error names the file and what does not fit, and nothing is loaded."""
    file = tmp_path / "other.pth"
    torch.save(content, file)
    if isinstance(content, str):
        file.write_text(content)
    network = small(pretrained_file=str(file))
    before = {key: value.clone() for key, value in network.state_dict().items()}

    with pytest.raises(ValueError, match=message) as error:
        network.load_initial_weights()

    assert str(file) in str(error.value)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_missing_file_is_refused_when_training_starts_only(tmp_path: Path) -> None:
    """Building and predicting need no file; loading names the one that is missing."""
    network = small(pretrained_file=str(tmp_path / "gone.pth")).eval()

    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32))

    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist. Correct"):
        network.load_initial_weights()
