"""Augmentation: all neighbors alike, labels follow, the margin is enough."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

from nnunet_cel.training.augmentation import paper_transforms, rotation_margin

PLAIN = ComposeTransforms([RemoveLabelTansform(-1, 0)])


def test_margin_is_the_width_of_a_turned_square() -> None:
    """A square turned by 15 degrees is cos 15 + sin 15 = 1.2247 times as wide."""
    assert rotation_margin(100) == math.ceil(100 * 0.22474487 / 2)
    assert rotation_margin(64, (0.0, 0.0)) == 0
    assert rotation_margin(100, (-math.pi, math.pi)) == math.ceil(100 * 0.41421356 / 2)


def test_neighbors_are_transformed_alike_and_labels_follow() -> None:
    """A disc in all channels and in the label stays one disc after 50 draws."""
    side = 32 + 2 * rotation_margin(32)
    rows, columns = np.ogrid[:side, :side]
    disc = torch.from_numpy((rows - 14) ** 2 + (columns - 22) ** 2 < 30).float()
    transforms = paper_transforms(32, PLAIN)
    np.random.seed(0)
    torch.manual_seed(0)

    for _ in range(50):
        result = transforms(
            image=disc.expand(3, -1, -1).clone(), segmentation=disc[None].short()
        )
        image, label = result["image"], result["segmentation"][0].float()
        assert image.shape == (3, 32, 32)
        torch.testing.assert_close(image[0], image[2])
        overlap = (
            2 * (label * (image[1] > 0.5)).sum() / (label + (image[1] > 0.5)).sum()
        )
        assert overlap > 0.93


def test_rotation_and_flips_happen_as_often_as_they_should() -> None:
    """Of 400 draws about half are rotated; each of four flips occurs in a quarter."""
    corner = torch.zeros(1, 9, 9)
    corner[0, 1, 2] = 1
    transforms = paper_transforms(9, PLAIN)
    np.random.seed(0)
    torch.manual_seed(0)

    seen = []
    for _ in range(400):
        image = transforms(image=corner.clone(), segmentation=corner.short())["image"]
        exact = image.unique().tolist() == [0, 1]
        seen.append(tuple(image[0].nonzero()[0].tolist()) if exact else None)

    assert seen.count(None) / 400 == pytest.approx(0.5, abs=0.08)
    for place in ((1, 2), (7, 2), (1, 6), (7, 6)):
        assert seen.count(place) / 400 == pytest.approx(0.125, abs=0.06)


def test_margin_keeps_corners_filled() -> None:
    """With the margin read as well, no rotation turns padding into the window."""
    side = 40 + 2 * rotation_margin(40)
    transforms = paper_transforms(40, PLAIN)
    np.random.seed(1)
    torch.manual_seed(1)

    for _ in range(100):
        ones = torch.ones(1, side, side)
        result = transforms(image=ones, segmentation=ones.short())
        assert result["image"].min() > 0.99
