"""What predicting a volume costs: seconds, memory, and what of it is the slice network.

A phantom brain is preprocessed and predicted by nnU-Net's own `nnUNetPredictor` (tiles,
Gaussian weights, float16 sum; no mirroring) with FCA-DenseNet, in float32 and, where
the CPU has it, in bfloat16. Every prediction runs in a fresh process, so that its peak
memory is its own. It is compared with

- the *bare* network: the same non-empty stacks in the same batches and the same
  precision, already cut and in channels_last, nothing but forward passes. Measured in
  the same process, one half before and one half after the prediction;
- the *plain* version: one slice at a time, float32, contiguous, empty slices included,
  with softmax. A process of its own.

A pass over a slice costs the same whatever the slice shows, so bare and plain time one
batch in ``stride`` and scale up to all. In each round the processes run one after the
other in random order; times are medians over the rounds, ratios are medians of the
ratios within a round.

Options: ``spacing`` (mm; 2 is about eight times faster), ``rounds``, ``stride``,
``batch_size`` (stacks per pass; 1 is what `TriplanarNetwork` chooses for slices of 192
x 192 voxels or more), ``model`` (folder of a trained model; without one the
weights are random and masks are not compared), ``modality`` of the phantom for that
model (``cet1w`` or ``flair``).
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from benchmarks._case import DATASET_JSON, make_phantom, make_plans, preprocess
from benchmarks._process import in_fresh_process, peak_memory, resident_memory
from nnunet_cel.networks.triplanar import has_native_bfloat16
from nnunet_cel.phantom.subject import Modality
from nnunet_cel.planning.declarations import BASE
from nnunet_cel.slicing import PLANES, cut_stacks, empty_stacks
from nnunet_cel.training.trainer import FCADenseTrainer

_CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True)
class _Task:
    """What the processes work on.

    Args:
        volume: File with the preprocessed volume ``(C, X, Y, Z)``.
        plans: Plans, unless there is a model.
        model: Folder of a trained model, or None.
        batch_size: Stacks per pass.
        stride: Bare and plain time one batch in this many.
    """

    volume: Path
    plans: dict[str, Any]
    model: str | None
    batch_size: int
    stride: int


def run(
    *,
    spacing: float = 1.0,
    rounds: int = 1,
    stride: int = 16,
    batch_size: int = 1,
    model: str | None = None,
    modality: Modality = "cet1w",
) -> dict[str, Any]:
    """Return seconds, MB and ratios; see the module's docstring."""
    precisions = ["float32"] + (["bfloat16"] if has_native_bfloat16() else [])
    phantom = make_phantom(1, spacing=spacing, modality=modality)
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        task = _Task(
            volume=Path(folder, "volume.npy"),
            plans=make_plans(phantom[0], spacing=spacing),
            model=model,
            batch_size=batch_size,
            stride=stride,
        )
        reference, shape = in_fresh_process(_preprocess, task, phantom, spacing)
        rng = random.Random(0)
        for _ in range(rounds):
            order = [*precisions, "plain"]
            rng.shuffle(order)
            measured.append({name: _measure(task, name) for name in order})
    result = {"volume, voxels": shape, **measured[0]["plain"]["sizes"]}
    result |= {"rounds": rounds, "batch size": batch_size}
    for name in precisions:
        for key in measured[0][name]["numbers"]:
            values = [turn[name]["numbers"][key] for turn in measured]
            result[f"{name}: {key}"] = statistics.median(values)
        for other in ("bare", "plain"):
            ratios = [
                turn[name]["numbers"]["s per volume"]
                / turn["plain" if other == "plain" else name]["numbers"][f"{other}, s"]
                for turn in measured
            ]
            result[f"{name} / {other}"] = statistics.median(ratios)
    result["plain, s"] = statistics.median(
        turn["plain"]["numbers"]["plain, s"] for turn in measured
    )
    masks = {name: measured[0][name]["mask"] for name in precisions}
    return result | _agreement(masks, reference, trained=model is not None)


def _agreement(
    masks: dict[str, np.ndarray], reference: np.ndarray, *, trained: bool
) -> dict[str, Any]:
    """Return the Dice of bfloat16 with float32, and of both with the label map."""
    if not trained:
        return {"DSC of masks": "not compared: random weights (-o model=FOLDER)"}
    result = {
        f"DSC of {name} with the label map": _dice(mask, reference)
        for name, mask in masks.items()
    }
    if "bfloat16" in masks:
        result["DSC of bfloat16 with float32"] = _dice(*masks.values())
    return result


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = int((a > 0).sum() + (b > 0).sum())
    return 2 * int(((a > 0) & (b > 0)).sum()) / total if total else float("nan")


# --- in processes of their own -----------------------------------------------------


