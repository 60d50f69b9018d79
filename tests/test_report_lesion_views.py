"""Tests of choosing lesions and cutting them out of volumes."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nnunet_cel.report.agreement import FN, FP, TP
from nnunet_cel.report.lesion_views import LesionView, choose_lesions, cut_views
from nnunet_cel.volumes import Volume

SHAPE = (60, 70, 50)


def row(mask: np.ndarray, affine: np.ndarray, **more: Any) -> dict[str, Any]:
    """Return what ``lesions.csv`` says of a lesion."""
    points = np.argwhere(mask)
    center = points.mean(axis=0)
    values: dict[str, Any] = {
        "map": "reference",
        "lesion": 1,
        "status": "missed",
        "voxels": len(points),
    }
    for i, axis in enumerate("xyz"):
        values[f"centroid_{axis}"] = center[i]
        values[f"box_{axis}_first"] = points[:, i].min()
        values[f"box_{axis}_last"] = points[:, i].max()
    return values | more


def view(
    image: np.ndarray, agreement: np.ndarray, affine: np.ndarray, **more: Any
) -> LesionView:
    """Return the view of the only lesion."""
    lesions = pd.DataFrame([row(agreement > 0, affine, **more)])
    return cut_views(Volume(image, affine), Volume(agreement, affine), lesions)[0]


def head() -> tuple[np.ndarray, np.ndarray]:
    """Return an image with a bright mark on each side of a lesion, RAS order."""
    image = np.zeros(SHAPE, dtype=np.int16)
    agreement = np.zeros(SHAPE, dtype=np.uint8)
    agreement[30, 35, 25] = FN
    image[40, 35, 25] = 1000  # to the right of it
    image[30, 47, 25] = 700  # in front of it
    image[30, 35, 33] = 400  # above it
    return image, agreement


def marks(gray: np.ndarray) -> list[tuple[int, int]]:
    """Return rows and columns of the marks, from the middle, the brightest first."""
    order = np.argsort(-gray.astype(int), axis=None, kind="stable")[:2]
    middle = np.array(gray.shape) // 2
    places = np.stack(np.unravel_index(order, gray.shape), axis=1) - middle
    return [(int(down), int(right)) for down, right in places]


def test_right_and_front_are_on_the_left() -> None:
    """The patient's right is left, the front is up in axial and left in sagittal."""
    image, agreement = head()

    axial, coronal, sagittal = view(image, agreement, np.eye(4)).panels

    assert marks(axial.gray) == [(0, -10), (-12, 0)]
    assert marks(coronal.gray) == [(0, -10), (-8, 0)]
    assert marks(sagittal.gray) == [(0, -12), (-8, 0)]
    assert axial.sides == coronal.sides == ("R", "L")
    assert sagittal.sides == ("A", "P")
    assert [panel.title for panel in (axial, coronal, sagittal)] == [
        "axial, z = 25 mm",
        "coronal, y = 35 mm",
        "sagittal, x = 30 mm",
    ]


@pytest.mark.parametrize("axes", ["LPS", "PIR", "SAL", "IRP"])
def test_order_of_axes_does_not_matter(axes: str) -> None:
    """The same scan stored along other axes gives the same panels."""
    image, agreement = head()
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axes)
    )
    affine = nib.orientations.inv_ornt_aff(turn, SHAPE)
    turned = [nib.orientations.apply_orientation(v, turn) for v in (image, agreement)]

    expected, got = view(image, agreement, np.eye(4)), view(*turned, affine)

    for first, second in zip(
        (*expected.panels, expected.locator), (*got.panels, got.locator), strict=True
    ):
        assert np.array_equal(first.gray, second.gray)
        assert np.array_equal(first.agreement, second.agreement)
        assert (first.title, first.frame) == (second.title, second.frame)


def test_lesions_at_the_border_are_padded() -> None:
    """Beyond the image there is black, and the lesion stays in the middle."""
    image = np.full(SHAPE, 100, dtype=np.int16)
    agreement = np.zeros(SHAPE, dtype=np.uint8)
    agreement[0, 69, 49] = FN

    panel = view(image, agreement, np.eye(4)).panels[0]
    middle = panel.gray.shape[0] // 2

    assert panel.agreement[middle, middle] == FN
    assert not panel.gray[:middle].any()  # nothing is in front of it
    assert not panel.gray[:, middle + 1 :].any()  # and nothing to its left side
    assert (panel.gray[middle:, : middle + 1] == 255).all()


