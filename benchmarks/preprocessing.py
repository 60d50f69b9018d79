"""What KDE normalization costs in nnU-Net's preprocessing of one case.

A phantom goes through `FCADensePreprocessor.run_case_npy` (cropping, normalization,
resampling to the spacing that it already has, sampling of lesion voxels) and nnU-Net's
`save_case`. The KDE normalization of the cropped image is timed alone, and nnU-Net's
z-score as what it replaces. The four take turns; times and shares are medians over the
turns, the first of which is not counted. Reading the image file is not included.

Options: ``spacing`` (mm), ``turns``.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
    ZScoreNormalization,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from benchmarks._case import make_phantom, make_plans, preprocess, save_case
from nnunet_cel.planning.declarations import BASE
from nnunet_cel.planning.normalization import KDELastPeakNormalization


def run(*, spacing: float = 1.0, turns: int = 6) -> dict[str, Any]:
    """Return seconds and shares; see the module's docstring."""
    phantom = make_phantom(1, spacing=spacing)
    manager = PlansManager(make_plans(phantom[0], spacing=spacing))
    configuration = manager.get_configuration(BASE)
    cropped, _, _ = crop_to_nonzero(phantom[0])
    # both work in place; they cost the same on what they have normalized before
    images = [cropped[0].copy() for _ in range(2)]
    kde = KDELastPeakNormalization(use_mask_for_norm=False, intensityproperties={})
    z_score = ZScoreNormalization(use_mask_for_norm=False, intensityproperties={})
    case = preprocess(phantom, manager, configuration, spacing=spacing)
    with tempfile.TemporaryDirectory() as folder:
        paths = (Path(folder, str(number)) for number in itertools.count())
        steps: dict[str, Callable[[], object]] = {
            "run_case_npy": lambda: preprocess(
                phantom, manager, configuration, spacing=spacing
            ),
            "save_case": lambda: save_case(case, next(paths), configuration.patch_size),
            "KDE": lambda: kde.run(images[0]),
            "z-score": lambda: z_score.run(images[1]),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(turns):
            for name, step in steps.items():
                begin = time.perf_counter()
                step()
                if turn > 0:
                    times[name].append(time.perf_counter() - begin)
    result: dict[str, Any] = {
        "image, voxels": list(phantom[0].shape[1:]),
        "after cropping": list(cropped.shape[1:]),
        "counted turns": turns - 1,
    }
    for name, values in times.items():
        result[f"{name}, s"] = statistics.median(values)
    rows = list(
        zip(times["KDE"], times["run_case_npy"], times["save_case"], strict=True)
    )
    result["KDE / run_case_npy"] = statistics.median(a / b for a, b, _ in rows)
    result["KDE / (run_case_npy + save_case)"] = statistics.median(
        a / (b + c) for a, b, c in rows
    )
    return result
