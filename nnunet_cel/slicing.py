"""Planes, slices and stacks: the one definition of 2.5D in this package.

A volume has shape ``(C, X, Y, Z)``. *Plane* ``a`` (0, 1 or 2) is the set of slices
that are perpendicular to spatial axis ``a``; which anatomical plane that is depends on
how the image is stored. A *slice* keeps the two remaining axes in ascending order. A
*stack* is a slice with its ``k = neighbor_pairs`` neighbors on either side, folded into
the channel axis: channel ``c`` of neighbor ``o`` (``0 .. 2k``, the slice itself is
``k``) is channel ``c * (2k + 1) + o`` of the stack. Neighbors beyond the border of the
volume are zero, like everything that nnU-Net pads.

Reference: Huang et al. 2024, section "2.5D MR image slicing strategy" and Figure 6.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["PLANES", "cut_stacks", "empty_stacks", "join_slices", "stack_bounds"]

PLANES = (0, 1, 2)


def stack_bounds(index: int, neighbor_pairs: int) -> tuple[int, int]:
    """Return the half-open range of slices in the stack of slice ``index``.

    The range may reach beyond the volume; what lies there is zero.
    """
    return index - neighbor_pairs, index + neighbor_pairs + 1


def cut_stacks(volume: Tensor, plane: int, neighbor_pairs: int) -> Tensor:
    """Cut a volume into the stacks of one plane.

    Args:
        volume: Volume of shape ``(C, X, Y, Z)``.
        plane: Spatial axis that the slices are perpendicular to.
        neighbor_pairs: Neighbors on either side, ``k``.

    Returns:
        Stacks of shape ``(N, C * (2k + 1), H, W)`` in the order of their slices, where
        ``N`` is the extent of the volume along the plane's axis. Not to be written
        to: for ``k = 0`` this is a view of the volume, and for one channel neighboring
        stacks share their slices.
    """
    slices = volume.movedim(plane + 1, 0)
    if neighbor_pairs == 0:
        return slices
    border = slices.new_zeros((neighbor_pairs, *slices.shape[1:]))
    padded = torch.cat([border, slices, border])
    first, last = stack_bounds(0, neighbor_pairs)
    return padded.unfold(0, last - first, 1).movedim(-1, 2).flatten(1, 2)


def join_slices(slices: Tensor, plane: int) -> Tensor:
    """Put the slices of one plane back into a volume.

    Args:
        slices: Slices of shape ``(N, C, H, W)`` in the order of their index.
        plane: Spatial axis that the slices are perpendicular to.

    Returns:
        View of shape ``(C, X, Y, Z)``; the inverse of `cut_stacks` with ``k = 0``.
    """
    return slices.movedim(0, plane + 1)


def empty_stacks(stacks: Tensor) -> Tensor:
    """Tell which stacks hold nothing but zeros (padding, air).

    Args:
        stacks: Stacks of shape ``(N, C, H, W)``.

    Returns:
        Boolean tensor of shape ``(N,)``.
    """
    return ~stacks.any(dim=3).any(dim=2).any(dim=1)
