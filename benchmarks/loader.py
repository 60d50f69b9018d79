"""Stacks per second that one worker reads and augments, by plane.

Two phantoms are preprocessed and written by nnU-Net's own `save_case`, once in the
chunks of our plans (patch S x S x S) and once in those of stock 2D plans (patch H x W,
the slice rounded up to multiples of 32). From both, `StackBatches` makes the same
batches of 16 stacks with windows of S x S voxels, all of one plane, with the paper's
augmentation and without. nnU-Net's own 3D loader reads windows of the same extent from
our chunks, without augmentation: patches of three slices along the axis of the plane,
each with a lesion voxel in it, as with ``oversample_foreground_percent = 1``. Pages are
in the operating system's cache and files are open.

One thread, as in a worker of torch's loader. All variants take turns in random order;
the first turn is not counted; rates come from the median time of a batch. The last row
is one worker process, through torch's loader, with all planes and augmentation: the
same batches as they arrive in the training process.

Options: ``spacing`` (mm), ``turns``, ``batch_size``.
"""

from __future__ import annotations

import functools
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch.utils.data import DataLoader

from benchmarks._case import (
    DATASET_JSON,
    make_phantom,
    make_plans,
    preprocess,
    save_case,
)
from benchmarks._process import in_fresh_process
from nnunet_cel.planning.declarations import BASE
from nnunet_cel.slicing import PLANES
from nnunet_cel.training.loader import StackBatches
from nnunet_cel.training.pool import SlicePool, draw_requests, index_slices

_PHANTOMS = 2
_AUGMENTATIONS = ("paper", "none")
_ALL = "all"
_STOCK = "nnU-Net 3D"


def run(
    *, spacing: float = 1.0, turns: int = 10, batch_size: int = 16
) -> dict[str, Any]:
    """Return stacks per second; see the module's docstring."""
    with tempfile.TemporaryDirectory() as folder:
        # one thread, and blosc2's settings, in no other benchmark
        result: dict[str, Any] = in_fresh_process(
            _measure, folder, spacing, turns, batch_size
        )
    return result


def _measure(
    folder: str, spacing: float, turns: int, batch_size: int
) -> dict[str, Any]:
    torch.set_num_threads(1)
    window, chunks = _write_cases(Path(folder), spacing)
    variants: dict[tuple[str, int | str, str], Callable[[int], object]] = {
        (layout, plane, augmentation): _make_batches(
            Path(folder, layout), window, batch_size, plane, augmentation
        ).__getitem__
        for layout in chunks
        for plane in (*PLANES, _ALL)
        for augmentation in _AUGMENTATIONS
    }
    ours = next(iter(chunks))
    for axis in PLANES:
        loader = _make_stock_loader(Path(folder, ours), window, batch_size, axis)
        variants[_STOCK, axis, "none"] = functools.partial(_read_stock_batch, loader)
    times: dict[Any, list[float]] = {variant: [] for variant in variants}
    rng = random.Random(0)
    for turn in range(turns):
        for variant in rng.sample(list(variants), len(variants)):
            begin = time.perf_counter()
            variants[variant](turn)
            if turn > 0:
                times[variant].append(time.perf_counter() - begin)
    rates = {
        variant: batch_size / statistics.median(values)
        for variant, values in times.items()
    }
    result: dict[str, Any] = {"window, voxels": window, "batches of each": turns - 1}
    for layout, shape in chunks.items():
        result[f"chunks, {layout}"] = shape
    for plane, augmentation in itertools.product((*PLANES, _ALL), _AUGMENTATIONS):
        key = f"plane {plane}, augmentation {augmentation}"
        cubic, flat = (rates[layout, plane, augmentation] for layout in chunks)
        result[f"{key}: stacks per s"] = cubic
        result[f"{key}: stacks per s, stock chunks"] = flat
        result[f"{key}: ours / stock chunks"] = cubic / flat
        if (_STOCK, plane, augmentation) in rates:
            stock = rates[_STOCK, plane, augmentation]
            result[f"{key}: stacks per s, nnU-Net's 3D loader"] = stock
            result[f"{key}: ours / nnU-Net's 3D loader"] = cubic / stock
    # not one of the above: open files cannot be handed to a process
    batches = _make_batches(Path(folder, ours), window, batch_size, _ALL, "paper")
    result["one worker process, plane all, augmentation paper: stacks per s"] = (
        _rate_of_worker(batches, batch_size, turns)
    )
    return result


