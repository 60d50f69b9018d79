"""Iterations per second and peak memory of a training step on the CPU.

A step is forward pass, focal loss, backward pass and Adam, on random stacks of three
slices as the loader delivers them (contiguous float32). `TriplanarNetwork` with
FCA-DenseNet is compared with the *bare* FCA-DenseNet, the same weights called without
the wrapper: same precision, but the stacks stay contiguous. Below 1 the wrapper, which
lays them out in channels_last, is faster.

Modes: float32; bfloat16 (where the CPU has it); and that with recomputed activations
(gradient checkpointing), without a comparison with bare: there the time of interest is
the one without recomputing.

Every mode and size runs in a fresh process. There the steps of wrapper and bare network
alternate, and the times are medians; the first step of each is not counted. Peak memory
is read after two steps of the wrapper, before any of the bare network.

Options: ``sizes``, a list of [batch size, window, counted steps]; ``only``, a list of
modes; ``rounds``, how often all processes are run, in random order (times are medians
over the rounds).
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks._process import in_fresh_process, peak_memory, resident_memory
from nnunet_cel.networks import FCADenseNet, TriplanarNetwork
from nnunet_cel.networks.triplanar import has_native_bfloat16
from nnunet_cel.training.losses import FocalLoss

# Batch size, window in voxels, counted steps.
_SIZES = ((16, 64, 4), (4, 256, 2))
_LESION_SHARE = 0.01


def run(
    *,
    sizes: Sequence[Sequence[int]] = _SIZES,
    only: Sequence[str] = (),
    rounds: int = 1,
) -> dict[str, Any]:
    """Return iterations per second, MB and ratios; see the module's docstring."""
    precisions = ["float32"] + (["bfloat16"] if has_native_bfloat16() else [])
    modes = {name: (name == "bfloat16", False) for name in precisions}
    modes[f"{precisions[-1]}, recomputed"] = (precisions[-1] == "bfloat16", True)
    modes = {name: mode for name, mode in modes.items() if not only or name in only}
    processes = [(size, mode) for size in map(tuple, sizes) for mode in modes]
    measured: dict[Any, list[dict[str, float]]] = {each: [] for each in processes}
    rng = random.Random(0)
    for _ in range(rounds):
        for size, mode in rng.sample(processes, len(processes)):
            numbers = in_fresh_process(_measure, *size, *modes[mode])
            measured[size, mode].append(numbers)
    result: dict[str, Any] = {"rounds": rounds}
    for (size, mode), turns in measured.items():
        for key in turns[0]:
            median = statistics.median(turn[key] for turn in turns)
            result[f"{size[0]} x {size[1]}^2, {mode}: {key}"] = median
    return result


def _measure(
    batch_size: int, window: int, steps: int, bfloat16: bool, recompute: bool
) -> dict[str, float]:
    """Run the steps of one mode and size."""
    torch.manual_seed(0)
    bare = FCADenseNet(3, 2, gradient_checkpointing=recompute)
    wrapper = TriplanarNetwork(
        bare,
        neighbor_pairs=1,
        heads="softmax",
        input_channels=1,
        cpu_bfloat16=bfloat16,
    )
    loss = FocalLoss()
    optimizer = torch.optim.Adam(bare.parameters(), lr=2e-4)
    stacks = torch.randn(batch_size, 3, window, window)
    target = (torch.rand(batch_size, 1, window, window) < _LESION_SHARE).short()

    def call_bare(stacks: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            logits: Tensor = bare(stacks)
        return logits

    def time_step(forward: Callable[[Tensor], Tensor]) -> float:
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss(forward(stacks), target).backward()
        optimizer.step()
        return time.perf_counter() - begin

    before = resident_memory()
    time_step(wrapper)
    wrapper_times, bare_times = [time_step(wrapper)], []
    peak = peak_memory()
    if not recompute:
        time_step(call_bare)
    for step in range(steps):
        if not recompute:
            bare_times.append(time_step(call_bare))
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
