"""The metrics of a case, each one row of a table.

Words:

- *voxel-wise*: computed from the voxels of prediction and reference.
- *lesion-wise*: computed from the lesions that the protocol does not leave out.
- *edge case*: there are no voxels (voxel-wise) or no lesions that count (lesion-wise)
  in the prediction, in the reference, or in both. The protocol has the value then.

Equation numbers are those of Huang et al. 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from nnunet_cel.schema import Model

__all__ = ["METRICS", "Counts", "EdgeCase", "Metric", "compute_metrics"]


@dataclass(frozen=True)
class Counts:
    """What the metrics of a case are computed from.

    Args:
        tp: Lesion voxels of both maps.
        fp: Lesion voxels of the prediction alone.
        fn: Lesion voxels of the reference alone.
        reference_hit: Reference lesions that were found.
        reference_missed: Reference lesions that were not.
        predicted_hit: Predicted lesions that are in the reference.
        predicted_false: Predicted lesions that are not.
        hd95: 95th percentile of the surface distance in mm.
        assd: Mean surface distance in mm.
    """

    tp: int
    fp: int
    fn: int
    reference_hit: int = 0
    reference_missed: int = 0
    predicted_hit: int = 0
    predicted_false: int = 0
    hd95: float = math.nan
    assd: float = math.nan

    @property
    def predicted(self) -> int:
        """Lesion voxels of the prediction."""
        return self.tp + self.fp

    @property
    def reference(self) -> int:
        """Lesion voxels of the reference."""
        return self.tp + self.fn

    @property
    def predicted_lesions(self) -> int:
        """Predicted lesions that count."""
        return self.predicted_hit + self.predicted_false

    @property
    def reference_lesions(self) -> int:
        """Reference lesions that count."""
        return self.reference_hit + self.reference_missed


class EdgeCase(Model, allow_inf_nan=True):
    """Values of a metric where it has nothing to measure; NaN leaves the case out.

    Args:
        empty_prediction: Where the prediction alone is empty.
        empty_reference: Where the reference alone is empty.
        both_empty: Where both are.
    """

    empty_prediction: float
    empty_reference: float
    both_empty: float


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: Its full name.
        better: Which values are better; ``"zero"`` are those close to zero.
        level: Whether it is about voxels or about lesions.
        function: Computes it from counts that are not empty on its level.
        unit: Its unit, empty for a ratio.
        edge_case: Its values where there is nothing to measure, by protocols that do
            not name it. None if every protocol must; that is for the first metrics
            alone, because later ones are in no protocol that was written before.
    """

    name: str
    better: Literal["higher", "lower", "zero"]
    level: Literal["voxels", "lesions"]
    function: Callable[[Counts], float]
    unit: str = ""
    edge_case: EdgeCase | None = None


def _lesion_f1(c: Counts) -> float:
    precision = 1 - c.predicted_false / c.predicted_lesions
    recall = c.reference_hit / c.reference_lesions
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


METRICS: dict[str, Metric] = {
    "DSC": Metric(  # Eq. 2
        "Dice similarity coefficient",
        "higher",
        "voxels",
        lambda c: 2 * c.tp / (c.predicted + c.reference),
    ),
    "PPV": Metric(  # Eq. 3
        "positive predictive value", "higher", "voxels", lambda c: c.tp / c.predicted
    ),
    "TPR": Metric(  # Eq. 4
        "true positive rate", "higher", "voxels", lambda c: c.tp / c.reference
    ),
    "VD": Metric(  # Eq. 5; Table 5 shows that it has no sign
        "volume difference",
        "lower",
        "voxels",
        lambda c: abs(c.predicted - c.reference) / c.reference,
    ),
    "LFDR": Metric(  # Eq. 6
        "lesion false discovery rate",
        "lower",
        "lesions",
        lambda c: c.predicted_false / c.predicted_lesions,
    ),
    "L-sens": Metric(  # Eq. 7
        "lesion sensitivity",
        "higher",
        "lesions",
        lambda c: c.reference_hit / c.reference_lesions,
    ),
    "RVD": Metric(
        "relative volume difference, signed",
        "zero",
        "voxels",
        lambda c: (c.predicted - c.reference) / c.reference,
    ),
    "L-F1": Metric("lesion F1 score", "higher", "lesions", _lesion_f1),
    "HD95": Metric(
        "95 % Hausdorff distance", "lower", "voxels", lambda c: c.hd95, "mm"
    ),
    "ASSD": Metric(
        "average symmetric surface distance", "lower", "voxels", lambda c: c.assd, "mm"
    ),
}
"""Short name of each metric, in the order of the paper's tables, then the others."""


def compute_metrics(
    counts: Counts, edge_cases: Mapping[str, EdgeCase]
) -> dict[str, float]:
    """Return every metric of a case by its short name; NaN is no value.

    Args:
        counts: What was counted in the case.
        edge_cases: Values of each metric where there is nothing to measure.
    """
    empty = {
        "voxels": (not counts.predicted, not counts.reference),
        "lesions": (not counts.predicted_lesions, not counts.reference_lesions),
    }
    values = {}
    for short, metric in METRICS.items():
        edge, (prediction, reference) = edge_cases[short], empty[metric.level]
        if prediction and reference:
            value = edge.both_empty
        elif prediction:
            value = edge.empty_prediction
        else:
            value = edge.empty_reference if reference else metric.function(counts)
        values[short] = float(value)
    return values
