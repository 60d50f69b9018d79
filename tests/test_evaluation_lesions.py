"""Tests of finding and matching lesions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from nnunet_cel.evaluation.lesions import (
    bounding_box,
    find_lesions,
    is_dropped,
    match_lesions,
    size_bins,
    tabulate_lesions,
)
from nnunet_cel.evaluation.metrics import Counts
from nnunet_cel.evaluation.protocol import Overlap, Protocol, load_protocol

PAPER = load_protocol("paper")


def row(text: str) -> np.ndarray:
    """Return a mask of one row, True where the text has an x."""
    return np.array([[[letter == "x" for letter in text]]])


def match(reference: np.ndarray, predicted: np.ndarray, protocol: Protocol) -> Any:
    """Match the lesions of two masks with voxels of 1 mm3."""
    box = bounding_box(reference | predicted)
    lesions = [
        find_lesions(m, protocol.connectivity, box) for m in (reference, predicted)
    ]
    return match_lesions(*lesions, protocol, 1.0)


def statuses(
    reference: str, predicted: str, protocol: Protocol = PAPER
) -> tuple[list[str], list[str]]:
    """Return what became of the lesions of two rows."""
    true, found, _ = match(row(reference), row(predicted), protocol)
    return list(true["status"]), list(found["status"])


@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (18, 2), (26, 3)])
def test_lesions_agree_with_scipy(
    rng: np.random.Generator, connectivity: int, rank: int
) -> None:
    """Sizes, centers and boxes are those of an independent labelling."""
    structure = ndimage.generate_binary_structure(3, rank)
    # every second voxel: cc3d fails on some booleans
    masks = [(np.indices((3, n, n)) % 2 == 0).all(axis=0) for n in (1, 3)]
    masks += [rng.random(tuple(rng.integers(1, 8, 3))) < 0.25 for _ in range(50)]
    for mask in masks:
        labels, number = ndimage.label(mask, structure)
        numbers = np.arange(number) + 1
        sizes = ndimage.sum_labels(mask, labels, numbers)
        centers = np.reshape(ndimage.center_of_mass(mask, labels, numbers), (-1, 3))
        boxes = [
            [end for s in box for end in (s.start, s.stop - 1)]
            for box in ndimage.find_objects(labels)
        ]
        found = find_lesions(mask, connectivity)
        table = tabulate_lesions(found, np.eye(4), PAPER)

        columns = table.columns[table.columns.str.match("voxels|centroid_.$|box")]
        ours = table[columns].to_numpy().round(9).tolist()
        theirs = np.hstack([sizes[:, None], centers, np.reshape(boxes, (-1, 6))])
        assert sorted(ours) == sorted(theirs.round(9).tolist())


def test_means_and_maxima_are_those_of_each_lesion() -> None:
    """Values are summed up lesion by lesion."""
    lesions = find_lesions(row(".xx.x"), 26)
    values = np.array([[[5.0, 1.0, 2.0, 9.0, 7.0]]])

    assert lesions.means(values).tolist() == [1.5, 7]
    assert lesions.maxima(values).tolist() == [2, 7]


@pytest.mark.parametrize(
    ("reference", "predicted", "of_reference", "of_predicted"),
    [
        ("...", "...", [], []),
        # a lesion of 2 voxels does not count, one of 3 does
        ("xx...xxx", "........", ["dropped", "missed"], []),
        # a predicted lesion that is dropped neither hits nor is false
        ("xxxx....", "xx....xx", ["missed"], ["dropped", "dropped"]),
        # one common voxel is sufficient
        ("xxxx......", "...xxxxxxx", ["hit"], ["hit"]),
        # on nothing but a dropped reference lesion
        ("xx......", "xxxx....", ["dropped"], ["ignored"]),
        # a kept reference lesion outweighs a dropped one
        ("xx.xxx..", "xxxxxx..", ["dropped", "hit"], ["hit"]),
    ],
)
def test_status_by_the_papers_rules(
    reference: str, predicted: str, of_reference: list[str], of_predicted: list[str]
) -> None:
    """What counts, and what is a hit."""
    assert statuses(reference, predicted) == (of_reference, of_predicted)


def test_overlap_is_with_lesions_that_count() -> None:
    """Dropped lesions are no partners; a protocol can count those on them as false."""
    found = match(row("xx.xxx.."), row("xxxxxx.."), PAPER)[1]
    counted = PAPER.model_copy(update={"on_dropped_reference": "counted"})

    assert found[["overlap_voxels", "partners"]].to_numpy().tolist() == [[3, 1]]
    assert statuses("xx......", "xxxx....", counted)[1] == ["false"]
    # both sides are counted on their own: two hits there, one here
    counts = match(row("xxx..xxx"), row("..xxxx.."), PAPER)[2]
    assert counts == Counts(tp=2, fp=2, fn=4, reference_hit=2, predicted_hit=1)


@pytest.mark.parametrize(
    ("fraction", "reference", "predicted"),
    [(0.25, "hit", "hit"), (0.26, "missed", "hit"), (0.51, "missed", "false")],
)
def test_fraction_is_of_the_lesion_itself(
    fraction: float, reference: str, predicted: str
) -> None:
    """A lesion is hit if that share of it is covered, and the share suffices."""
    protocol = PAPER.model_copy(
        update=dict(min_voxels=1, overlap=Overlap(rule="fraction", fraction=fraction))
    )
    # 1 of 4 reference voxels is covered, and 1 of 2 predicted ones
    found = statuses("xxxx...", "...xx..", protocol)

    assert found == ([reference], [predicted])


@pytest.mark.parametrize(
    ("voxel_volume", "expected"),
    [(1.0, [True, False]), (0.75, [True, True]), (1.1, [False, False])],
)
def test_volume_must_be_exceeded(voxel_volume: float, expected: list[bool]) -> None:
    """Lesions of 3 and 4 voxels are dropped unless they have more than 3 mm3."""
    protocol = PAPER.model_copy(update=dict(min_voxels=1, above_mm3=3.0))
    lesions = find_lesions(row("xxx.xxxx"), 26)

    assert is_dropped(lesions, protocol, voxel_volume).tolist() == expected


def test_size_bins_have_their_borders() -> None:
    """10 mm3 belong to the bin above, 500 mm3 to the bin below."""
    bins = size_bins(np.array([9.9, 10, 69.9, 70, 500, 500.1]), (10, 70, 500))

    assert list(bins.categories) == ["<10", "10 to 70", "70 to 500", ">500"]
    assert bins.codes.tolist() == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("reference", "predicted", "of_reference", "of_predicted"),
    [
        # 2 of 20 voxels are not more than a tenth, 3 are
        ("xxxxxxxxxxxxxxxxxxxx..", "..................xxxx", "missed", "false"),
        ("xxxxxxxxxxxxxxxxxxxx..", ".................xxxx.", "hit", "false"),
        # 4 of 5 predicted voxels outside are more than 0.7
        ("xxxx.........", "...xxxxx.....", "missed", "false"),
        # 7 of 9 common voxels are enough, whatever lies outside of the next partner
        ("xxxxxxxxxx........", "xxxxxxx.xxxxxxxxxx", "hit", "hit hit"),
        # 5 of 9 are not, and of the next 10 of 14 voxels lie outside
        ("xxxxxxxxxx..........", "xxxxx.xxxxxxxxxxxxxx", "missed", "hit hit"),
    ],
)
def test_anima_hand_counted(
    reference: str, predicted: str, of_reference: str, of_predicted: str
) -> None:
    """Cover is no hit if it is small, or if the largest of it lies mostly outside."""
    found = statuses(reference, predicted, load_protocol("anima"))

    assert found == ([of_reference], of_predicted.split())
