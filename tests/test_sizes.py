"""Sizes: multiples of 32 that hold every image; recompute before batches shrink."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.planning.sizes import (
    FOOTPRINTS,
    cubic_extent,
    fit_to_memory,
    training_shapes,
)


@pytest.mark.parametrize(
    ("largest", "extent"),
    [(1, 32), (32, 32), (33, 64), (217, 224), (225, 256), (256, 256), (400, 256)],
)
def test_extent(largest: int, extent: int) -> None:
    """The largest extent of any image decides."""
    assert cubic_extent(np.array([[20, 10, 30], [5, largest, 1]])) == extent


@pytest.mark.parametrize(
    ("spacing", "order", "expected"),
    [
        ([1, 1, 1], [0, 1, 2], [120, 196, 150]),
        # stock 2D plans do not resample their first axis after transposition
        ([1, 1], [2, 0, 1], [50, 120, 196]),
    ],
)
def test_shapes_after_resampling(
    spacing: list[int], order: list[int], expected: list[int]
) -> None:
    """An image of 100 x 200 x 50 voxels of 1.2 x 0.98 x 3 mm, resampled to 1 mm."""
    fingerprint = {
        "shapes_after_crop": [[100, 200, 50]],
        "spacings": [[1.2, 0.98, 3.0]],
    }

    assert training_shapes(fingerprint, spacing, order).tolist() == [expected]


@pytest.mark.parametrize(
    ("network", "memory", "window", "expected"),
    [
        # the paper's cards: 16 * 0.57 + 1 = 10.1 GB
        ("fcadensenet", 11, 256, (16, False)),
        ("fcadensenet", 9, 256, (16, True)),  # 16 * 0.255 + 1 = 5.1 GB
        ("fcadensenet", 5, 256, (15, True)),  # 4 / 0.255 = 15.7
        ("fcadensenet", 0.1, 256, (2, True)),
        ("fcadensenet", 4, 128, (16, False)),  # 16 * 0.57 / 4 + 1 = 3.3 GB
        ("fcadensenet", 80, 256, (16, False)),  # never more than the paper's batch
        ("unet", 1.5, 256, (6, False)),  # 0.5 / 0.075 = 6.7
        ("attentionunet", 3, 256, (13, False)),  # 2 / 0.15 = 13.3
        ("transunet", 7.1, 256, (16, False)),  # 16 * 0.26 + 2.9 = 7.06
        ("transunet", 4, 256, (11, True)),  # 1.1 / 0.1
    ],
)
def test_fit(
    network: str, memory: float, window: int, expected: tuple[int, bool]
) -> None:
    """U-Nets take little and cannot recompute; TransUNet's weights take most."""
    assert fit_to_memory(memory, window=window, network=network) == expected


def test_every_network_of_the_paper_was_measured() -> None:
    """Recomputing as well, where a network can; all fit on the paper's cards."""
    assert set(FOOTPRINTS) <= {entry["network"] for entry in configurations().values()}
    for name, footprint in FOOTPRINTS.items():
        can_recompute = "gradient_checkpointing" in architecture(name)["arch_kwargs"]
        assert (footprint.recomputed < footprint.stack) == can_recompute
        assert fit_to_memory(11, window=256, network=name) == (16, False)