def _write_cases(folder: Path, spacing: float) -> tuple[int, dict[str, list[int]]]:
    """Write all cases in both layouts; return S, and the chunks of the last case."""
    phantoms = [make_phantom(index, spacing=spacing) for index in range(_PHANTOMS)]
    plans = [make_plans(image, spacing=spacing) for image, _ in phantoms]
    largest = max(plans, key=lambda each: each["configurations"][BASE]["patch_size"])
    manager = PlansManager(largest)
    configuration = manager.get_configuration(BASE)
    patch_size = configuration.patch_size
    chunks: dict[str, list[int]] = {}
    for index, phantom in enumerate(phantoms):
        case = preprocess(phantom, manager, configuration, spacing=spacing)
        in_plane = [-(-size // 32) * 32 for size in case[0].shape[2:]]
        for layout, patch in (("ours", patch_size), ("stock 2D", in_plane)):
            (folder / layout).mkdir(exist_ok=True)
            path = folder / layout / f"phantom_{index}"
            chunks[layout] = save_case(case, path, patch)
    return patch_size[0], chunks


def _make_batches(
    folder: Path, window: int, batch_size: int, plane: int | str, augmentation: str
) -> StackBatches:
    dataset = nnUNetDatasetBlosc2(
        str(folder), [f"phantom_{index}" for index in range(_PHANTOMS)]
    )
    return StackBatches(
        dataset,
        functools.partial(
            draw_requests,
            pool=_only(index_slices(dataset, [1], progress=False), plane),
            batch_size=batch_size,
            oversample_foreground_percent=1.0,
            seed=0,
        ),
        labels=LabelManager(DATASET_JSON["labels"], regions_class_order=None),
        augmentation=augmentation,
        window=window,
        neighbor_pairs=1,
    )


def _make_stock_loader(
    folder: Path, window: int, batch_size: int, plane: int
) -> nnUNetDataLoader:
    """Return nnU-Net's loader of patches that are stacks of a plane."""
    patch_size = [window] * 3
    patch_size[plane] = 3
    return nnUNetDataLoader(
        nnUNetDatasetBlosc2(
            str(folder), [f"phantom_{index}" for index in range(_PHANTOMS)]
        ),
        batch_size,
        patch_size,
        patch_size,
        LabelManager(DATASET_JSON["labels"], regions_class_order=None),
        oversample_foreground_percent=1.0,
    )


def _read_stock_batch(loader: nnUNetDataLoader, _: int) -> object:
    return loader.generate_train_batch()


def _only(pool: SlicePool, plane: int | str) -> SlicePool:
    """Return the pool without the slices of other planes."""
    if plane == _ALL:
        return pool

    lesion, lesion_free = (
        rows[rows[:, 0] == plane] for rows in (pool.lesion, pool.lesion_free)
    )
    return SlicePool(pool.cases, lesion, lesion_free)


def _rate_of_worker(batches: StackBatches, batch_size: int, turns: int) -> float:
    """Return the stacks per second that one worker process delivers."""
    numbers = itertools.count()
    iterator = iter(
        DataLoader(batches, batch_size=None, sampler=numbers, num_workers=1)
    )
    for _ in range(4):  # the worker has read ahead while this process did nothing
        next(iterator)
    begin = time.perf_counter()
    for _ in range(turns):
        next(iterator)
    return batch_size * turns / (time.perf_counter() - begin)
