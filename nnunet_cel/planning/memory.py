"""Batch size and gradient checkpointing for a given amount of GPU memory.

The figures are peak memory of a training step in 16 bit, per stack of 256 x 256 voxels,
from CPU runs in bfloat16 (benchmarks/RESULTS.md, docs/networks.md). They grow with the
area of the window.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BATCH_SIZE", "FOOTPRINTS", "Footprint", "fit_to_memory"]

BATCH_SIZE = 16  # paper section "Hyperparameter settings"
MINIMUM_BATCH_SIZE = 2  # batch normalization
REFERENCE_WINDOW = 256  # voxels


class Footprint(NamedTuple):
    """Memory that the training of a network takes, in GB.

    Args:
        stack: Of a stack of 256 x 256 voxels.
        recomputed: The same where activations are recomputed. None stands for networks
            that cannot recompute.
        fixed: CUDA context, weights, optimizer, workspace.
    """

    stack: float
    recomputed: float | None
    fixed: float = 1.0


FOOTPRINTS = {
    "fcadensenet": Footprint(stack=0.57, recomputed=0.255),
    "fcdensenet": Footprint(stack=0.54, recomputed=0.255),
    "unet": Footprint(stack=0.075, recomputed=None),
    "resunet": Footprint(stack=0.1, recomputed=None),
    "attentionunet": Footprint(stack=0.15, recomputed=None),
    # 105 M weights, their 16-bit copy, their gradients and the moments of Adam
    "transunet": Footprint(stack=0.26, recomputed=0.1, fixed=2.9),
}


def fit_to_memory(memory: float, *, window: int, network: str) -> tuple[int, bool]:
    """Return the batch size, and whether activations must be recomputed.

    Batches have the paper's 16 stacks for as long as recomputing makes them fit; below
    that they shrink, to two at least.

    Args:
        memory: GPU memory in GB.
        window: Edge length of the training windows in voxels.
        network: Name of the network in ``plans/networks.json``.
    """
    footprint = FOOTPRINTS[network]
    area = (window / REFERENCE_WINDOW) ** 2
    available = memory - footprint.fixed
    if BATCH_SIZE * footprint.stack * area <= available:
        return BATCH_SIZE, False
    recompute = footprint.recomputed is not None
    stack = footprint.recomputed or footprint.stack
    fitting = int(available / (stack * area))
    return max(MINIMUM_BATCH_SIZE, min(BATCH_SIZE, fitting)), recompute
