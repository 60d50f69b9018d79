"""What predicting a volume costs: seconds, memory, and against whom.

A phantom brain is preprocessed and predicted by nnU-Net's own `nnUNetPredictor` (tiles,
Gaussian weights, float16 sum; no mirroring) with FCA-DenseNet: on a CPU in float32 and,
where it has it, in bfloat16, on a GPU in nnU-Net's mixed precision. Every prediction
runs in a fresh process, so that its peak memory is its own. It is compared with

- the *bare* network: the same non-empty stacks in the same batches and the same
  precision, already cut and in channels_last, nothing but forward passes. Measured in
  the same process, one half before and one half after the prediction;
- the *plain* version: one slice at a time, float32, contiguous, empty slices included,
  with softmax, in a process of its own whose allocator is as it comes;
- the *floor*: the FLOPs of the slice network on all non-empty stacks, at the rate of a
  convolution of 64 to 64 channels on the same slices, and at that of one of 96 to 12,
  the kind that a dense block is made of. Measured where *bare* is;
- nnU-Net's own ``2d`` and ``3d_fullres``, as its default planner plans them for this
  phantom, with mirroring as by default and without (``--disable_tta``), float32 on a
  CPU: the time of a tile (median of a few) times tiles and mirrored copies.

A pass over a slice costs the same whatever the slice shows, so bare and plain time one
batch in ``stride`` and scale up to all of the volume. In each round the processes run
one after the other in random order; times are medians over the rounds, ratios are
medians of the ratios within a round.

Options: ``spacing`` (mm; 2 is about eight times faster), ``rounds``, ``stride``,
``batch_size`` (stacks per pass; by default what `TriplanarNetwork` chooses), ``model``
(folder of a trained model; without one the weights are random and masks are not
compared), ``kind`` of the phantom for that model (``cel`` or ``wmh``),
``device`` (``cpu`` or ``cuda``; by default the GPU if there is one).
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._case import (
    give_random_weights,
    make_phantom,
    make_plans,
    plan_as_stock,
    preprocess,
)
from benchmarks._process import (
    default_device,
    in_fresh_process,
    peak_memory,
    resident_memory,
)
from nnunet_cel.networks.allocator import keep_freed_memory
from nnunet_cel.networks.fcdensenet import DenseBlock
from nnunet_cel.networks.triplanar import has_native_bfloat16
from nnunet_cel.phantom.subject import Kind
from nnunet_cel.slicing import PLANES, cut_stacks, empty_stacks

_CHECKPOINT = "checkpoint_final.pth"

# Timed passes of nnU-Net's own networks; one of 3D takes seconds on a CPU.
_STOCK_PASSES = {"2d": 9, "3d_fullres": 3}

# Channels of the convolutions whose rates are floors.
_FLOORS = {"floor": (64, 64), "floor of narrow convolutions": (96, 12)}


@dataclass(frozen=True)
class _Task:
    """What the processes work on.

    Args:
        volume: File with the preprocessed volume ``(C, X, Y, Z)``.
        plans: Plans, unless there is a model.
        stock_plans: What nnU-Net's default planner made of the phantom.
        model: Folder of a trained model, or None.
        batch_size: Stacks per pass; None for the default of `TriplanarNetwork`.
        stride: Bare and plain time one batch in this many.
        device: Where everything is computed.
    """

    volume: Path
    plans: dict[str, Any]
    stock_plans: dict[str, Any]
    model: str | None
    batch_size: int | None
    stride: int
    device: torch.device


@dataclass(frozen=True)
class _Measured:
    """What a process measured.

    Args:
        seconds: Contender to seconds per volume.
        facts: Everything else that is worth a line.
        mask: Predicted label map, of predictions.
    """

    seconds: dict[str, float]
    facts: dict[str, Any]
    mask: np.ndarray | None = None


def run(
    *,
    spacing: float = 1.0,
    rounds: int = 1,
    stride: int = 16,
    batch_size: int | None = None,
    model: str | None = None,
    kind: Kind = "cel",
    device: str | None = None,
) -> dict[str, Any]:
    """Return seconds, MB and ratios; see the module's docstring."""
    device = device or default_device()
    precisions = ["mixed"] if device == "cuda" else ["float32"]
    if device == "cpu" and has_native_bfloat16():
        precisions.append("bfloat16")
    phantom = make_phantom(1, spacing=spacing, kind=kind)
    measured: list[dict[str, _Measured]] = []
    with tempfile.TemporaryDirectory() as folder:
        task = _Task(
            volume=Path(folder, "volume.npy"),
            plans=make_plans(phantom[0], spacing=spacing),
            stock_plans=plan_as_stock(phantom, spacing=spacing),
            model=model,
            batch_size=batch_size,
            stride=stride,
            device=torch.device(device),
        )
        reference, shape = in_fresh_process(_preprocess, task, phantom, spacing)
        processes: dict[str, tuple[Callable[..., _Measured], object]] = {
            **{name: (_run_predictor, name) for name in precisions},
            "plain": (_run_plain, None),
            **{f"nnU-Net {name}": (_run_stock, name) for name in _STOCK_PASSES},
        }
        rng = random.Random(0)
        for _ in range(rounds):
            turn = {}
            for name in rng.sample(list(processes), len(processes)):
                function, argument = processes[name]
                turn[name] = in_fresh_process(function, task, argument)
            measured.append(turn)
    result = {"device": device, "volume, voxels": shape, "rounds": rounds}
    for process in measured[0].values():
        result |= process.facts
    masks = {name: process.mask for name, process in measured[0].items()}
    result |= _agreement(masks, reference, trained=model is not None)
    return result | _compare(
        [
            {
                contender: seconds
                for process in turn.values()
                for contender, seconds in process.seconds.items()
            }
            for turn in measured
        ],
        precisions,
    )