def _preprocess(
    task: _Task, phantom: tuple[np.ndarray, np.ndarray], spacing: float
) -> tuple[np.ndarray, list[int]]:
    """Write the volume; return the preprocessed label map and the volume's shape."""
    predictor = _make_predictor(task, bfloat16=False)
    volume, segmentation, _ = preprocess(
        phantom,
        predictor.plans_manager,
        predictor.configuration_manager,
        spacing=spacing,
        dataset_json=predictor.dataset_json,
    )
    np.save(task.volume, volume)
    return segmentation[0], list(volume.shape[1:])


def _measure(task: _Task, name: str) -> dict[str, Any]:
    if name == "plain":
        result: dict[str, Any] = in_fresh_process(_run_plain, task)
    else:
        result = in_fresh_process(_run_predictor, task, name == "bfloat16")
    return result


def _run_predictor(task: _Task, bfloat16: bool) -> dict[str, Any]:
    """Time a prediction and, before and after it, the bare network."""
    predictor = _make_predictor(task, bfloat16=bfloat16)
    network = predictor.network.eval()
    network.slice_batch_size = task.batch_size
    volume = torch.from_numpy(np.load(task.volume))
    sample, share = _sample_batches(
        _padded(volume, predictor), network.neighbor_pairs, task
    )
    _time_bare(network.network, sample[:2], bfloat16=bfloat16)  # warm-up
    before = resident_memory()
    bare = _time_bare(network.network, sample[::2], bfloat16=bfloat16)
    begin = time.perf_counter()
    logits = predictor.predict_logits_from_preprocessed_data(volume)
    seconds = time.perf_counter() - begin
    peak = peak_memory()
    bare += _time_bare(network.network, sample[1::2], bfloat16=bfloat16)
    mask = predictor.label_manager.convert_logits_to_segmentation(logits)
    return {
        "numbers": {
            "s per volume": seconds,
            "bare, s": bare / share,
            "peak memory, MB": peak,
            "memory before the prediction, MB": before,
        },
        "mask": np.asarray(mask, dtype=np.uint8),
    }


@torch.inference_mode()
def _run_plain(task: _Task) -> dict[str, Any]:
    """Time every ``stride``-th slice of all planes."""
    predictor = _make_predictor(task, bfloat16=False)
    pairs, network = predictor.network.neighbor_pairs, predictor.network.network.eval()
    volume = _padded(torch.from_numpy(np.load(task.volume)), predictor)
    sample: list[Tensor] = []
    filled = 0
    for plane in PLANES:
        stacks = cut_stacks(volume, plane, pairs)
        filled += int((~empty_stacks(stacks)).sum())
        indices = range(0, len(stacks), task.stride)
        sample += [stacks[index : index + 1].contiguous() for index in indices]
    total = sum(volume.shape[1:])
    for stacks in sample[:2]:  # warm-up
        network(stacks)
    begin = time.perf_counter()
    for stacks in sample:
        network(stacks).softmax(dim=1)
    seconds = (time.perf_counter() - begin) * total / len(sample)
    return {
        "numbers": {"plain, s": seconds},
        "sizes": {
            "patch, voxels": list(volume.shape[1:]),
            "slices": total,
            "non-empty stacks": filled,
        },
    }


@torch.inference_mode()
def _time_bare(
    network: nn.Module, batches: Sequence[Tensor], *, bfloat16: bool
) -> float:
    begin = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        for stacks in batches:
            network(stacks)
    return time.perf_counter() - begin


def _sample_batches(
    volume: Tensor, neighbor_pairs: int, task: _Task
) -> tuple[list[Tensor], float]:
    """Return one in ``stride`` of the batches of non-empty stacks, and their share."""
    sample: list[Tensor] = []
    total = 0
    for plane in PLANES:
        stacks = cut_stacks(volume, plane, neighbor_pairs)
        filled = torch.nonzero(~empty_stacks(stacks)).flatten()
        total += len(filled)
        sample += [
            stacks[chosen].contiguous(memory_format=torch.channels_last)
            for chosen in torch.split(filled, task.batch_size)[:: task.stride]
        ]
    return sample, sum(len(stacks) for stacks in sample) / total


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


def _make_predictor(task: _Task, *, bfloat16: bool) -> Any:
    """Return nnU-Net's predictor with the trained model or with random weights."""
    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
    )
    if task.model is not None:
        folds = nnUNetPredictor.auto_detect_available_folds(task.model, _CHECKPOINT)
        predictor.initialize_from_trained_model_folder(
            task.model, folds[:1], _CHECKPOINT
        )
    else:
        torch.manual_seed(0)
        plans_manager = PlansManager(task.plans)
        configuration_manager = plans_manager.get_configuration(BASE)
        network = FCADenseTrainer.build_network_architecture(
            plans_manager, configuration_manager, 1, 2, enable_deep_supervision=False
        )
        predictor.manual_initialization(
            network,
            plans_manager,
            configuration_manager,
            [network.state_dict()],
            DATASET_JSON,
            FCADenseTrainer.__name__,
            None,
        )
    predictor.network.cpu_bfloat16 = bfloat16
    return predictor
