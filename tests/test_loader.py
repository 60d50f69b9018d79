"""The loader: reads what the slicing module defines, windows hold their lesion."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch.utils.data import DataLoader

from nnunet_cel.slicing import PLANES, cut_stacks
from nnunet_cel.training.loader import StackBatches, place_window
from nnunet_cel.training.pool import StackRequest, draw_requests, index_slices

PAIR = st.tuples(st.integers(1, 40), st.integers(1, 40))
LABELS = LabelManager({"background": 0, "lesion": 1}, None)


@given(extent=PAIR, window=st.integers(1, 40), voxel=PAIR, seed=st.integers(0, 1000))
def test_window_holds_its_voxel_and_does_not_waste_itself(
    extent: tuple[int, int], window: int, voxel: tuple[int, int], seed: int
) -> None:
    """For any sizes: the voxel is inside, padding only where the slice is smaller."""
    inside = np.minimum(voxel, extent) - 1

    start = place_window(np.random.default_rng(seed), extent, window, inside[None])

    for first, size, position in zip(start, extent, inside, strict=True):
        assert first <= position < first + window
        assert min(0, size - window) <= first <= max(0, size - window)


def read(
    image: np.ndarray, segmentation: np.ndarray, request: StackRequest, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read a stack of a case in memory, with a margin of two voxels."""
    dataset = SimpleNamespace(load_case=lambda case: (image, segmentation, None, {}))
    batches = StackBatches(
        dataset, lambda number: [request], labels=LABELS, augmentation="none", **options
    )
    batches.margin = 2
    return batches.read(request)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("neighbor_pairs", range(4))
@pytest.mark.parametrize("index", [0, 2])
def test_reads_the_stack_that_slicing_defines(
    rng: np.random.Generator, plane: int, neighbor_pairs: int, index: int
) -> None:
    """Window and margin as large as the slice hold what cut_stacks cuts from it."""
    image = rng.normal(size=(2, 5, 5, 5)).astype(np.float32)
    segmentation = rng.integers(-1, 1, size=(1, 5, 5, 5)).astype(np.int16)
    labels = torch.from_numpy(segmentation).select(plane + 1, index)
    labels[0, 2, 2] = 1
    request = StackRequest("a", plane, index, lesion=True, seed=0)

    stack, target = read(
        image, segmentation, request, window=1, neighbor_pairs=neighbor_pairs
    )

    expected = cut_stacks(torch.from_numpy(image), plane, neighbor_pairs)[index]
    assert torch.equal(stack, expected)
    assert torch.equal(target, labels)


def test_outside_is_zero_in_the_stack_and_minus_one_in_the_target(
    rng: np.random.Generator,
) -> None:
    """A slice smaller than the window is padded, inside and in the margin."""
    image = rng.uniform(1, 2, size=(1, 3, 4, 6)).astype(np.float32)
    segmentation = np.ones((1, 3, 4, 6), dtype=np.int16)
    request = StackRequest("a", 0, 1, lesion=True, seed=3)

    stack, target = read(image, segmentation, request, window=8, neighbor_pairs=1)

    assert stack.shape == (3, 12, 12)
    inside = target[0] == 1
    assert inside.sum() == 4 * 6
    assert (target[0][~inside] == -1).all()
    assert (stack[:, ~inside] == 0).all()
    assert torch.equal(stack[:, inside].reshape(3, 4, 6), torch.from_numpy(image[0]))


def make_batches(dataset: Path, augmentation: str = "paper") -> StackBatches:
    """Return batches of four windows of 24 voxels of the tiny data set."""
    cases = nnUNetDatasetBlosc2(str(dataset / "FCADensePlans_2d"))
    requests = functools.partial(
        draw_requests,
        pool=index_slices(cases, [1], progress=False),
        batch_size=4,
        oversample_foreground_percent=1.0,
        seed=5,
    )
    options = {"labels": LABELS, "window": 24, "neighbor_pairs": 1}
    return StackBatches(cases, requests, augmentation=augmentation, **options)


@pytest.mark.parametrize("augmentation", ["paper", "nnunet", "none"])
def test_batches_are_what_the_trainer_expects(
    tiny_dataset: Path, augmentation: str
) -> None:
    """Labels 0 and 1, and lesion in every window; dropout's generator is left alone."""
    batches = make_batches(tiny_dataset, augmentation)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()

    for number in range(10):
        batch = batches[number]
        assert batch["data"].shape == (4, 3, 24, 24)
        assert batch["data"].dtype == torch.float32
        assert batch["target"].shape == (4, 1, 24, 24)
        assert set(batch["target"].unique().tolist()) == {0, 1}
        assert (batch["target"] == 1).flatten(1).any(dim=1).all()
        assert len(batch["keys"]) == 4
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


def test_batches_of_workers_are_those_of_this_process(tiny_dataset: Path) -> None:
    """However many processes read: batches 2 to 6 come, in this order.

    Spawned ones get a pickled copy, without the arrays that are open here.
    """
    batches = make_batches(tiny_dataset)
    expected = [batches[number] for number in range(2, 7)]

    copy = pickle.loads(pickle.dumps(batches))
    loader = DataLoader(copy, batch_size=None, sampler=range(2, 7), num_workers=2)

    for actual, batch in zip(loader, expected, strict=True):
        assert torch.equal(actual["data"], batch["data"])
        assert torch.equal(actual["target"], batch["target"])
        assert actual["keys"] == batch["keys"]


def test_lesion_that_augmentation_loses_is_put_back(tiny_dataset: Path) -> None:
    """Where the transforms cut the lesion off, the sample comes without them."""

    def lose(image: torch.Tensor, segmentation: torch.Tensor) -> dict[str, Any]:
        return {"image": image * 0, "segmentation": segmentation * 0}

    batches, plain = (make_batches(tiny_dataset, "none") for _ in range(2))
    batches.transforms = lose

    assert torch.equal(batches[0]["data"], plain[0]["data"])
    assert torch.equal(batches[0]["target"], plain[0]["target"])