def _compare(turns: list[dict[str, float]], precisions: list[str]) -> dict[str, float]:
    """Return median seconds and, for every precision, median ratios to the others."""
    result = {
        f"{contender}: s per volume": statistics.median(
            [turn[contender] for turn in turns]
        )
        for contender in sorted(turns[0])
    }
    for precision in precisions:
        for other in sorted(turns[0]):
            first, _, rest = other.partition(": ")
            if other in precisions or (rest and first != precision):
                continue
            result[f"{precision} / {rest or other}"] = statistics.median(
                [turn[precision] / turn[other] for turn in turns]
            )
    return result


def _agreement(
    masks: dict[str, np.ndarray | None], reference: np.ndarray, *, trained: bool
) -> dict[str, Any]:
    """Return the Dice of bfloat16 with float32, and of both with the label map."""
    if not trained:
        return {"DSC of masks": "not compared: random weights (-o model=FOLDER)"}
    predicted = {name: mask for name, mask in masks.items() if mask is not None}
    result = {
        f"DSC of {name} with the label map": _dice(mask, reference)
        for name, mask in predicted.items()
    }
    if "bfloat16" in predicted:
        result["DSC of bfloat16 with float32"] = _dice(*predicted.values())
    return result


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int((a > 0).sum() + (b > 0).sum())
    return 2 * int(((a > 0) & (b > 0)).sum()) / total if total else float("nan")


# --- in processes of their own -----------------------------------------------------


def _preprocess(
    task: _Task, phantom: tuple[np.ndarray, np.ndarray], spacing: float
) -> tuple[np.ndarray, list[int]]:
    """Write the volume; return the preprocessed label map and the volume's shape."""
    predictor = _make_predictor(task)
    volume, segmentation, _ = preprocess(
        phantom,
        predictor.plans_manager,
        predictor.configuration_manager,
        spacing=spacing,
        dataset_json=predictor.dataset_json,
    )
    np.save(task.volume, volume)
    return segmentation[0], list(volume.shape[1:])


