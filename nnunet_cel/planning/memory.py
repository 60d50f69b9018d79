"""Batch size and gradient checkpointing for a given amount of GPU memory.

The figures are peak memory of a training step of FCA-DenseNet in 16 bit, per stack of
256 x 256 voxels, from CPU runs in bfloat16 (benchmarks/RESULTS.md); other networks of
the paper need less. They grow with the area of the window.
"""

from __future__ import annotations

__all__ = ["BATCH_SIZE", "fit_to_memory"]

BATCH_SIZE = 16  # paper section "Hyperparameter settings"
MINIMUM_BATCH_SIZE = 2  # batch normalization
GB_PER_STACK = 0.57
GB_PER_STACK_CHECKPOINTED = 0.255
GB_FIXED = 1.0  # CUDA context, weights, optimizer, workspace
REFERENCE_WINDOW = 256  # voxels


def fit_to_memory(memory: float, *, window: int) -> tuple[int, bool]:
    """Return the batch size, and whether activations must be recomputed.

    Batches have the paper's 16 stacks for as long as recomputing makes them fit; below
    that they shrink, to two at least.

    Args:
        memory: GPU memory in GB.
        window: Edge length of the training windows in voxels.
    """
    area = (window / REFERENCE_WINDOW) ** 2
    available = memory - GB_FIXED
    if BATCH_SIZE * GB_PER_STACK * area <= available:
        return BATCH_SIZE, False
    fitting = int(available / (GB_PER_STACK_CHECKPOINTED * area))
    return max(MINIMUM_BATCH_SIZE, min(BATCH_SIZE, fitting)), True
