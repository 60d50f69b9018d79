"""Reads stacks straight from nnU-Net's preprocessed cases.

A sample is a stack of neighboring slices (see `nnunet_cel.slicing`) cut to a square
window, with the label slice that belongs to its middle. No volume is ever built: only
the window is read from the blosc2 arrays.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nnunet_cel.slicing import PLANES, stack_bounds
from nnunet_cel.training.augmentation import build_transforms
from nnunet_cel.training.pool import StackRequest, lesion_labels

__all__ = [
    "StackBatches",
    "advice_on_lost_workers",
    "batch_iterator",
    "place_window",
    "read_stack",
]

# What nnU-Net writes into segmentations outside of the image.
OUTSIDE = -1


def place_window(
    rng: np.random.Generator,
    extent: Sequence[int],
    window: int,
    lesion_voxels: np.ndarray,
) -> tuple[int, int]:
    """Place a square window on a slice at random, so that it holds lesion.

    Along an axis on which the slice is smaller than the window the slice lies anywhere
    within the window; the rest is padding.

    Args:
        rng: Source of randomness.
        extent: Height and width of the slice in voxels.
        window: Edge length of the window in voxels.
        lesion_voxels: Positions of lesion voxels, shape ``(N, 2)``. One of them, drawn
            at random, lies within the window. Without any the window lies anywhere.

    Returns:
        First row and first column of the window; negative where padding comes first.
    """
    voxel = None
    if len(lesion_voxels):
        voxel = lesion_voxels[rng.integers(len(lesion_voxels))]
    start = []
    for axis, size in enumerate(extent):
        low, high = min(0, size - window), max(0, size - window)
        if voxel is not None and size > window:
            low = max(low, int(voxel[axis]) - window + 1)
            high = min(high, int(voxel[axis]))
        start.append(int(rng.integers(low, high + 1)))
    return start[0], start[1]


def read_stack(
    image: Any,
    segmentation: Any,
    request: StackRequest,
    *,
    neighbor_pairs: int,
    window: int,
    margin: int,
    lesion_labels: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Read the stack and the label slice that a request names.

    Args:
        image: Array ``(C, X, Y, Z)``, in memory or on disk.
        segmentation: Array ``(1, X, Y, Z)``.
        request: What to read.
        neighbor_pairs: Neighbors on either side of the slice, ``k``.
        window: Edge length in voxels of the window that must hold lesion.
        margin: Voxels around the window that are read as well, for rotations.
        lesion_labels: Labels that count as lesion.

    Returns:
        Stack ``(C * (2k + 1), W, W)`` in float32 and labels ``(1, W, W)`` in int16,
        where ``W = window + 2 * margin``. Outside of the image the stack is 0 and the
        label -1.
    """
    rng = np.random.default_rng(request.seed)
    shape = segmentation.shape[1:]
    rows, columns = (axis for axis in PLANES if axis != request.plane)
    extent = (shape[rows], shape[columns])

    whole = [[0, size] for size in shape]
    whole[request.plane] = [request.index, request.index + 1]
    slicer = (0, *(slice(*bounds) for bounds in whole))
    labels = np.asarray(segmentation[slicer], dtype=np.int16).reshape(extent)
    lesion_voxels = np.zeros((0, 2), dtype=np.int64)
    if request.lesion:
        lesion_voxels = np.argwhere(np.isin(labels, lesion_labels))
    top, left = place_window(rng, extent, window, lesion_voxels)

    frame = [
        [top - margin, top + window + margin],
        [left - margin, left + window + margin],
    ]
    target = crop_and_pad_nd(labels[None], frame, pad_value=OUTSIDE)
    box = list(frame)
    box.insert(request.plane, list(stack_bounds(request.index, neighbor_pairs)))
    stack = np.moveaxis(crop_and_pad_nd(image, box, pad_value=0), request.plane + 1, 1)
    side = window + 2 * margin
    return (
        torch.from_numpy(np.ascontiguousarray(stack)).float().reshape(-1, side, side),
        torch.from_numpy(target),
    )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that the transforms draw from, and put them back."""
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()
    np.random.seed(seed)
    # torch.manual_seed would seed all GPUs, too, and takes a hundred times as long
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


class StackBatches(Dataset[dict[str, Any]]):
    """Batches of stacks by their number; see `batch_iterator`.

    A batch is what nnU-Net's trainer expects: ``data`` ``(B, C * (2k + 1), W, W)`` in
    float32, ``target`` ``(B, 1, W, W)`` (labels) or ``(B, regions, W, W)``, ``keys``.

    Args:
        dataset: Preprocessed cases.
        requests: Batch number to the samples of that batch.
        labels: nnU-Net's label manager of the data set.
        augmentation: ``"paper"``, ``"nnunet"`` or ``"none"``. Is left out where it
            loses the lesion that a sample must hold.
        window: Edge length of the windows in voxels.
        neighbor_pairs: Neighbors on either side of a slice, ``k``.
    """

    def __init__(
        self,
        dataset: nnUNetBaseDataset,
        requests: Callable[[int], list[StackRequest]],
        *,
        labels: LabelManager,
        augmentation: str,
        window: int,
        neighbor_pairs: int,
    ) -> None:
        self.dataset = dataset
        self.requests = requests
        self.window = window
        self.neighbor_pairs = neighbor_pairs
        self.lesion_labels = lesion_labels(labels)
        self.num_regions = len(labels.foreground_regions) if labels.has_regions else 0
        self.transforms, self.plain_transforms, self.margin = build_transforms(
            augmentation,
            window,
            regions=labels.foreground_regions if labels.has_regions else None,
            ignore_label=labels.ignore_label,
        )
        self._opened: dict[str, tuple[Any, Any]] = {}

    def __getitem__(self, batch_number: int) -> dict[str, Any]:
        """Read and augment a batch."""
        requests = self.requests(batch_number)
        samples = [self._sample(request) for request in requests]
        return {
            "data": torch.stack([stack for stack, _ in samples]),
            "target": torch.stack([target for _, target in samples]),
            "keys": [request.case for request in requests],
        }

    def __getstate__(self) -> dict[str, Any]:
        """Leave the opened arrays behind: workers that are spawned open their own."""
        return self.__dict__ | {"_opened": {}}

    def _sample(self, request: StackRequest) -> tuple[Tensor, Tensor]:
        image, segmentation = self._open(request.case)
        stack, labels = read_stack(
            image,
            segmentation,
            request,
            neighbor_pairs=self.neighbor_pairs,
            window=self.window,
            margin=self.margin,
            lesion_labels=self.lesion_labels,
        )
        with torch.no_grad(), _seeded(request.seed):
            result = self.transforms(image=stack, segmentation=labels)
            if request.lesion and not self._holds_lesion(result["segmentation"]):
                inner = slice(self.margin, self.margin + self.window)
                result = self.plain_transforms(
                    image=stack[:, inner, inner], segmentation=labels[:, inner, inner]
                )
        return result["image"], result["segmentation"]

    def _holds_lesion(self, target: Tensor) -> bool:
        if self.num_regions:  # after them comes the mask of ignored voxels
            return bool(target[: self.num_regions].any())
        return bool(torch.isin(target, torch.tensor(self.lesion_labels)).any())

    def _open(self, case: str) -> tuple[Any, Any]:
        # opening costs more than reading a window, and arrays on disk are cheap to keep
        if case not in self._opened:
            image, segmentation, _, _ = self.dataset.load_case(case)
            self._opened[case] = image, segmentation
        return self._opened[case]


def batch_iterator(
    batches: StackBatches,
    numbers: Iterable[int] | None = None,
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[dict[str, Any]]:
    """Return batches in the order of their numbers.

    torch's loader rather than nnU-Net's: it keeps the order, hands on the errors of its
    workers, and notices when one of them dies.

    Args:
        batches: Where batches come from.
        numbers: Which batches; None stands for all, endlessly.
        num_workers: Processes that read ahead; with 0 this process reads.
        pin_memory: Whether to copy batches to memory that the GPU can read.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=itertools.count() if numbers is None else numbers,
        num_workers=num_workers,
        pin_memory=pin_memory,
    )
    return iter(loader)


@contextlib.contextmanager
def advice_on_lost_workers() -> Iterator[None]:
    """Say what to do if a process that loads data is gone while the block runs.

    Around the whole training, because torch may raise its error anywhere in it.

    Raises:
        RuntimeError: If a process died, or had no shared memory for a batch.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        # what torch says when a worker died or has no shared memory to put a batch into
        signs = ("DataLoader worker (pid", "shared memory", "</torch_")
        if not any(sign in str(error) for sign in signs):
            raise
        raise RuntimeError(
            "The processes that load data must be able to run and to share memory "
            "(/dev/shm). If one was killed, memory was probably short. Let fewer run "
            "(environment variable nnUNet_n_proc_DA, 0 for none) or give the container "
            f"more shared memory, then continue with --c. Got: {error}"
        ) from error
