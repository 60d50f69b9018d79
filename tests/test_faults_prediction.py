"""Faults of a running prediction, each one really made."""

from __future__ import annotations

import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from nnunet_cel.networks import FCADenseNet, TriplanarNetwork

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does"),
]


def slices_per_pass(mebibytes: int) -> int:
    """Predict a volume with little more memory than the network; return the batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = {"down_layers": [2, 2], "bottleneck_layers": 2, "stem_features": 16}
    model = TriplanarNetwork(
        FCADenseNet(3, 2, **layers),
        neighbor_pairs=1,
        heads="softmax",
        input_channels=1,
        slice_batch_size=2,
    ).eval()
    volume = torch.randn(1, 1, 64, 64, 64)
    with torch.inference_mode():
        expected = model(volume)
        model.slice_batch_size = 64
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + mebibytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        torch.testing.assert_close(model(volume), expected)
    return model.slice_batch_size


def test_little_memory_takes_smaller_batches_then_says_so() -> None:
    """60 MiB more than the network are enough for a few slices, 2 MiB for none."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(slices_per_pass, 60).result() < 32
    told = "A volume of 64 x 64 x 64 voxels must fit .* Let fewer processes run"
    little = pytest.raises(torch.OutOfMemoryError, match=told)
    with ProcessPoolExecutor(1, mp_context=spawn) as pool, little:
        pool.submit(slices_per_pass, 2).result()
