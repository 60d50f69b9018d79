"""The loader: reads what the slicing module defines, windows hold their lesion."""

from __future__ import annotations

import functools
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_cel.slicing import PLANES, cut_stacks
from nnunet_cel.training.loader import (
    StackBatches,
    batch_iterator,
    place_window,
    read_stack,
)
from nnunet_cel.training.pool import StackRequest, draw_requests, index_slices


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
        if size >= window:
            assert 0 <= first <= size - window
        else:
            assert size - window <= first <= 0


def test_window_goes_everywhere() -> None:
    """All placements that hold the voxel occur."""
    rng = np.random.default_rng(0)

    starts = {place_window(rng, (10, 10), 4, np.array([[5, 0]])) for _ in range(500)}

    assert starts == {(row, 0) for row in (2, 3, 4, 5)}


OPTIONS: dict[str, Any] = {"neighbor_pairs": 1, "lesion_labels": [1]}


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

    options = OPTIONS | {"neighbor_pairs": neighbor_pairs}
    stack, target = read_stack(
        image, segmentation, request, window=5, margin=0, **options
    )

    expected = cut_stacks(torch.from_numpy(image), plane, neighbor_pairs)[index]
    torch.testing.assert_close(stack, expected, rtol=0, atol=0)
    labels = torch.from_numpy(segmentation).select(plane + 1, index)
    torch.testing.assert_close(target, labels, rtol=0, atol=0)


def test_outside_is_zero_in_the_stack_and_minus_one_in_the_target(
    rng: np.random.Generator,
) -> None:
    """A slice smaller than the window is padded, inside and in the margin."""
    image = rng.uniform(1, 2, size=(1, 3, 4, 6)).astype(np.float32)
    segmentation = np.ones((1, 3, 4, 6), dtype=np.int16)
    request = StackRequest("a", 0, 1, lesion=True, seed=3)

    stack, target = read_stack(
        image, segmentation, request, window=8, margin=2, **OPTIONS
    )

    assert stack.shape == (3, 12, 12)
    inside = target[0] == 1
    assert inside.sum() == 4 * 6
    assert (target[0][~inside] == -1).all()
    assert (stack[:, ~inside] == 0).all()
    torch.testing.assert_close(
        stack[:, inside].reshape(3, 4, 6), torch.from_numpy(image[0])
    )


@pytest.fixture
def dataset(tiny_dataset: Path) -> nnUNetDatasetBlosc2:
    """The preprocessed cases of the tiny data set."""
    return nnUNetDatasetBlosc2(str(tiny_dataset / "FCADensePlans_2d"))


def stack_batches(dataset: nnUNetDatasetBlosc2, **kwargs: Any) -> StackBatches:
    """Return augmented batches of four windows of 24 voxels."""
    options: dict[str, Any] = {
        "labels": LabelManager({"background": 0, "lesion": 1}, None),
        "augmentation": "paper",
        "window": 24,
        "neighbor_pairs": 1,
    }
    requests = functools.partial(
        draw_requests,
        pool=index_slices(dataset, [1], progress=False),
        batch_size=4,
        oversample_foreground_percent=1.0,
        seed=5,
    )
    return StackBatches(dataset, requests, **options | kwargs)


def test_batches_are_what_the_trainer_expects(dataset: nnUNetDatasetBlosc2) -> None:
    """Shapes, types, labels 0 and 1 only, and lesion in every window."""
    batches = stack_batches(dataset)

    for number in range(25):
        batch = batches[number]
        assert batch["data"].shape == (4, 3, 24, 24)
        assert batch["data"].dtype == torch.float32
        assert batch["target"].shape == (4, 1, 24, 24)
        assert set(batch["target"].unique().tolist()) == {0, 1}
        assert (batch["target"] == 1).flatten(1).any(dim=1).all()
        assert len(batch["keys"]) == 4


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_do_not_depend_on_the_number_of_workers(
    dataset: nnUNetDatasetBlosc2, num_workers: int
) -> None:
    """However many processes read: batches 2 to 6 come, in this order."""
    batches = stack_batches(dataset)

    iterator = batch_iterator(batches, itertools.count(2), num_workers=num_workers)

    for number in range(2, 7):
        actual, expected = next(iterator), batches[number]
        torch.testing.assert_close(actual["data"], expected["data"], rtol=0, atol=0)
        assert torch.equal(actual["target"], expected["target"])
        assert actual["keys"] == expected["keys"]


def test_can_be_sent_to_a_spawned_worker(dataset: nnUNetDatasetBlosc2) -> None:
    """Pickled after use, it makes the same batches: opened files stay behind."""
    batches = stack_batches(dataset)
    expected = batches[1]

    copy = pickle.loads(pickle.dumps(batches))

    assert torch.equal(copy[1]["data"], expected["data"])


def test_errors_of_workers_arrive(dataset: nnUNetDatasetBlosc2) -> None:
    """What goes wrong in a worker is raised here, with its message."""

    def broken(image: torch.Tensor, segmentation: torch.Tensor) -> dict[str, Any]:
        raise ValueError("no such thing")

    batches = stack_batches(dataset)
    batches.transforms = broken
    iterator = batch_iterator(batches, num_workers=1)

    with pytest.raises(ValueError, match="no such thing"):
        next(iterator)


def test_global_generators_are_left_alone(dataset: nnUNetDatasetBlosc2) -> None:
    """Loading in the training process does not touch dropout's generator."""
    np.random.seed(1)
    torch.manual_seed(1)
    expected = np.random.rand(), torch.rand(1)

    np.random.seed(1)
    torch.manual_seed(1)
    stack_batches(dataset)[0]

    assert (np.random.rand(), torch.rand(1)) == expected


def test_ignored_voxels_are_no_lesion(dataset: nnUNetDatasetBlosc2) -> None:
    """After the regions comes the mask of ignored voxels: it does not count."""
    regions = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
    batches = stack_batches(dataset, labels=regions)
    target = torch.zeros(3, 4, 4, dtype=torch.bool)
    target[2] = True

    assert not batches._holds_lesion(target)
    target[1, 0, 0] = True
    assert batches._holds_lesion(target)


def test_lesion_that_augmentation_loses_is_put_back(
    dataset: nnUNetDatasetBlosc2,
) -> None:
    """Where the transforms cut the lesion off, the sample comes without them."""

    def lose(image: torch.Tensor, segmentation: torch.Tensor) -> dict[str, Any]:
        inner = slice(5, 29)
        return {
            "image": image[:, inner, inner] * 0,
            "segmentation": segmentation[:, inner, inner] * 0,
        }

    batches = stack_batches(dataset)
    batches.transforms, batches.margin = lose, 5

    batch = batches[0]

    assert (batch["target"] == 1).flatten(1).any(dim=1).all()
    assert batch["data"].abs().sum() > 0
