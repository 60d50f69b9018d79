"""FC-DenseNet and FCA-DenseNet: parameter counts, shapes, checkpointing, start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from stock_workspace import SMALL as NETWORKS
from torch import Tensor, nn

from nnunet_cel.networks import FCADenseNet, FCDenseNet

SMALL = NETWORKS["FCADenseNet"]


def test_other_placements_are_refused() -> None:
    """CBAM is on the output of every down block, or nowhere."""
    with pytest.raises(ValueError, match=r"'attention' .* must be 'none' or 'down'"):
        FCDenseNet(3, 2, attention="skip")


@pytest.mark.parametrize(
    ("attention", "extent"), [("none", (16, 16)), ("down", (19, 22))]
)
def test_prediction_on_cpu_equals_the_plain_network(
    attention: str, extent: tuple[int, int]
) -> None:
    """Without gradients features share a buffer: same logits as with gradients."""
    torch.manual_seed(0)
    network = FCADenseNet(3, 2, attention=attention, **SMALL).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.2, 2.0)
            nn.init.normal_(module.weight)  # of both signs
            nn.init.normal_(module.bias)
    stacks = torch.randn(2, 3, *extent)

    plain = network(stacks).detach()
    with torch.inference_mode():
        fast = network(stacks)

    assert plain.std() > 0.1
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)


def test_dropout_and_hooks_work_in_prediction() -> None:
    """Monte Carlo dropout differs from pass to pass, and hooks see every layer."""
    torch.manual_seed(0)
    network = FCADenseNet(3, 2, attention="none", **SMALL).eval()
    stacks = torch.randn(1, 3, 16, 16)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    seen: list[nn.Module] = []

    with torch.inference_mode():
        for layer in network.bottleneck.modules():
            if isinstance(layer, nn.Dropout2d):
                layer.train()
        assert not torch.equal(network(stacks), network(stacks))
        network.eval()
        assert torch.equal(network(stacks), network(stacks))
        for layer in layers:
            layer.register_forward_hook(lambda module, *_: seen.append(module))
        network(stacks)

    assert set(map(id, seen)) == set(map(id, layers))


def train_once(network: nn.Module, stacks: Tensor) -> list[list[Tensor | None]]:
    """Return gradients and buffers after one step with fixed dropout."""
    torch.manual_seed(1)
    network.train()
    network(stacks).square().mean().backward()
    return [[p.grad for p in network.parameters()], list(network.buffers())]


def test_checkpointing_changes_neither_gradients_nor_statistics() -> None:
    """Recomputed activations give the same gradients and buffers, to the bit."""
    plain = FCADenseNet(3, 2, **SMALL)
    recomputing = FCADenseNet(3, 2, gradient_checkpointing=True, **SMALL)
    recomputing.load_state_dict(plain.state_dict())
    stacks = torch.randn(3, 3, 16, 20)

    expected = train_once(plain, stacks)
    actual = train_once(recomputing, stacks)

    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def layer_by_hand(layer: Any, features: Tensor) -> Tensor:
    """Normalize, cut off below zero and convolve, with borrowed weights."""
    n = layer.norm
    normal = F.batch_norm(features, n.running_mean, n.running_var, n.weight, n.bias)
    padding = layer.conv.kernel_size[0] // 2
    return torch.conv2d(
        normal.clamp(min=0), layer.conv.weight, layer.conv.bias, padding=padding
    )


def block_by_hand(block: Any, features: Tensor) -> Tensor:
    """Return the new features of a dense block; older layers come first."""
    new = features[:, :0]
    for layer in block.layers:
        new = torch.cat([new, layer_by_hand(layer, torch.cat([features, new], 1))], 1)
    return new


def tiramisu_by_hand(w: FCDenseNet, stacks: Tensor) -> Tensor:
    """Return logits as Jegou et al. write it: no line of the module under test."""
    features = w.stem(stacks)
    skips = []
    for level in range(5):
        new = block_by_hand(w.down_blocks[level], features)
        skips.append(torch.cat([features, new], 1))
        features = layer_by_hand(w.transitions_down[level], skips[-1])
        features = torch.max_pool2d(features, 2)
    new = block_by_hand(w.bottleneck, features)
    for level in range(5):
        up, skip = w.transitions_up[level].conv, skips[4 - level]
        grown = torch.conv_transpose2d(new, up.weight, up.bias, stride=2)
        grown = grown[..., : skip.shape[2], : skip.shape[3]]
        features = torch.cat([grown, skip], 1)
        new = block_by_hand(w.up_blocks[level], features)
    return w.head(torch.cat([features, new], 1))


def test_equals_tiramisu_written_by_hand() -> None:
    """The graph is that of Jegou et al.: same logits as an independent writing."""
    torch.manual_seed(0)
    network = FCDenseNet(3, 2).double()
    network.train()
    # running statistics that are not 0 and 1
    network(torch.randn(4, 3, 32, 32, dtype=torch.double))
    network.eval()
    nn.init.normal_(network.head.weight)
    stacks = torch.randn(2, 3, 32, 64, dtype=torch.double)

    with torch.inference_mode():
        expected = tiramisu_by_hand(network, stacks)
        torch.testing.assert_close(network(stacks), expected, rtol=1e-9, atol=1e-9)
        assert expected.std() > 0.1
