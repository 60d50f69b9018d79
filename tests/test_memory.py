"""Memory: recompute first, shrink the batch last."""

from __future__ import annotations

import pytest

from nnunet_cel.planning.memory import fit_to_memory


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
    assert fit_to_memory(memory, window=window) == expected
