"""Tests of the evaluation of one case."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_cel.evaluation.cases import evaluate_case
from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.protocol import load_protocol
from nnunet_cel.evaluation.thresholds import THRESHOLDS
from nnunet_cel.volumes import Volume

PAPER = load_protocol("paper")
SHAPE = (12, 10, 8)
# 2 x 1 x 0.5 mm, to the left, to the front, to the head
AFFINE = np.array([[-2.0, 0, 0, 50], [0, 1, 0, -20], [0, 0, 0.5, 7], [0, 0, 0, 1]])


def volume(*parts: tuple[slice, slice, slice], ignored: object = None) -> Volume:
    """Return a label map with lesions in these parts, and 2 in the ignored one."""
    voxels = np.zeros(SHAPE, dtype=np.uint8)
    for part in parts:
        voxels[part] = 1
    if ignored is not None:
        voxels[ignored] = 2
    return Volume(voxels, AFFINE)


def box(x: int, y: int, z: int, size: int = 2) -> tuple[slice, slice, slice]:
    """Return a cube of voxels."""
    return slice(x, x + size), slice(y, y + size), slice(z, z + size)


def test_hand_counted_case() -> None:
    """Counts, volumes and metrics are what is worked out by hand."""
    # 8 voxels hit by 4 of 8 predicted ones, 8 missed, 27 false, one speck on each side
    reference = volume(box(0, 0, 0), box(6, 0, 0), box(0, 8, 7, 1))
    prediction = volume(box(1, 0, 0), box(6, 5, 3, 3), box(11, 9, 7, 1))

    row = evaluate_case(prediction, reference, PAPER, labels=Labels()).row

    assert row["DSC"] == pytest.approx(2 * 4 / (17 + 36))
    assert row["VD"] == pytest.approx((36 - 17) / 17)
    assert (row["L-sens"], row["LFDR"]) == (1 / 2, 1 / 2)
    assert (row["tp_voxels"], row["fp_voxels"], row["fn_voxels"]) == (4, 32, 13)
    assert row["voxel_mm3"] == pytest.approx(1.0)
    assert row["reference_ml"] == pytest.approx(0.017)
    expected = {
        "reference_lesions": 2,
        "predicted_lesions": 2,
        "reference_hit": 1,
        "reference_missed": 1,
        "reference_dropped": 1,
        "predicted_hit": 1,
        "predicted_false": 1,
        "predicted_ignored": 0,
        "predicted_dropped": 1,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["predicted_false_ml"] == pytest.approx(0.027)
    assert row["reference_missed_ml"] == pytest.approx(0.008)


def test_lesion_table_says_where_lesions_are() -> None:
    """Number, center, box and overlap are those of the lesion, voxels and RAS mm."""
    result = evaluate_case(
        volume(box(4, 4, 2), box(0, 0, 5, 3)),
        volume(box(4, 5, 2)),
        PAPER,
        labels=Labels(),
    )

    reference, *both = result.lesions.to_dict("records")
    predicted = next(row for row in both if row["voxels"] == 8)
    assert [(row["lesion"], row["voxels"]) for row in both if row != predicted] == [
        (1, 27)  # the largest
    ]
    assert predicted["lesion"] == 2
    assert (reference["map"], predicted["map"]) == ("reference", "prediction")
    assert (reference["status"], reference["lesion"]) == ("hit", 1)
    assert (reference["voxels"], reference["volume_mm3"]) == (8, pytest.approx(8))
    assert reference["size_bin"] == "<10"
    assert [reference[f"centroid_{a}"] for a in "xyz"] == [4.5, 5.5, 2.5]
    # 50 - 2 * 4.5, -20 + 5.5, 7 + 0.5 * 2.5
    assert [reference[f"centroid_{a}_mm"] for a in "xyz"] == [41, -14.5, 8.25]
    corners = [
        [reference[f"box_{a}_{end}"] for a in "xyz"] for end in ("first", "last")
    ]
    assert corners == [[4, 5, 2], [5, 6, 3]]
    assert (reference["overlap_voxels"], reference["overlap_fraction"]) == (4, 0.5)
    assert reference["partners"] == 1


def test_ignored_voxels_are_in_neither_map() -> None:
    """Lesion under the ignore label is taken out before anything is counted."""
    part = (slice(6, 12), slice(None), slice(None))
    reference = volume(box(0, 0, 0), ignored=part)
    prediction = volume(box(0, 0, 0), box(7, 5, 3), box(5, 5, 3))
    labels = Labels(ignore=2)

    row = evaluate_case(prediction, reference, PAPER, labels=labels).row

    # of the last lesion the half at x = 5 remains
    assert row["predicted_ml"] == pytest.approx(0.012)
    assert (row["predicted_hit"], row["predicted_false"]) == (1, 1)
    assert row["fp_voxels"] == 4


@pytest.mark.parametrize("size", [0, 1])
def test_scan_without_lesions(size: int) -> None:
    """Empty label maps have no lesions, and metrics of the edge cases."""
    prediction = volume(box(5, 5, 3, 3)) if size else volume()
    probabilities = prediction.voxels.astype(np.float32)

    result = evaluate_case(
        prediction, volume(), PAPER, labels=Labels(), probabilities=probabilities
    )

    assert list(result.lesions["max_probability"]) == [1] * size
    assert result.row["predicted_false"] == size
    assert math.isnan(result.row["DSC"])
    assert result.row["PPV"] == pytest.approx(0 if size else math.nan, nan_ok=True)


def test_direction_and_spacing_move_with_the_axes(rng: np.random.Generator) -> None:
    """Flipped and transposed maps with their affine give the same results."""
    maps = [(rng.random(SHAPE) < 0.2).astype(np.uint8) for _ in range(2)]
    plain = evaluate_case(*(Volume(m, AFFINE) for m in maps), PAPER, labels=Labels())
    turn = np.zeros((4, 4))  # new voxel (i, j, k) is old voxel (11 - j, k, i)
    turn[0, 1], turn[1, 2], turn[2, 0], turn[3, 3] = -1, 1, 1, 1
    turn[0, 3] = SHAPE[0] - 1
    turned = evaluate_case(
        *(Volume(m[::-1].transpose(2, 0, 1), AFFINE @ turn) for m in maps),
        PAPER,
        labels=Labels(),
    )

    assert plain.row == pytest.approx(turned.row, nan_ok=True)
    columns = ["map", "voxels", "status", *(f"centroid_{a}_mm" for a in "xyz")]
    places = [
        sorted(result.lesions[columns].round(6).to_records(index=False).tolist())
        for result in (plain, turned)
    ]
    assert places[0] == places[1]


def test_probabilities_are_summed_up_by_lesion() -> None:
    """Mean and maximum of each lesion, found or not, are those of its voxels."""
    probabilities = np.zeros(SHAPE, dtype=np.float32)
    probabilities[box(0, 0, 0)] = 0.6
    probabilities[0, 0, 0] = 1.0
    probabilities[box(6, 6, 4)] = 0.25
    reference = volume(box(0, 0, 0), box(6, 6, 4))
    prediction = volume(box(0, 0, 0))

    result = evaluate_case(
        prediction, reference, PAPER, labels=Labels(), probabilities=probabilities
    )

    table = result.lesions.set_index(["map", "lesion"])
    assert table.loc[("prediction", 1), "mean_probability"] == pytest.approx(0.65)
    assert table.loc[("prediction", 1), "max_probability"] == 1
    assert sorted(table["mean_probability"]) == pytest.approx([0.25, 0.65, 0.65])


def test_sweep_at_one_half_is_the_evaluation(rng: np.random.Generator) -> None:
    """At threshold 0.5 the sweep counts what the label map gives."""
    probabilities = rng.random(SHAPE, dtype=np.float32) ** 3
    prediction = Volume((probabilities > 0.5).astype(np.uint8), AFFINE)
    voxels = (rng.random(SHAPE) < 0.1).astype(np.uint8)
    voxels[:2] = 2
    labels = Labels(ignore=2)

    result = evaluate_case(
        prediction,
        Volume(voxels, AFFINE),
        PAPER,
        labels=labels,
        probabilities=probabilities,
    )

    assert result.sweep is not None
    half = result.sweep[THRESHOLDS.index(0.5)]
    assert half.tp == result.row["tp_voxels"]
    assert half.fp == result.row["fp_voxels"]
    assert half.reference_hit == result.row["reference_hit"]
    assert half.predicted_false == result.row["predicted_false"]


def test_maps_are_left_as_they_are() -> None:
    """Evaluation does not change what it is given."""
    maps = [volume(box(0, 0, 0)), volume(box(1, 0, 0), ignored=box(0, 0, 0))]
    before = [m.voxels.copy() for m in maps]

    evaluate_case(*maps, PAPER, labels=Labels(ignore=2))

    assert all((m.voxels == b).all() for m, b in zip(maps, before, strict=True))
