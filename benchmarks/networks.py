"""What a stack costs in each of the paper's networks, relative to FCA-DenseNet.

A forward pass of `TriplanarNetwork` on one stack of three slices: on a CPU in float32
and, where it has it, in bfloat16, on a GPU in nnU-Net's mixed precision. All networks
take turns in random order in one process; ratios are medians over the turns, the first
of which is not counted.

Options: ``window`` (voxels), ``turns``, ``device`` (``cpu`` or ``cuda``; by default the
GPU if there is one).
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._process import default_device
from nnunet_cel.networks import (
    AttentionUNet,
    FCADenseNet,
    FCDenseNet,
    ResUNet,
    TransUNet,
    TriplanarNetwork,
    UNet,
)
from nnunet_cel.networks.allocator import keep_freed_memory
from nnunet_cel.networks.triplanar import has_native_bfloat16

_NETWORKS = (FCADenseNet, FCDenseNet, UNet, ResUNet, AttentionUNet, TransUNet)


@torch.inference_mode()
def run(
    *, window: int = 256, turns: int = 8, device: str | None = None
) -> dict[str, Any]:
    """Return GFLOP, seconds and ratios; see the module's docstring."""
    device = device or default_device()
    if device == "cpu":
        keep_freed_memory()  # as predictions do
    precisions: dict[str, torch.dtype | None] = (
        {"mixed": torch.float16} if device == "cuda" else {"float32": None}
    )
    if device == "cpu" and has_native_bfloat16():
        precisions["bfloat16"] = torch.bfloat16
    stack = torch.randn(1, 3, window, window, device=device)
    models = {}
    result: dict[str, Any] = {"device": device, "counted turns": turns - 1}
    for network in _NETWORKS:
        model = TriplanarNetwork(
            network(3, 2), neighbor_pairs=1, heads="softmax", input_channels=1
        )
        models[network.__name__] = model.to(device).eval()
        with FlopCounterMode(display=False) as counter:
            model(stack)
        result[f"{network.__name__}: GFLOP"] = counter.get_total_flops() / 1e9
    rng = random.Random(0)
    for precision, dtype in precisions.items():
        times: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(turns):
            for name in rng.sample(list(models), len(models)):
                begin = time.perf_counter()
                with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
                    models[name](stack).sum().item()  # the sum waits for a GPU
                if turn > 0:
                    times[name].append(time.perf_counter() - begin)
        reference = times[FCADenseNet.__name__]
        result[f"{precision}: s of {FCADenseNet.__name__}"] = statistics.median(
            reference
        )
        for name, values in times.items():
            result[f"{precision}: {name} / {FCADenseNet.__name__}"] = statistics.median(
                [a / b for a, b in zip(values, reference, strict=True)]
            )
    return result
