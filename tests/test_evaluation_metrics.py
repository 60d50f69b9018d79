"""Tests of the metrics of a case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lesion_metrics import metrics as oracle

from nnunet_cel.evaluation.lesions import find_lesions, match_lesions
from nnunet_cel.evaluation.metrics import METRICS, Counts, EdgeCase, compute_metrics
from nnunet_cel.evaluation.protocol import Overlap, Protocol, load_protocol

# what each metric is by the protocol `paper`: the prediction alone is empty, the
# reference alone is empty, both are
PAPER_EDGES = {
    "DSC": (0, math.nan, math.nan),
    "PPV": (0, 0, math.nan),
    "TPR": (0, math.nan, math.nan),
    "VD": (1, math.nan, math.nan),
    "LFDR": (1, 1, math.nan),
    "L-sens": (0, math.nan, math.nan),
    "RVD": (-1, math.nan, math.nan),
    "L-F1": (0, math.nan, math.nan),
    "HD95": (math.nan, math.nan, math.nan),
    "ASSD": (math.nan, math.nan, math.nan),
}


def edges(prediction: float, reference: float, both: float) -> EdgeCase:
    """Return the values of a metric where there is nothing to measure."""
    return EdgeCase(
        empty_prediction=prediction, empty_reference=reference, both_empty=both
    )


def unfiltered() -> Protocol:
    """Return a protocol without a smallest lesion, NaN in all edge cases."""
    return Protocol(
        name="unfiltered",
        version=1,
        description="As in lesion-metrics.",
        connectivity=26,
        min_voxels=1,
        above_mm3=0,
        overlap=Overlap(rule="any"),
        on_dropped_reference="counted",
        size_bins_mm3=(10,),
        edge_cases=dict.fromkeys(METRICS, edges(math.nan, math.nan, math.nan)),
    )


def count(predicted: np.ndarray, reference: np.ndarray, protocol: Protocol) -> Counts:
    """Return the counts of two masks with voxels of 1 mm3."""
    lesions = [
        find_lesions(mask, connectivity=protocol.connectivity)
        for mask in (reference, predicted)
    ]
    return match_lesions(*lesions, protocol, 1.0).counts


def random_masks(
    rng: np.random.Generator, number: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of masks of different shapes, sparse and dense, related or not."""
    pairs = []
    for _ in range(number):
        shape = tuple(rng.integers(1, 9, 3))
        first, second = (
            rng.random(shape) < rng.choice([0.02, 0.1, 0.3]) for _ in range(2)
        )
        if rng.random() < 0.5:
            second = np.where(rng.random(shape) < 0.7, first, second)
        pairs.append((first, second))
    return pairs


def test_random_masks_agree_with_lesion_metrics(rng: np.random.Generator) -> None:
    """Voxel and lesion metrics equal those of an independent package."""
    protocol = unfiltered()
    for predicted, reference in random_masks(rng, 3000):
        ours = compute_metrics(
            count(predicted, reference, protocol),
            {
                **protocol.edge_cases,
                # that package has values here where nothing is there to be found
                "PPV": edges(math.nan, 0, math.nan),
                "TPR": edges(0, math.nan, math.nan),
                "DSC": edges(0, 0, math.nan),
                "VD": edges(1, math.nan, math.nan),
                "LFDR": edges(math.nan, 1, math.nan),
                "L-sens": edges(0, math.nan, math.nan),
            },
        )
        theirs = {
            "DSC": oracle.dice(predicted, reference),
            "PPV": oracle.ppv(predicted, reference),
            "TPR": oracle.tpr(predicted, reference),
            "VD": avd(predicted, reference),
            "LFDR": oracle.lfdr(predicted, reference),
            "L-sens": oracle.ltpr(predicted, reference),
        }
        assert {name: ours[name] for name in theirs} == pytest.approx(
            theirs, nan_ok=True
        )


def avd(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Return the other package's volume difference, which cannot subtract booleans."""
    return oracle.avd(predicted.astype(int), reference.astype(int))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("edge", "counts"),
    [
        (0, Counts(tp=0, fp=0, fn=9, reference_missed=2)),
        (1, Counts(tp=0, fp=9, fn=0, predicted_false=2)),
        (2, Counts(tp=0, fp=0, fn=0)),
    ],
    ids=["empty prediction", "empty reference", "both empty"],
)
def test_edge_cases_of_the_paper(metric: str, edge: int, counts: Counts) -> None:
    """Every metric has the settled value where it has nothing to measure."""
    values = compute_metrics(counts, load_protocol("paper").edge_cases)

    assert values[metric] == pytest.approx(PAPER_EDGES[metric][edge], nan_ok=True)


def test_hand_counted_case() -> None:
    """Every formula gives what is worked out by hand."""
    counts = Counts(
        tp=6,
        fp=2,
        fn=4,
        reference_hit=2,
        reference_missed=1,
        predicted_hit=1,
        predicted_false=3,
        hd95=2.5,
        assd=1.5,
    )

    assert compute_metrics(counts, unfiltered().edge_cases) == pytest.approx(
        {
            "DSC": 12 / 18,
            "PPV": 6 / 8,
            "TPR": 6 / 10,
            "VD": 2 / 10,
            "RVD": -2 / 10,
            "LFDR": 3 / 4,
            "L-sens": 2 / 3,
            "L-F1": 2 * (1 / 4) * (2 / 3) / (1 / 4 + 2 / 3),
            "HD95": 2.5,
            "ASSD": 1.5,
        }
    )


def test_volume_difference_has_no_sign() -> None:
    """VD is as large for too much as for too little, RVD tells them apart."""
    edges = unfiltered().edge_cases
    less = compute_metrics(Counts(tp=5, fp=0, fn=5), edges)
    more = compute_metrics(Counts(tp=10, fp=5, fn=0), edges)

    assert (less["VD"], more["VD"]) == (0.5, 0.5)
    assert (less["RVD"], more["RVD"]) == (-0.5, 0.5)
    # lesions on both sides without a single hit have an F1 of 0, not NaN
    none = Counts(tp=0, fp=5, fn=5, reference_missed=1, predicted_false=1)
    assert compute_metrics(none, edges)["L-F1"] == 0


def test_levels_are_empty_on_their_own() -> None:
    """Voxels without a lesion that counts leave voxel-wise metrics as they are."""
    specks = Counts(tp=2, fp=0, fn=2)  # all lesions were dropped

    values = compute_metrics(specks, load_protocol("paper").edge_cases)

    assert values["DSC"] == pytest.approx(4 / 6)
    assert math.isnan(values["L-sens"])
