"""Memory: recompute first, shrink the batch last."""

from __future__ import annotations

import pytest

from nnunet_cel.planning.declarations import architecture, configurations
from nnunet_cel.planning.memory import FOOTPRINTS, fit_to_memory


@pytest.mark.parametrize(
    ("memory", "window", "expected"),
    [
        (11, 256, (16, False)),  # the paper's cards: 16 * 0.57 + 1 = 10.1 GB
        (9, 256, (16, True)),  # 16 * 0.255 + 1 = 5.1 GB
        (5, 256, (15, True)),  # 4 / 0.255 = 15.7
        (4, 256, (11, True)),
        (1, 256, (2, True)),
        (0.1, 256, (2, True)),
        (4, 128, (16, False)),  # a quarter of the area: 16 * 0.1425 + 1 = 3.3 GB
        (80, 256, (16, False)),  # never more than the paper's batch
    ],
)
def test_fit(memory: float, window: int, expected: tuple[int, bool]) -> None:
    """Batch size and checkpointing for a few cards."""
    fit = fit_to_memory(memory, window=window, network="fcadensenet")

    assert fit == expected


@pytest.mark.parametrize(
    ("network", "memory", "expected"),
    [
        ("unet", 2.2, (16, False)),  # 16 * 0.075 + 1
        ("unet", 1.5, (6, False)),  # 0.5 / 0.075 = 6.7
        ("attentionunet", 3, (13, False)),  # 2 / 0.15 = 13.3
        ("transunet", 7.1, (16, False)),  # 16 * 0.26 + 2.9 = 7.06
        ("transunet", 5, (16, True)),  # 16 * 0.1 + 2.9 = 4.5
        ("transunet", 4, (11, True)),  # 1.1 / 0.1
        ("transunet", 2, (2, True)),
    ],
)
def test_networks_take_what_they_need(
    network: str, memory: float, expected: tuple[int, bool]
) -> None:
    """U-Nets take little and cannot recompute; TransUNet's weights take most."""
    assert fit_to_memory(memory, window=256, network=network) == expected


def test_every_declared_network_has_a_footprint() -> None:
    """Figures for all of ``plans/``, and for recomputing where a network can do it."""
    declared = {entry["network"] for entry in configurations().values()}

    assert set(FOOTPRINTS) == declared
    for name, footprint in FOOTPRINTS.items():
        can_recompute = "gradient_checkpointing" in architecture(name)["arch_kwargs"]
        assert (footprint.recomputed is not None) == can_recompute


def test_paper_cards_hold_full_batches_of_all_networks() -> None:
    """On 11 GB networks are compared at the same batch size, nothing recomputed."""
    for network in FOOTPRINTS:
        assert fit_to_memory(11, window=256, network=network) == (16, False)
