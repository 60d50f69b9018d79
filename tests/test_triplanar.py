"""The volume model: averages three planes, whatever the batches and empty slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnunet_cel.networks import FCADenseNet, TriplanarNetwork


class Recording(nn.Module):
    """A slice network made of a function, which remembers the sizes of its batches.

    Above ``limit`` stacks it runs out of memory.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        limit: int = 99,
        error: Exception | None = None,
    ) -> None:
        super().__init__()
        self.function, self.limit, self.error = function, limit, error
        self.batches: list[int] = []

    def forward(self, stacks: Tensor) -> Tensor:
        """Apply the function."""
        self.batches.append(len(stacks))
        if len(stacks) > self.limit:
            raise self.error
        return self.function(stacks)


def pointwise(stacks: Tensor) -> Tensor:
    """Return logits that depend on the voxel and its neighbors across the slice."""
    middle = stacks.shape[1] // 2
    evidence = stacks[:, middle] + 0.3 * stacks.sum(dim=1)
    return torch.stack([evidence, -2 * evidence + 0.5], dim=1)


def triplanar(
    network: nn.Module | Callable[[Tensor], Tensor], **options: Any
) -> TriplanarNetwork:
    """Wrap a slice network or a function."""
    if not isinstance(network, nn.Module):
        network = Recording(network)
    defaults = {"neighbor_pairs": 1, "heads": "softmax", "input_channels": 1}
    return TriplanarNetwork(network, **defaults | options).eval()


def small_network() -> FCADenseNet:
    """Return a small FCA-DenseNet with logits far from its prior."""
    torch.manual_seed(3)
    network = FCADenseNet(
        6, 2, down_layers=(2, 2), bottleneck_layers=2, stem_features=8, growth_rate=4
    )
    nn.init.normal_(network.head.weight)
    return network


def plain_prediction(network: nn.Module, volume: Tensor, heads: str) -> Tensor:
    """Return the probabilities (K, X, Y, Z), one slice at a time, nothing skipped."""
    activate = torch.sigmoid if heads == "sigmoid" else lambda logits: logits.softmax(0)
    total = torch.zeros(2, *volume.shape[1:])
    for plane in (1, 2, 3):
        turned, result = volume.movedim(plane, 1), total.movedim(plane, 1)
        padded = nn.functional.pad(turned, (0, 0, 0, 0, 1, 1))
        for i in range(turned.shape[1]):
            stack = padded[:, i : i + 3].flatten(0, 1)
            result[:, i] += activate(network(stack[None])[0])
    return total / 3


@pytest.mark.parametrize(
    ("slice_batch_size", "heads"), [(1, "softmax"), (7, "sigmoid"), (None, "softmax")]
)
def test_equals_the_plain_version(slice_batch_size: int | None, heads: str) -> None:
    """Batches and skipped slices change nothing: one slice at a time gives the same."""
    network = small_network().eval()
    volume = torch.randn(2, 11, 12, 9)
    volume[:, :4] = 0
    volume[:, :, :, 7:] = 0
    model = triplanar(
        network, input_channels=2, slice_batch_size=slice_batch_size, heads=heads
    )

    with torch.inference_mode():
        logits = model(volume[None])[0]
        actual = logits.sigmoid() if heads == "sigmoid" else logits.softmax(0)
        expected = plain_prediction(network, volume, heads)

    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_empty_slices_are_not_sent_through_the_network() -> None:
    """Slices whose stacks are all zero cost one pass for each plane, not one each."""
    volume = torch.zeros(1, 1, 20, 20, 20)
    volume[..., 8:12, 8:12, 8:12] = 1
    network = Recording(pointwise)

    triplanar(network, slice_batch_size=4)(volume)

    # 4 slices and a neighbor on either side are 6 stacks; and one blank stack
    assert network.batches == [1, 4, 2] * 3


@pytest.mark.parametrize("heads", ["softmax", "sigmoid"])
def test_certainty_stays_finite_in_float16(heads: str) -> None:
    """Probabilities of 0 and 1 leave room for nnU-Net's weighted float16 sums."""

    def certain(stacks: Tensor) -> Tensor:
        logits = torch.tensor([100.0, -100.0]).view(1, 2, 1, 1)
        return logits.expand(len(stacks), 2, *stacks.shape[2:])

    output = triplanar(certain, heads=heads)(torch.ones(1, 1, 4, 4, 4))

    # Gaussian weights are at most 10 and a voxel lies in at most 64 tiles
    assert torch.isfinite((output * 640).half()).all()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_falls_back_to_smaller_batches(error: Exception) -> None:
    """Out of memory: batches are halved until they fit, the result is the same."""
    volume = torch.randn(1, 1, 9, 8, 7)
    model = triplanar(Recording(pointwise, 2, error), slice_batch_size=16)

    torch.testing.assert_close(model(volume), triplanar(pointwise)(volume))
    assert model.slice_batch_size == 2


def test_what_cannot_be_predicted() -> None:
    """Too little memory for a slice is told, other errors pass, channels are named."""
    ones = torch.ones(1, 1, 4, 4, 4)
    full, broken = torch.OutOfMemoryError("no"), RuntimeError("boom")

    with pytest.raises(torch.OutOfMemoryError, match="A volume of 4 x 4 x 4 voxels"):
        triplanar(Recording(pointwise, 0, full), slice_batch_size=4)(ones)
    with pytest.raises(RuntimeError, match="boom"):
        triplanar(Recording(pointwise, 0, broken))(ones)
    with pytest.raises(ValueError, match=r"images with 1 channel\(s\). Got 2"):
        triplanar(pointwise)(torch.zeros(1, 2, 4, 4, 4))
