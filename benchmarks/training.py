"""Iterations per second and peak memory of a training step.

A step is forward pass, focal loss, backward pass and Adam, on random stacks of three
slices as the loader delivers them (contiguous float32). `TriplanarNetwork` with
FCA-DenseNet is compared with the *bare* FCA-DenseNet, the same weights called without
the wrapper: same precision, but the stacks stay contiguous. Below 1 the wrapper, which
lays them out in channels_last, is faster.

Modes on a CPU: float32; the same where freed memory goes back to the system, as without
`keep_freed_memory`; bfloat16, where the CPU has it. On a GPU: nnU-Net's mixed
precision. The last one, *recomputed*, recomputes activations (gradient checkpointing)
in the lowest precision, without a comparison with bare: there the time of interest is
the one without recomputing.

Every mode and size runs in a fresh process. There the steps of wrapper and bare network
alternate, and the times are medians; the first step of each is not counted. Peak memory
is read after two steps of the wrapper, before any of the bare network.

Options: ``sizes``, a list of [batch size, window, counted steps]; ``only``, a list of
modes; ``rounds``, how often all processes are run, in random order (times are medians
over the rounds); ``device`` (``cpu`` or ``cuda``; by default the GPU if there is one).
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks._process import (
    default_device,
    in_fresh_process,
    peak_memory,
    resident_memory,
)
from nnunet_cel.networks import FCADenseNet, TriplanarNetwork
from nnunet_cel.networks.allocator import keep_freed_memory
from nnunet_cel.networks.triplanar import has_native_bfloat16
from nnunet_cel.settings import Settings
from nnunet_cel.training.losses import FocalLoss

# Batch size, window in voxels, counted steps.
_SIZES = {"cpu": ((16, 64, 4), (4, 256, 2)), "cuda": ((16, 64, 30), (16, 256, 15))}
_LESION_SHARE = 0.01


@dataclass(frozen=True)
class _Mode:
    """How a step is computed.

    Args:
        device: Where.
        autocast: Precision that replaces float32, or None.
        recompute: Whether activations are recomputed.
        keep_memory: Whether freed memory stays in the process.
    """

    device: str
    autocast: torch.dtype | None = None
    recompute: bool = False
    keep_memory: bool = True


def _modes(device: str) -> dict[str, _Mode]:
    if device == "cuda":
        mixed = _Mode(device, torch.float16)
        return {
            "mixed": mixed,
            "mixed, recomputed": dataclasses.replace(mixed, recompute=True),
        }
    modes = {
        "float32": _Mode(device),
        "float32, memory returned": _Mode(device, keep_memory=False),
    }
    if has_native_bfloat16():
        modes["bfloat16"] = _Mode(device, torch.bfloat16)
    last = "bfloat16" if "bfloat16" in modes else "float32"
    modes[f"{last}, recomputed"] = dataclasses.replace(modes[last], recompute=True)
    return modes


def run(
    *,
    sizes: Sequence[Sequence[int]] = (),
    only: Sequence[str] = (),
    rounds: int = 1,
    device: str | None = None,
) -> dict[str, Any]:
    """Return iterations per second, MB and ratios; see the module's docstring."""
    device = device or default_device()
    modes = {
        name: mode for name, mode in _modes(device).items() if not only or name in only
    }
    processes = [
        (size, mode) for size in map(tuple, sizes or _SIZES[device]) for mode in modes
    ]
    measured: dict[Any, list[dict[str, float]]] = {each: [] for each in processes}
    rng = random.Random(0)
    for _ in range(rounds):
        for size, mode in rng.sample(processes, len(processes)):
            numbers = in_fresh_process(_measure, *size, modes[mode])
            measured[size, mode].append(numbers)
    result: dict[str, Any] = {"device": device, "rounds": rounds}
    for (size, mode), turns in measured.items():
        for key in turns[0]:
            median = statistics.median([turn[key] for turn in turns])
            result[f"{size[0]} x {size[1]}^2, {mode}: {key}"] = median
    return result


def _measure(batch_size: int, window: int, steps: int, mode: _Mode) -> dict[str, float]:
    """Run the steps of one mode and size."""
    torch.manual_seed(0)
    on_gpu = mode.device == "cuda"
    if mode.keep_memory and not on_gpu:
        keep_freed_memory()
    bare = FCADenseNet(3, 2, gradient_checkpointing=mode.recompute).to(mode.device)
    wrapper = TriplanarNetwork(
        bare, neighbor_pairs=1, heads="softmax", input_channels=1
    )
    loss = FocalLoss(Settings())
    optimizer = torch.optim.Adam(bare.parameters(), lr=2e-4)
    scaler = torch.amp.GradScaler(mode.device, enabled=on_gpu)
    stacks = torch.randn(batch_size, 3, window, window, device=mode.device)
    target = torch.rand(batch_size, 1, window, window, device=mode.device)
    target = (target < _LESION_SHARE).short()
    precision = torch.autocast(
        mode.device,
        dtype=mode.autocast or torch.bfloat16,
        enabled=mode.autocast is not None,
    )

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def time_step(network: nn.Module) -> float:
        begin = now()
        optimizer.zero_grad(set_to_none=True)
        with precision:
            error = loss(network(stacks), target)
        scaler.scale(error).backward()
        scaler.step(optimizer)
        scaler.update()
        return now() - begin

    before = 0.0 if on_gpu else resident_memory()
    time_step(wrapper)
    wrapper_times, bare_times = [time_step(wrapper)], []
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_memory()
    if not mode.recompute:
        time_step(bare)
    for step in range(steps):
        if not mode.recompute:
            bare_times.append(time_step(bare))
        if step > 0:  # the first one is the one before the peak was read
            wrapper_times.append(time_step(wrapper))

    result = {
        "iterations per s": 1 / statistics.median(wrapper_times),
        "peak memory, MB": peak,
        "memory before the first step, MB": before,
        "memory of a stack, MB": (peak - before) / batch_size,
    }
    if bare_times:
        ratio = statistics.median(wrapper_times) / statistics.median(bare_times)
        result["time / bare"] = ratio
    return result
