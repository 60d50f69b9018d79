"""Augmentation: all neighbors alike, labels follow, the margin is enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_cel.training.augmentation import build_transforms

LABELS = LabelManager({"background": 0, "lesion": 1}, None)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    np.random.seed(0)
    torch.manual_seed(0)


def test_neighbors_are_transformed_alike_and_labels_follow() -> None:
    """A disc in all channels and in the label stays one disc after 50 draws."""
    transforms, _, margin = build_transforms("paper", 32, LABELS)
    side = 32 + 2 * margin
    rows, columns = np.ogrid[:side, :side]
    disc = torch.from_numpy((rows - 14) ** 2 + (columns - 22) ** 2 < 30).float()

    for _ in range(50):
        result = transforms(
            image=disc.expand(3, -1, -1).clone(), segmentation=disc[None].short()
        )
        image, label = result["image"], result["segmentation"][0].float()
        assert image.shape == (3, 32, 32)
        torch.testing.assert_close(image[0], image[2])
        bright = image[1] > 0.5
        assert 2 * (label * bright).sum() / (label + bright).sum() > 0.93


def test_rotation_and_flips_happen_as_often_as_they_should() -> None:
    """Of 400 draws about half are rotated; each of four flips occurs in a quarter."""
    corner = torch.zeros(1, 9, 9)
    corner[0, 1, 2] = 1
    transforms, _, _ = build_transforms("paper", 9, LABELS)

    seen = []
    for _ in range(400):
        image = transforms(image=corner.clone(), segmentation=corner.short())["image"]
        exact = image.unique().tolist() == [0, 1]
        seen.append(tuple(image[0].nonzero()[0].tolist()) if exact else None)

    assert seen.count(None) / 400 == pytest.approx(0.5, abs=0.08)
    for place in ((1, 2), (7, 2), (1, 6), (7, 6)):
        assert seen.count(place) / 400 == pytest.approx(0.125, abs=0.06)


def test_margin_keeps_corners_filled() -> None:
    """A square turned by 15 degrees is 1.2247 times as wide: that much is read.

    So no rotation turns padding into the window.
    """
    transforms, _, margin = build_transforms("paper", 40, LABELS)
    assert margin == 5  # 40 * 0.2247 / 2 = 4.5

    for _ in range(100):
        ones = torch.ones(1, 50, 50)
        result = transforms(image=ones, segmentation=ones.short())
        assert result["image"].min() > 0.99