def test_panels_are_squares_of_lengths() -> None:
    """Thick slices give fewer voxels in the same number of mm, at least 48."""
    image, agreement = head()

    panels = view(image, agreement, np.diag([0.5, 1, 5, 1])).panels

    assert {panel.edge for panel in panels} == {48.0}
    for panel in panels:
        assert min(panel.extent) >= 48
        assert max(panel.extent) < 48 + 2 * 5
    assert panels[0].size == (1, 0.5)
    assert panels[1].size == (5, 0.5)


def test_large_lesions_have_larger_panels() -> None:
    """A lesion of 50 mm is seen whole, with 10 mm on each side."""
    image = np.full(SHAPE, 100, dtype=np.int16)
    agreement = np.zeros(SHAPE, dtype=np.uint8)
    agreement[5:55, 35, 25] = TP

    panel = view(image, agreement, np.eye(4)).panels[0]

    assert panel.edge == 70
    assert (panel.agreement == TP).sum() == 50


def test_the_frame_is_around_the_panel() -> None:
    """What lies in the frame of the locator is what the axial panel shows."""
    image = np.zeros(SHAPE, dtype=np.int16)
    image[10:50, 10:60, 5:45] = 100
    agreement = np.zeros(SHAPE, dtype=np.uint8)
    agreement[28, 33, 25] = FN

    result = view(image, agreement, np.eye(4))
    left, top, edge = result.locator.frame or (0, 0, 0)
    place = np.argwhere(result.locator.agreement == FN)[0]

    assert edge == result.panels[0].edge
    assert (left + edge / 2, top + edge / 2) == (place[1] + 0.5, place[0] + 0.5)
    assert result.locator.gray.shape == (58, 48)  # with 4 mm around the head


def test_rings_are_cut_through_the_ring() -> None:
    """Where the center is no lesion, the nearest voxel that is one is taken."""
    x, y = np.indices(SHAPE[:2])
    ring = abs(np.hypot(x - 30, y - 35) - 8) < 1
    agreement = np.zeros(SHAPE, dtype=np.uint8)
    agreement[ring, 25] = TP

    panels = view(np.ones(SHAPE), agreement, np.eye(4)).panels

    for panel in panels:
        middle = panel.agreement.shape[0] // 2
        assert panel.agreement[middle, middle] == TP


def test_false_lesions_beside_missed_ones_are_centered() -> None:
    """A predicted lesion is looked for among predicted voxels alone."""
    agreement = np.zeros(SHAPE, dtype=np.uint8)
    agreement[30, 35, 25] = FN
    agreement[28:33:4, 35, 25] = FP
    agreement[28:33, 33, 25] = FP
    box = row(agreement == FP, np.eye(4), map="prediction", status="false")
    box |= {"centroid_x": 30, "centroid_y": 35}

    panel = cut_views(None, Volume(agreement, np.eye(4)), pd.DataFrame([box]))[
        0
    ].panels[0]

    middle = panel.agreement.shape[0] // 2
    assert panel.agreement[middle, middle] == FP
    assert not panel.gray.any()


def test_every_kind_of_lesion_has_its_share() -> None:
    """Of many lesions some missed, false and hit ones are shown, the largest first."""
    kinds = [("reference", "missed"), ("prediction", "false"), ("reference", "hit")]
    others = [
        ("prediction", "hit"),
        ("reference", "dropped"),
        ("prediction", "ignored"),
    ]
    table = pd.DataFrame(
        [
            {"map": name, "status": status, "lesion": i + 1, "voxels": 100 - i}
            for name, status in kinds + others
            for i in range(2 if status == "hit" else 5)
        ]
    )

    def chosen(limit: int) -> list[tuple[str, int]]:
        shown = choose_lesions(table, limit)
        return list(zip(shown["status"], shown["lesion"], strict=True))

    assert chosen(4) == [("missed", 1), ("missed", 2), ("false", 1), ("hit", 1)]
    assert chosen(8) == [
        *(("missed", i) for i in (1, 2, 3)),
        *(("false", i) for i in (1, 2, 3)),
        *(("hit", i) for i in (1, 2)),
    ]
    assert len(chosen(100)) == 12
    assert chosen(0) == []
    assert choose_lesions(table.iloc[:0], 3).empty


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1000), (-1024, 3000), (0.0, 1e-3), (5, 5)]
)
def test_any_range_of_intensities(low: float, high: float) -> None:
    """Black is the smallest or 0, white the largest; a flat image is no error."""
    agreement = np.zeros(SHAPE, dtype=np.uint8)
    agreement[30, 35, 25] = FN
    image = np.linspace(low, high, agreement.size).reshape(SHAPE).astype(np.float32)
    image[0, 0, 0] = np.nan

    locator = view(image, agreement, np.eye(4)).locator

    assert locator.gray.max() > 100
