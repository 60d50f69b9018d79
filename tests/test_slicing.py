"""Slicing: cutting and joining is the identity, borders are zero."""

from __future__ import annotations

import pytest
import torch

from nnunet_cel.slicing import (
    PLANES,
    cut_stacks,
    empty_stacks,
    join_slices,
    stack_bounds,
)


@pytest.mark.parametrize("shape", [(1, 6, 7, 8), (2, 4, 5, 6), (3, 1, 4, 9)])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("neighbor_pairs", range(4))
def test_stacks_are_slices_with_their_neighbors(
    shape: tuple[int, ...], plane: int, neighbor_pairs: int
) -> None:
    """Channel c * (2k + 1) + o of stack i is slice i - k + o of channel c, or zero.

    The middle slice of every stack, joined, is the volume again.
    """
    volume = torch.randn(shape)
    size = 2 * neighbor_pairs + 1

    stacks = cut_stacks(volume, plane, neighbor_pairs).unflatten(1, (shape[0], size))

    middle = join_slices(stacks[:, :, neighbor_pairs], plane)
    torch.testing.assert_close(middle, volume, rtol=0, atol=0)
    for index, stack in enumerate(stacks):
        first, last = stack_bounds(index, neighbor_pairs)
        assert last - first == size
        for offset, position in enumerate(range(first, last)):
            expected = torch.zeros_like(stack[:, 0])
            if 0 <= position < shape[plane + 1]:
                expected = volume.select(plane + 1, position)
            torch.testing.assert_close(stack[:, offset], expected, rtol=0, atol=0)


def test_paper_example_of_plane_shapes() -> None:
    """The paper's 256 x 128 x 64 image gives 256, 128 and 64 stacks of three slices."""
    volume = torch.zeros(1, 256, 128, 64)

    shapes = [tuple(cut_stacks(volume, plane, 1).shape) for plane in PLANES]

    assert shapes == [(256, 3, 128, 64), (128, 3, 256, 64), (64, 3, 256, 128)]


def test_only_all_zero_stacks_are_empty() -> None:
    """One voxel, even a negative or NaN one in a neighbor, makes a stack non-empty."""
    stacks = torch.zeros(5, 3, 4, 4)
    stacks[1, 2, 3, 3] = 1e-30
    stacks[2, 0, 0, 0] = -1
    stacks[3, 1, 1, 1] = float("nan")

    assert empty_stacks(stacks).tolist() == [True, False, False, False, True]
