"""Tests of the metrics of a case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lesion_metrics import metrics as oracle

from nnunet_cel.evaluation.lesions import find_lesions, match_lesions
from nnunet_cel.evaluation.metrics import METRICS, Counts, EdgeCase, compute_metrics
from nnunet_cel.evaluation.protocol import load_protocol

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


# those of an independent package, which has values where nothing is there to be found
ORACLE_EDGES = dict.fromkeys(METRICS, edges(math.nan, math.nan, math.nan)) | {
    "PPV": edges(math.nan, 0, math.nan),
    "TPR": edges(0, math.nan, math.nan),
    "DSC": edges(0, 0, math.nan),
    "VD": edges(1, math.nan, math.nan),
    "LFDR": edges(math.nan, 1, math.nan),
    "L-sens": edges(0, math.nan, math.nan),
}


def test_random_masks_agree_with_lesion_metrics(rng: np.random.Generator) -> None:
    """Voxel and lesion metrics equal those of an independent package."""
    protocol = load_protocol("paper").model_copy(update={"min_voxels": 1})
    whole = (slice(None),) * 3
    for _ in range(300):  # sparse and dense, related or not
        shape = tuple(rng.integers(1, 9, 3))
        predicted, reference = (
            rng.random(shape) < rng.choice([0.02, 0.1, 0.3]) for _ in range(2)
        )
        if rng.random() < 0.5:
            reference = np.where(rng.random(shape) < 0.7, predicted, reference)
        lesions = [find_lesions(m, 26, whole) for m in (reference, predicted)]
        counts = match_lesions(*lesions, protocol, 1.0)[2]
        theirs = {
            "DSC": oracle.dice(predicted, reference),
            "PPV": oracle.ppv(predicted, reference),
            "TPR": oracle.tpr(predicted, reference),
            "VD": oracle.avd(predicted.astype(int), reference.astype(int)),
            "LFDR": oracle.lfdr(predicted, reference),
            "L-sens": oracle.ltpr(predicted, reference),
        }

        values = compute_metrics(counts, ORACLE_EDGES)

        ours = {name: values[name] for name in theirs}
        assert ours == pytest.approx(theirs, nan_ok=True)


@pytest.mark.parametrize(
    ("edge", "counts"),
    [
        (0, Counts(tp=0, fp=0, fn=9, reference_missed=2)),
        (1, Counts(tp=0, fp=9, fn=0, predicted_false=2)),
        (2, Counts(tp=0, fp=0, fn=0)),
    ],
    ids=["empty prediction", "empty reference", "both empty"],
)
def test_edge_cases_of_the_paper(edge: int, counts: Counts) -> None:
    """Every metric has the settled value where it has nothing to measure."""
    values = compute_metrics(counts, load_protocol("paper").edge_cases)

    expected = {short: row[edge] for short, row in PAPER_EDGES.items()}
    assert values == pytest.approx(expected, nan_ok=True)


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

    assert compute_metrics(counts, ORACLE_EDGES) == pytest.approx(
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
    # as large for too much, and lesions without a single hit have an F1 of 0, not NaN
    more = Counts(tp=10, fp=5, fn=0, reference_missed=1, predicted_false=1)
    values = compute_metrics(more, ORACLE_EDGES)
    assert [values[name] for name in ("VD", "RVD", "L-F1")] == [0.5, 0.5, 0]


def test_levels_are_empty_on_their_own() -> None:
    """Voxels without a lesion that counts leave voxel-wise metrics as they are."""
    specks = Counts(tp=2, fp=0, fn=2)  # all lesions were dropped

    values = compute_metrics(specks, load_protocol("paper").edge_cases)

    assert values["DSC"] == pytest.approx(4 / 6)
    assert math.isnan(values["L-sens"])
