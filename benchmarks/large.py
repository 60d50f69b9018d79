"""Peak memory of predicting a volume that is far larger than a brain.

A volume of zeros with a cube of noise in its middle is predicted by nnU-Net's own
`nnUNetPredictor` with FCA-DenseNet of random weights, on the CPU in float32, in a fresh
process. All slices are cut, joined and averaged as they would be otherwise; only those
through the cube pass through the network, one at a time, so that it takes minutes, not
an hour. Peak memory does not depend on that.

Options: ``shape`` (voxels), ``cube`` (edge length in voxels).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from benchmarks._case import give_random_weights, make_plans
from benchmarks._process import in_fresh_process, peak_memory, resident_memory


def run(*, shape: Sequence[int] = (512, 512, 400), cube: int = 24) -> dict[str, Any]:
    """Return MB and seconds; see the module's docstring."""
    result: dict[str, Any] = in_fresh_process(_measure, tuple(shape), cube)
    return result


def _measure(shape: tuple[int, ...], cube: int) -> dict[str, Any]:
    # the plans look at the extent only
    plans = make_plans(np.ones((1, *shape), bool), spacing=1.0)
    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
    )
    give_random_weights(predictor, plans)
    volume = torch.zeros(1, *shape)
    middle = tuple(
        slice(size // 2 - cube // 2, size // 2 + cube // 2) for size in shape
    )
    volume[0][middle] = torch.rand(*[cube] * 3)
    before = resident_memory()
    begin = time.perf_counter()
    predictor.predict_sliding_window_return_logits(volume)
    seconds = time.perf_counter() - begin
    patch_size = predictor.configuration_manager.patch_size
    voxels = int(np.prod(patch_size))
    return {
        "volume, voxels": list(shape),
        "patch, voxels": list(patch_size),
        "s": seconds,
        "memory before the prediction, MB": before,
        "peak memory, MB": peak_memory(),
        "bytes per voxel of the patch": (peak_memory() - before) * 2**20 / voxels,
    }
