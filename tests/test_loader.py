"""The loader: reads what the slicing module defines, windows hold their lesion."""

from __future__ import annotations

import functools
import itertools
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

LABELS = LabelManager({"background": 0, "lesion": 1}, None)


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    window=st.integers(1, 40),
    row=st.integers(0, 39),
    column=st.integers(0, 39),
    seed=st.integers(0, 1000),
)
def test_window_holds_its_voxel_and_does_not_waste_itself(
    height: int, width: int, window: int, row: int, column: int, seed: int
) -> None:
    """For any sizes: the voxel is inside, padding only where the slice is smaller."""
    voxel = np.array([[min(row, height - 1), min(column, width - 1)]])

    start = place_window(np.random.default_rng(seed), (height, width), window, voxel)

    for first, size, position in zip(start, (height, width), voxel[0], strict=True):
        assert first <= position < first + window
        assert min(0, size - window) <= first <= max(0, size - window)


def test_window_goes_everywhere() -> None:
    """All placements that hold the voxel occur."""
    rng = np.random.default_rng(0)

    starts = {place_window(rng, (10, 10), 4, np.array([[5, 0]])) for _ in range(500)}

    assert starts == {(row, 0) for row in (2, 3, 4, 5)}


def read(
    image: np.ndarray, segmentation: np.ndarray, request: StackRequest, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read a stack of a case in memory."""
    dataset = SimpleNamespace(load_case=lambda case: (image, segmentation, None, {}))
    margin = options.pop("margin", 0)
    batches = StackBatches(
        dataset, lambda number: [request], labels=LABELS, augmentation="none", **options
    )
    batches.margin = margin
    return batches.read(request)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("neighbor_pairs", range(4))
@pytest.mark.parametrize("index", [0, 2])
def test_reads_the_stack_that_slicing_defines(
    rng: np.random.Generator, plane: int, neighbor_pairs: int, index: int
) -> None:
    """A window as large as the slice holds what cut_stacks cuts from the volume."""
    image = rng.normal(size=(2, 5, 5, 5)).astype(np.float32)
    segmentation = rng.integers(-1, 2, size=(1, 5, 5, 5)).astype(np.int16)
    request = StackRequest("a", plane, index, lesion=True, seed=0)

    stack, target = read(
        image, segmentation, request, window=5, neighbor_pairs=neighbor_pairs
    )

    expected = cut_stacks(torch.from_numpy(image), plane, neighbor_pairs)[index]
    assert torch.equal(stack, expected)
    labels = torch.from_numpy(segmentation).select(plane + 1, index)
    assert torch.equal(target, labels)


def test_outside_is_zero_in_the_stack_and_minus_one_in_the_target(
    rng: np.random.Generator,
) -> None:
    """A slice smaller than the window is padded, inside and in the margin."""
    image = rng.uniform(1, 2, size=(1, 3, 4, 6)).astype(np.float32)
    segmentation = np.ones((1, 3, 4, 6), dtype=np.int16)
    request = StackRequest("a", 0, 1, lesion=True, seed=3)

    stack, target = read(
        image, segmentation, request, window=8, margin=2, neighbor_pairs=1
    )

    assert stack.shape == (3, 12, 12)
    inside = target[0] == 1
    assert inside.sum() == 4 * 6
    assert (target[0][~inside] == -1).all()
    assert (stack[:, ~inside] == 0).all()
    assert torch.equal(stack[:, inside].reshape(3, 4, 6), torch.from_numpy(image[0]))


@pytest.fixture
def batches(tiny_dataset: Path) -> StackBatches:
    """Augmented batches of four windows of 24 voxels of the tiny data set."""
    dataset = nnUNetDatasetBlosc2(str(tiny_dataset / "FCADensePlans_2d"))
    requests = functools.partial(
        draw_requests,
        pool=index_slices(dataset, [1], progress=False),
        batch_size=4,
        oversample_foreground_percent=1.0,
        seed=5,
    )
    return StackBatches(
        dataset,
        requests,
        labels=LABELS,
        augmentation="paper",
        window=24,
        neighbor_pairs=1,
    )


def test_batches_are_what_the_trainer_expects(batches: StackBatches) -> None:
    """Shapes, types, labels 0 and 1 only, and lesion in every window."""
    for number in range(25):
        batch = batches[number]
        assert batch["data"].shape == (4, 3, 24, 24)
        assert batch["data"].dtype == torch.float32
        assert batch["target"].shape == (4, 1, 24, 24)
        assert set(batch["target"].unique().tolist()) == {0, 1}
        assert (batch["target"] == 1).flatten(1).any(dim=1).all()
        assert len(batch["keys"]) == 4


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_batches_of_workers_are_those_of_this_process(
    batches: StackBatches, context: str
) -> None:
    """However many processes read: batches 2 to 6 come, in this order."""
    expected = [batches[number] for number in range(2, 7)]

    iterator = iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=itertools.count(2),  # type: ignore[arg-type]  # any iterable will do
            num_workers=2,
            multiprocessing_context=context,
        )
    )

    for batch in expected:
        actual = next(iterator)
        assert torch.equal(actual["data"], batch["data"])
        assert torch.equal(actual["target"], batch["target"])
        assert actual["keys"] == batch["keys"]


def test_global_generators_are_left_alone(batches: StackBatches) -> None:
    """Loading in the training process does not touch dropout's generator."""
    before = np.random.get_state()[1].copy(), torch.get_rng_state()

    batches[0]

    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


def test_ignored_voxels_are_no_lesion(batches: StackBatches) -> None:
    """After the regions comes the mask of ignored voxels: it does not count."""
    batches.num_regions = 2
    target = torch.zeros(3, 4, 4, dtype=torch.bool)
    target[2] = True

    assert not batches._holds_lesion(target)
    target[1, 0, 0] = True
    assert batches._holds_lesion(target)


def test_lesion_that_augmentation_loses_is_put_back(batches: StackBatches) -> None:
    """Where the transforms cut the lesion off, the sample comes without them."""

    def lose(image: torch.Tensor, segmentation: torch.Tensor) -> dict[str, Any]:
        inner = slice(5, 29)
        return {
            "image": image[:, inner, inner] * 0,
            "segmentation": segmentation[:, inner, inner] * 0,
        }

    batches.transforms, batches.margin = lose, 5

    batch = batches[0]

    assert (batch["target"] == 1).flatten(1).any(dim=1).all()
    assert batch["data"].abs().sum() > 0