def _run_predictor(task: _Task, precision: str) -> _Measured:
    """Time a prediction, and before and after it what it is compared with."""
    predictor = _make_predictor(task, bfloat16=precision == "bfloat16")
    wrapper = predictor.network.to(task.device).eval()
    if task.batch_size is not None:
        wrapper.slice_batch_size = task.batch_size
    volume = torch.from_numpy(np.load(task.volume))
    sample, filled = _sample_batches(
        _padded(volume, predictor).to(task.device), wrapper, task.stride
    )
    share = sum(len(stacks) for stacks in sample) / filled
    autocast = torch.autocast(
        task.device.type,
        dtype=torch.bfloat16 if precision == "bfloat16" else torch.float16,
        enabled=precision != "float32",
    )

    @torch.inference_mode()
    def time_passes(network: nn.Module, batches: Sequence[Tensor]) -> float:
        begin = _now(task.device)
        with autocast:
            for stacks in batches:
                network(stacks)
        return _now(task.device) - begin

    def time_floors() -> dict[str, float]:
        edge = sample[0].shape[-1]
        rates = {}
        for name, channels in _FLOORS.items():
            convolution = nn.Conv2d(*channels, kernel_size=3, padding=1)
            convolution.to(task.device).to(memory_format=torch.channels_last)
            images = torch.randn(len(sample[0]), channels[0], edge, edge)
            images = images.to(task.device, memory_format=torch.channels_last)
            times = [time_passes(convolution, [images] * 4) / 4 for _ in range(6)]
            rates[name] = _count_flops(convolution, images) / statistics.median(times)
        return rates

    on_gpu = task.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        keep_freed_memory()  # as the prediction will, so that bare has the same
    time_passes(wrapper.network, sample[:2])  # warm-up
    before = resident_memory()
    bare = time_passes(wrapper.network, sample[::2])
    begin = _now(task.device)
    logits = predictor.predict_logits_from_preprocessed_data(volume)
    seconds = _now(task.device) - begin
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_memory()
    bare += time_passes(wrapper.network, sample[1::2])
    flops = _count_flops(wrapper.network, sample[0][:1]) * filled
    mask = predictor.label_manager.convert_logits_to_segmentation(logits)
    return _Measured(
        seconds={
            precision: seconds,
            f"{precision}: bare": bare / share,
            **{f"{precision}: {n}": flops / rate for n, rate in time_floors().items()},
        },
        facts={
            "GFLOP per volume": flops / 1e9,
            f"{precision}: peak memory, MB": peak,
            f"{precision}: memory before the prediction, MB": before,
        },
        mask=np.asarray(mask, dtype=np.uint8),
    )


# without the buffers of predictions on a CPU
@mock.patch.object(DenseBlock, "_infers_on_cpu", return_value=False)
@torch.inference_mode()
def _run_plain(task: _Task, *_: object) -> _Measured:
    """Time every ``stride``-th slice of all planes."""
    predictor = _make_predictor(task)
    wrapper = predictor.network.to(task.device).eval()
    volume = torch.from_numpy(np.load(task.volume))
    volume = _padded(volume, predictor).to(task.device)
    sample: list[Tensor] = []
    filled = 0
    for plane in PLANES:
        stacks = cut_stacks(volume, plane, wrapper.neighbor_pairs)
        filled += int((~empty_stacks(stacks)).sum())
        indices = range(0, len(stacks), task.stride)
        sample += [stacks[index : index + 1].contiguous() for index in indices]
    total = sum(volume.shape[1:])
    for stacks in sample[:2]:  # warm-up
        wrapper.network(stacks)
    begin = _now(task.device)
    for stacks in sample:
        wrapper.network(stacks).softmax(dim=1)
    seconds = (_now(task.device) - begin) * total / len(sample)
    return _Measured(
        seconds={"plain": seconds},
        facts={
            "patch, voxels": list(volume.shape[1:]),
            "slices": total,
            "non-empty stacks": filled,
        },
    )


