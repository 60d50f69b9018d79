"""What all slice networks have in common: extents, start, precision, transfer."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from stock_workspace import SMALL
from torch import nn

from nnunet_cel.networks import (
    AttentionUNet,
    FCADenseNet,
    FCDenseNet,
    ResUNet,
    SliceNetwork,
    TransUNet,
    UNet,
)

KINDS = (AttentionUNet, FCADenseNet, FCDenseNet, ResUNet, TransUNet, UNet)

each_network = pytest.mark.parametrize("kind", KINDS)


def build(kind: type[SliceNetwork], **arguments: Any) -> SliceNetwork:
    """Build a small network for three channels and two heads, always the same one."""
    torch.manual_seed(7)
    small: Any = SMALL[kind.__name__] | arguments
    return kind(input_channels=3, num_classes=2, **small)


@pytest.mark.parametrize(
    ("kind", "parameters", "per_channel"),
    [
        (FCDenseNet, 1_375_058, 432),
        (FCADenseNet, 1_401_478, 432),
        (UNet, 2_011_042, 180),
        (ResUNet, 3_202_898, 180),
        (AttentionUNet, 2_144_936, 180),
        (TransUNet, 105_322_146, 3136),
    ],
)
def test_parameter_counts_are_those_of_table_2(
    kind: Any, parameters: int, per_channel: int
) -> None:
    """Table 2's digits, for one pair of neighbors and for three."""
    for channels in (3, 7):
        with torch.device("meta"):
            network = kind(channels, 2)
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count == parameters + (channels - 3) * per_channel


@each_network
def test_extents_are_completed_with_zeros(kind: type[SliceNetwork]) -> None:
    """Edges need not be multiples of anything: 17 x 29 is a corner of 24 x 32."""
    network = build(kind).eval()
    nn.init.normal_(network.head.weight)
    stacks = torch.randn(1, 3, 17, 29)
    below, right = -17 % network.multiple, -29 % network.multiple

    with torch.inference_mode():
        logits = network(stacks)
        completed = network(nn.functional.pad(stacks, (0, right, 0, below)))

    torch.testing.assert_close(logits, completed[..., :17, :29], rtol=0, atol=0)


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
    assert lesion.mean().item() == pytest.approx(0.03, rel=0.5)


@each_network
def test_trains_and_is_transferred(kind: type[SliceNetwork]) -> None:
    """A batch of one is enough, and every parameter has a gradient.

    nnU-Net's -pretrained_weights leaves out what it takes for a head of its own.
    """
    network = build(kind).train()

    network(torch.randn(1, 3, 32, 32)).square().mean().backward()

    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    keys = network.state_dict()
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


def test_all_foreground_together_has_the_prior() -> None:
    """Softmax of the bias: background has 1 - prior, the classes share the prior."""
    network = FCDenseNet(3, 4, lesion_prior=0.03, **SMALL["FCDenseNet"])

    share = network.head.bias.softmax(0).tolist()
    assert share == pytest.approx([0.97, 0.01, 0.01, 0.01])
