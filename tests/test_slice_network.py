"""What all slice networks have in common: extents, start, precision, transfer."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_cel.networks import (
    AttentionUNet,
    FCADenseNet,
    FCDenseNet,
    ResUNet,
    SliceNetwork,
    TransUNet,
    TriplanarNetwork,
    UNet,
)
from nnunet_cel.networks.slice_network import initialize_convolutions, prior_bias
from nnunet_cel.networks.triplanar import has_native_bfloat16

DENSE: dict[str, Any] = {
    "down_layers": (2, 2),
    "bottleneck_layers": 2,
    "stem_features": 8,
    "growth_rate": 4,
}
# small ones, of which the comparison networks can halve multiples of 4 or 16 only
NETWORKS: dict[type[SliceNetwork], dict[str, Any]] = {
    FCADenseNet: DENSE,
    FCDenseNet: DENSE,
    UNet: {"features": (4, 8, 8)},
    ResUNet: {"features": (4, 8, 8)},
    AttentionUNet: {"features": (4, 8, 8)},
    TransUNet: {
        "position_extent": 64,
        "backbone_layers": (1, 1, 1),
        "backbone_features": (128, 128, 128),
        "embedding": 16,
        "depth": 2,
        "num_heads": 2,
        "bridge_features": 16,
        "decoder_features": (16, 8, 8, 4),
    },
}

each_network = pytest.mark.parametrize(
    "kind", NETWORKS, ids=[kind.__name__ for kind in NETWORKS]
)


def build(kind: type[SliceNetwork], **arguments: Any) -> SliceNetwork:
    """Build a small network for three channels and two heads, always the same one."""
    torch.manual_seed(7)
    small: Any = NETWORKS[kind] | arguments
    return kind(input_channels=3, num_classes=2, **small)


def far_from_its_prior(network: SliceNetwork) -> SliceNetwork:
    """Give a network a head whose logits depend on its input."""
    nn.init.normal_(network.head.weight)
    return network


@each_network
@pytest.mark.parametrize("extent", [(16, 16), (17, 30), (4, 50)])
def test_output_has_the_extent_of_the_input(
    kind: type[SliceNetwork], extent: tuple[int, int]
) -> None:
    """Edges need not be multiples of anything."""
    with torch.inference_mode():
        logits = build(kind).eval()(torch.randn(2, 3, *extent))

    assert logits.shape == (2, 2, *extent)


@pytest.mark.parametrize(
    ("kind", "below", "right"),
    [(UNet, 3, 2), (ResUNet, 3, 2), (AttentionUNet, 3, 2), (TransUNet, 15, 2)],
)
def test_extents_are_completed_with_zeros(
    kind: type[SliceNetwork], below: int, right: int
) -> None:
    """17 x 30 voxels are a corner of what the network can halve: 20 or 32 x 32."""
    network = far_from_its_prior(build(kind)).eval()
    stacks = torch.randn(1, 3, 17, 30)

    with torch.inference_mode():
        logits = network(stacks)
        completed = network(nn.functional.pad(stacks, (0, right, 0, below)))

    torch.testing.assert_close(logits, completed[..., :17, :30], rtol=0, atol=0)


@each_network
def test_other_channels_are_refused(kind: type[SliceNetwork]) -> None:
    """Another number of channels ends in plain words."""
    with pytest.raises(ValueError, match=r"stacks with 3 channels. Got 5 instead"):
        build(kind)(torch.zeros(1, 5, 16, 16))


@each_network
@pytest.mark.parametrize("shape", [(20, 20, 20), (17, 23, 19)])
def test_volumes_of_any_shape_are_predicted(
    kind: type[SliceNetwork], shape: tuple[int, int, int]
) -> None:
    """Three planes of unequal edges: finite log-probabilities that sum to one."""
    model = TriplanarNetwork(
        build(kind), neighbor_pairs=1, heads="softmax", input_channels=1
    ).eval()
    volume = torch.randn(1, 1, *shape)
    volume[:, :, :5] = 0

    with torch.inference_mode():
        logits = model(volume)

    assert logits.shape == (1, 2, *shape)
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(1, *shape))


@each_network
@pytest.mark.parametrize("heads", ["softmax", "sigmoid"])
def test_untrained_network_puts_out_the_lesion_prior(
    kind: type[SliceNetwork], heads: str
) -> None:
    """Focal loss must not start from probability one half."""
    network = build(kind, lesion_prior=0.03).eval()
    network.reset_parameters(heads=heads)

    with torch.inference_mode():
        logits = network(torch.randn(2, 3, 32, 32))

    lesion = logits.sigmoid() if heads == "sigmoid" else logits.softmax(1)[:, 1]
    assert lesion.mean().item() == pytest.approx(0.03, rel=0.25)


@each_network
def test_single_stack_trains_all_parameters(kind: type[SliceNetwork]) -> None:
    """A batch of one is enough, and several processes find a gradient everywhere."""
    network = build(kind).train()

    network(torch.randn(1, 3, 32, 32)).square().mean().backward()

    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert without == []


@each_network
def test_channels_last_changes_nothing(kind: type[SliceNetwork]) -> None:
    """The memory format that is faster gives the same logits, padding included."""
    network = far_from_its_prior(build(kind)).eval()
    stacks = torch.randn(2, 3, 33, 48)

    with torch.inference_mode():
        fast = network(stacks.contiguous(memory_format=torch.channels_last))

        torch.testing.assert_close(fast, network(stacks), rtol=1e-4, atol=1e-5)


@each_network
@pytest.mark.skipif(not has_native_bfloat16(), reason="CPU without bfloat16")
def test_bfloat16_is_close_to_float32(kind: type[SliceNetwork]) -> None:
    """Training in bfloat16 starts from the same loss, with finite gradients."""
    network = build(kind).eval()
    stacks = torch.randn(2, 3, 32, 32)

    exact = network(stacks).softmax(1)[:, 1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(stacks).float().softmax(1)[:, 1]
    rough.mean().backward()

    torch.testing.assert_close(rough, exact, rtol=0.1, atol=2e-3)
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@each_network
def test_compiled_network_gives_the_same_logits(kind: type[SliceNetwork]) -> None:
    """torch.compile, which nnU-Net uses on CUDA, traces every network."""
    network = far_from_its_prior(build(kind)).eval()
    stacks = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        expected = network(stacks)

    network.compile(backend="eager")

    with torch.inference_mode():
        torch.testing.assert_close(network(stacks), expected)


@each_network
def test_head_is_transferred(kind: type[SliceNetwork]) -> None:
    """nnU-Net's -pretrained_weights leaves out what it takes for a head of its own."""
    keys = build(kind).state_dict()

    assert "head.weight" in keys
    assert not [key for key in keys if ".seg_layers." in f"network.{key}"]


@pytest.mark.parametrize(
    ("kind", "library", "cure"),
    [
        (AttentionUNet, "monai", r"pip install 'nnunet-cel\[attentionunet\]'"),
        (TransUNet, "timm", "Install timm"),
    ],
)
def test_missing_libraries_are_missed_by_their_network_only(
    kind: type[SliceNetwork], library: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are built; the one that needs it says what to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)

    build(FCADenseNet)
    with pytest.raises(ImportError, match=f"cannot be imported: .*{library}.*{cure}"):
        build(kind)


@pytest.mark.parametrize("num_heads", [2, 3, 5])
def test_softmax_bias_gives_all_foreground_together_the_prior(num_heads: int) -> None:
    """Softmax of the bias: background has 1 - prior, the classes share the prior."""
    bias = prior_bias(num_heads, lesion_prior=0.02, heads="softmax")

    share = [0.02 / (num_heads - 1)] * (num_heads - 1)
    assert torch.tensor(bias).softmax(0).tolist() == pytest.approx([0.98, *share])


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
