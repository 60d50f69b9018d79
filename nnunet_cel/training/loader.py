"""Reads stacks straight from nnU-Net's preprocessed cases.

A sample is a stack of neighboring slices (see `nnunet_cel.slicing`) cut to a square
window, with the label slice that belongs to its middle. No volume is ever built: only
the window is read from the blosc2 arrays.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor
from torch.utils.data import Dataset

from nnunet_cel.slicing import PLANES, stack_bounds
from nnunet_cel.training.augmentation import build_transforms
from nnunet_cel.training.pool import StackRequest, lesion_labels

__all__ = ["StackBatches", "advice_on_lost_workers", "place_window"]

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
    low = [min(0, size - window) for size in extent]
    high = [max(0, size - window) for size in extent]
    if len(lesion_voxels):
        voxel = lesion_voxels[rng.integers(len(lesion_voxels))].tolist()
        low = [max(low[axis], voxel[axis] - window + 1) for axis in (0, 1)]
        high = [min(high[axis], voxel[axis]) for axis in (0, 1)]
    row, column = (int(rng.integers(low[axis], high[axis] + 1)) for axis in (0, 1))
    return row, column


class StackBatches(Dataset[dict[str, Any]]):
    """Batches of stacks by their number, for torch's loader.

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
            augmentation, window, labels
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

    def read(self, request: StackRequest) -> tuple[Tensor, Tensor]:
        """Read a stack and its label slice, with a margin for rotations.

        Returns:
            Stack ``(C * (2k + 1), W, W)`` in float32 and labels ``(1, W, W)`` in int16,
            where ``W = window + 2 * margin``. Outside of the image the stack is 0 and
            the label -1.
        """
        # opening costs more than reading a window, and arrays on disk are cheap to keep
        if request.case not in self._opened:
            self._opened[request.case] = self.dataset.load_case(request.case)[:2]
        image, segmentation = self._opened[request.case]
        shape = segmentation.shape[1:]
        extent = [shape[axis] for axis in PLANES if axis != request.plane]
        slices: list[Any] = [0, slice(None), slice(None), slice(None)]
        slices[1 + request.plane] = slice(request.index, request.index + 1)
        labels = np.asarray(segmentation[tuple(slices)], dtype=np.int16).reshape(extent)
        lesion_voxels = np.zeros((0, 2), dtype=np.int64)
        if request.lesion:
            lesion_voxels = np.argwhere(np.isin(labels, self.lesion_labels))
        rng = np.random.default_rng(request.seed)
        start = place_window(rng, extent, self.window, lesion_voxels)
        box = [[s - self.margin, s + self.window + self.margin] for s in start]
        target = crop_and_pad_nd(labels[None], box, pad_value=OUTSIDE)
        bounds = stack_bounds(request.index, self.neighbor_pairs)
        box.insert(request.plane, list(bounds))
        stack = crop_and_pad_nd(image, box, pad_value=0)
        stack = np.ascontiguousarray(np.moveaxis(stack, request.plane + 1, 1))
        return torch.from_numpy(stack).float().flatten(0, 1), torch.from_numpy(target)

    def _sample(self, request: StackRequest) -> tuple[Tensor, Tensor]:
        stack, labels = self.read(request)
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


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that the transforms draw from, and put them back."""
    numpy_state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        np.random.seed(seed)
        # torch.manual_seed would seed all GPUs, too, and takes a hundred times as long
        torch.default_generator.manual_seed(seed)
        yield
    np.random.set_state(numpy_state)


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
        # what torch says when a worker died or has no shared memory to put a batch
        # into; a semaphore lies there, too, but its error names nothing
        signs = ("DataLoader worker", "shared memory", "</torch_", "synchronize.py")
        place = traceback.extract_tb(error.__traceback__)[-1].filename
        if not any(sign in f"{error} {place}" for sign in signs):
            raise
        raise RuntimeError(
            "The processes that load data must be able to run and to share memory "
            "(/dev/shm). If one was killed, memory was probably short. Let fewer run "
            "(environment variable nnUNet_n_proc_DA, 0 for none) or give the container "
            f"more shared memory, then continue with --c. Got: {error}"
        ) from error