@torch.inference_mode()
def _run_stock(task: _Task, configuration: str) -> _Measured:
    """Time the passes of a configuration that nnU-Net's default planner made."""
    plans_manager = PlansManager(task.stock_plans)
    manager = plans_manager.get_configuration(configuration)
    network = nnUNetTrainer.build_network_architecture(
        plans_manager, manager, 1, 2, enable_deep_supervision=False
    )
    network = network.to(task.device).eval()
    predictor = _make_predictor(task)
    predictor.configuration_manager = manager
    shape = np.load(task.volume, mmap_mode="r").shape[1:]
    patch_size = manager.patch_size
    # nnU-Net pads the last axes to the patch, and goes through the others one by one
    least = [1] * (len(shape) - len(patch_size)) + list(patch_size)
    padded = tuple(map(max, shape, least))
    tiles = len(predictor._internal_get_sliding_window_slicers(padded))
    tile = torch.randn(1, 1, *patch_size, device=task.device)
    times = []
    with torch.autocast(task.device.type, enabled=task.device.type == "cuda"):
        for _ in range(_STOCK_PASSES[configuration] + 1):
            begin = _now(task.device)
            network(tile)
            times.append(_now(task.device) - begin)
    seconds = statistics.median(times[1:]) * tiles  # the first one is warm-up
    name = f"nnU-Net {configuration}"
    return _Measured(
        seconds={
            name: seconds * 2 ** len(patch_size),
            f"{name}, no mirroring": seconds,
        },
        facts={f"{name}: patch": list(patch_size), f"{name}: tiles": tiles},
    )


def _now(device: torch.device) -> float:
    """Return the time after all that the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _count_flops(network: nn.Module, stacks: Tensor) -> int:
    """Return the FLOPs of a forward pass: convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(stacks)
    flops: int = counter.get_total_flops()
    return flops


def _sample_batches(
    volume: Tensor, wrapper: Any, stride: int
) -> tuple[list[Tensor], int]:
    """Return one in ``stride`` of the batches of non-empty stacks, and all stacks."""
    sample: list[Tensor] = []
    total = 0
    for plane in PLANES:
        stacks = cut_stacks(volume, plane, wrapper.neighbor_pairs)
        filled = torch.nonzero(~empty_stacks(stacks)).flatten()
        total += len(filled)
        batch_size = wrapper.slice_batch_size or wrapper._default_batch_size(stacks)
        sample += [
            stacks[chosen].contiguous(memory_format=torch.channels_last)
            for chosen in torch.split(filled, batch_size)[::stride]
        ]
    return sample, total


def _padded(volume: Tensor, predictor: Any) -> Tensor:
    """Return the one tile that nnU-Net makes of the volume."""
    patch_size = predictor.configuration_manager.patch_size
    padded: Tensor = pad_nd_image(volume, patch_size, "constant", {"value": 0})
    if list(padded.shape[1:]) != list(patch_size):
        raise ValueError(
            f"The volume must fit into the patch size of the model, {patch_size} "
            f"voxels. Got {list(volume.shape[1:])} instead. Choose another 'spacing'."
        )
    return padded


def _make_predictor(task: _Task, *, bfloat16: bool = False) -> Any:
    """Return nnU-Net's predictor with the trained model or with random weights."""
    predictor = nnUNetPredictor(
        use_mirroring=False, device=task.device, allow_tqdm=False
    )
    if task.model is not None:
        folds = nnUNetPredictor.auto_detect_available_folds(task.model, _CHECKPOINT)
        predictor.initialize_from_trained_model_folder(
            task.model, folds[:1], _CHECKPOINT
        )
    else:
        give_random_weights(predictor, task.plans)
    predictor.network.cpu_bfloat16 = bfloat16
    return predictor
