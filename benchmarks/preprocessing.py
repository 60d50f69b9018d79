"""What preprocessing a case costs, what of it is KDE, and against nnU-Net's own.

A phantom that lies on disk as a case of a raw data set goes through
`FCADensePreprocessor.run_case_save`, the call that nnU-Net makes for every case:
reading, cropping, normalization, resampling to the spacing that it already has,
sampling of lesion voxels, writing. The same with nnU-Net's preprocessor and the ``2d``
configuration of its default plans. The KDE normalization of the cropped image is timed
alone, and nnU-Net's z-score as what it replaces. The four take turns; times and shares
are medians over the turns, the first of which is not counted.

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

from benchmarks._case import (
    DATASET_JSON,
    make_phantom,
    make_plans,
    plan_as_stock,
    write_raw_dataset,
)
from nnunet_cel.planning.declarations import BASE
from nnunet_cel.planning.normalization import KDELastPeakNormalization


def run(*, spacing: float = 1.0, turns: int = 6) -> dict[str, Any]:
    """Return seconds and shares; see the module's docstring."""
    phantom = make_phantom(1, spacing=spacing)
    cropped, _, _ = crop_to_nonzero(phantom[0])
    # both work in place; they cost the same on what they have normalized before
    images = [cropped[0].copy() for _ in range(2)]
    kde = KDELastPeakNormalization(use_mask_for_norm=False, intensityproperties={})
    z_score = ZScoreNormalization(use_mask_for_norm=False, intensityproperties={})
    all_plans = {
        "ours": make_plans(phantom[0], spacing=spacing),
        "nnU-Net": plan_as_stock(phantom, spacing=spacing),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = write_raw_dataset(folder, phantom, spacing=spacing, cases=1)
        image = str(raw / "imagesTr" / "phantom_0_0000.nii.gz")
        label = str(raw / "labelsTr" / "phantom_0.nii.gz")
        numbers = itertools.count()

        def preprocess_case(plans: dict[str, Any]) -> None:
            manager = PlansManager(plans)
            configuration = manager.get_configuration(BASE)
            configuration.preprocessor_class(verbose=False).run_case_save(
                str(folder / f"case_{next(numbers)}"),
                [image],
                label,
                manager,
                configuration,
                DATASET_JSON,
            )

        steps: dict[str, Callable[[], object]] = {
            "ours": lambda: preprocess_case(all_plans["ours"]),
            "nnU-Net": lambda: preprocess_case(all_plans["nnU-Net"]),
            "KDE": lambda: kde.run(images[0]),
            "z-score": lambda: z_score.run(images[1]),
        }
        times: dict[str, list[float]] = {each: [] for each in steps}
        for turn in range(turns):
            for each, step in steps.items():
                begin = time.perf_counter()
                step()
                if turn > 0:
                    times[each].append(time.perf_counter() - begin)
    result: dict[str, Any] = {
        "image, voxels": list(phantom[0].shape[1:]),
        "after cropping": list(cropped.shape[1:]),
        "counted turns": turns - 1,
    }
    for each, values in times.items():
        result[f"{each}, s"] = statistics.median(values)
    for first, second in (("ours", "nnU-Net"), ("KDE", "ours")):
        pairs = zip(times[first], times[second], strict=True)
        result[f"{first} / {second}"] = statistics.median([a / b for a, b in pairs])
    return result
