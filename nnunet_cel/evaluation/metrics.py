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
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nnunet_cel.schema import Model

__all__ = ["METRICS", "Counts", "EdgeCase", "Metric", "compute_metrics"]


def _not_infinite(value: float) -> float:
    """Return a value that is a number or NaN."""
    if math.isinf(value):
        raise ValueError("must be a finite number, or .nan to leave the case out.")
    return value


_Edge = Annotated[float, Field(allow_inf_nan=True), AfterValidator(_not_infinite)]


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


class EdgeCase(Model):
    """Values of a metric where it has nothing to measure; NaN leaves the case out.

    Args:
        empty_prediction: Where the prediction alone is empty.
        empty_reference: Where the reference alone is empty.
        both_empty: Where both are.
    """

    empty_prediction: _Edge
    empty_reference: _Edge
    both_empty: _Edge


_EDGES = {
    (True, False): "empty_prediction",
    (False, True): "empty_reference",
    (True, True): "both_empty",
}
"""Name of the edge case where the prediction is empty, the reference is empty."""


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


def _relative_volume_difference(c: Counts) -> float:
    return (c.predicted - c.reference) / c.reference


def _volume_difference(c: Counts) -> float:
    return abs(_relative_volume_difference(c))  # Table 5 shows that it has no sign


def _lesion_false_discovery_rate(c: Counts) -> float:
    return c.predicted_false / c.predicted_lesions


def _lesion_sensitivity(c: Counts) -> float:
    return c.reference_hit / c.reference_lesions


def _lesion_f1(c: Counts) -> float:
    precision, recall = 1 - _lesion_false_discovery_rate(c), _lesion_sensitivity(c)
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
    "VD": Metric("volume difference", "lower", "voxels", _volume_difference),  # Eq. 5
    "LFDR": Metric(  # Eq. 6
        "lesion false discovery rate", "lower", "lesions", _lesion_false_discovery_rate
    ),
    "L-sens": Metric(  # Eq. 7
        "lesion sensitivity", "higher", "lesions", _lesion_sensitivity
    ),
    "RVD": Metric(
        "relative volume difference, signed",
        "zero",
        "voxels",
        _relative_volume_difference,
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
        if any(empty[metric.level]):
            which = _EDGES[empty[metric.level]]
            values[short] = float(getattr(edge_cases[short], which))
        else:
            values[short] = float(metric.function(counts))
    return values
