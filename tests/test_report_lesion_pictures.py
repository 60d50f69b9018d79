"""Choosing lesions, and what their panels show of the volumes of a case."""

from __future__ import annotations

import math
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nnunet_cel.pictures import Panel, draw_background
from nnunet_cel.report.lesion_pictures import (
    choose_lesions,
    cut_panels,
    describe_lesion,
)
from nnunet_cel.report.results import FN, FP, TP
from nnunet_cel.volumes import Volume

SHAPE = (60, 70, 50)


def row(mask: np.ndarray, **more: Any) -> dict[str, Any]:
    """Return what ``lesions.csv`` says of a lesion."""
    points = np.argwhere(mask)
    values: dict[str, Any] = {"map": "reference", "lesion": 1, "status": "missed"}
    for axis, places in zip("xyz", points.T, strict=True):
        values[f"centroid_{axis}"] = places.mean()
        values[f"box_{axis}_first"] = places.min()
        values[f"box_{axis}_last"] = places.max()
    return values | more


def cut(image: np.ndarray, agreement: np.ndarray, affine: np.ndarray) -> list[Panel]:
    """Return the panels of the only lesion."""
    lesions = pd.DataFrame([row(agreement > 0)])
    return cut_panels(Volume(image, affine), Volume(agreement, affine), lesions)[0]


def mark(*places: tuple[int, int, int], value: int = FN) -> np.ndarray:
    """Return an agreement map with voxels of a kind."""
    agreement = np.zeros(SHAPE, dtype=np.uint8)
    for place in places:
        agreement[place] = value
    return agreement


def head() -> tuple[np.ndarray, np.ndarray]:
    """Return an image with a bright mark on each side of a lesion, RAS order."""
    image = np.zeros(SHAPE, dtype=np.int16)
    image[40, 35, 25] = 1000  # to the right of it
    image[30, 47, 25] = 700  # in front of it
    image[30, 35, 33] = 400  # above it
    return image, mark((30, 35, 25))


def middle(panel: Panel, kind: int) -> bool:
    """Return whether the voxel in the middle of a panel is of a kind."""
    down, right = np.divide(panel.middle, panel.size).astype(int)
    return bool(panel.outlines[kind - 1].mask[down, right])


def marks(panel: Panel) -> set[tuple[int, int]]:
    """Return rows and columns of the two marks, in mm from the middle."""
    places = np.argwhere(panel.gray > 0) + 0.5
    return {tuple(np.rint(p * panel.size - panel.middle).astype(int)) for p in places}


def test_right_and_front_are_on_the_left() -> None:
    """The patient's right is left, the front is up in axial and left in sagittal."""
    axial, coronal, sagittal, locator = cut(*head(), np.eye(4))

    assert marks(axial) == {(0, -10), (-12, 0)}
    assert marks(coronal) == {(0, -10), (-8, 0)}
    assert marks(sagittal) == {(0, -12), (-8, 0)}
    assert axial.sides == coronal.sides == ("R", "L")
    assert sagittal.sides == ("A", "P")
    names = ("axial, z = 25 mm", "coronal, y = 35 mm", "sagittal, x = 30 mm")
    assert (axial.name, coronal.name, sagittal.name) == names
    assert locator.name == "whole slice"


def test_order_of_axes_does_not_matter() -> None:
    """The same scan stored along other axes gives the same panels."""
    volumes = head()
    turn = nib.orientations.axcodes2ornt("SAL")
    affine = nib.orientations.inv_ornt_aff(turn, SHAPE)
    turned = [nib.orientations.apply_orientation(v, turn) for v in volumes]

    expected, got = cut(*volumes, np.eye(4)), cut(*turned, affine)

    for first, second in zip(expected, got, strict=True):
        assert (first.name, first.frame) == (second.name, second.frame)
        assert np.array_equal(draw_background(first), draw_background(second))
        assert np.array_equal(first.outlines[FN - 1].mask, second.outlines[FN - 1].mask)


@pytest.mark.parametrize(("voxels", "edge"), [(1, 48), (50, 70)])
def test_panels_are_as_large_as_lesions_need(voxels: int, edge: int) -> None:
    """They show 10 mm on each side and at least 48 mm; a frame in the head says where.

    Around the head there are 4 mm; thick voxels stay thick.
    """
    image = np.zeros(SHAPE, dtype=np.int16)
    image[10:50, 10:60, 5:45] = 100
    lesion = mark(*((5 + i, 33, 25) for i in range(voxels)), value=TP)

    *panels, locator = cut(image, lesion, np.eye(4))
    thick = cut(np.ones(SHAPE), mark((5, 35, 25)), np.diag([0.5, 1, 5, 1]))[:3]

    assert {panel.edge for panel in panels} == {edge}
    assert [panel.size for panel in thick] == [(1, 0.5), (5, 0.5), (5, 1)]
    left, top, size = locator.frame or (0, 0, 0)
    assert size == edge
    assert (top + edge / 2, left + edge / 2) == panels[0].middle
    assert (locator.edge, locator.middle) == (58, (35, 30))


def test_the_middle_is_a_voxel_of_the_lesion() -> None:
    """Also of rings, and of predicted lesions beside missed ones."""
    x, y = np.indices(SHAPE[:2])
    ring = mark()
    ring[abs(np.hypot(x - 30, y - 35) - 8) < 1, 25] = TP
    beside = mark((30, 35, 25))
    beside[28:33:4, 35, 25] = beside[28:33, 33, 25] = FP
    box = row(beside == FP, map="prediction", centroid_x=30, centroid_y=35)

    volume = Volume(beside, np.eye(4))
    panel = cut_panels(None, volume, pd.DataFrame([box]))[0][0]

    assert middle(panel, FP)
    assert not panel.gray.any()
    panels = cut(np.ones(SHAPE), ring, np.eye(4))[:3]
    assert all(middle(panel, TP) for panel in panels)


def test_every_kind_of_lesion_has_its_share() -> None:
    """Of many lesions some missed, false and hit ones are shown, the largest first."""
    kinds = [("reference", "missed"), ("prediction", "false"), ("reference", "hit")]
    others = [("prediction", "hit"), ("reference", "dropped")]
    table = pd.DataFrame(
        [
            {"map": name, "status": status, "lesion": i + 1, "voxels": 100 - i}
            for name, status in kinds + others
            for i in range(2 if status == "hit" else 5)
        ]
    )

    shown, hidden = choose_lesions(table, 4)

    found = list(zip(shown["status"], shown["lesion"], strict=True))
    assert found == [("missed", 1), ("missed", 2), ("false", 1), ("hit", 1)]
    counts = hidden["status"].value_counts().to_dict()
    assert counts == {"missed": 3, "false": 4, "hit": 1}
    counts = choose_lesions(table, 8)[0]["status"].value_counts().to_dict()
    assert counts == {"missed": 3, "false": 3, "hit": 2}
    assert [len(part) for part in choose_lesions(table, 100)] == [12, 0]
    assert [len(part) for part in choose_lesions(table.iloc[:0], 3)] == [0, 0]


def test_lesions_are_described_with_what_is_known() -> None:
    """Probabilities are told where there are any."""
    lesion = {"volume_mm3": 12.4, "voxels": 6, "max_probability": math.nan}
    known = {"max_probability": 0.876, "mean_probability": 0.5}

    assert describe_lesion(lesion) == "12 mm³, 6 voxels"
    text = "12 mm³, 6 voxels, probability up to 0.88 (mean 0.50)"
    assert describe_lesion(lesion | known) == text
