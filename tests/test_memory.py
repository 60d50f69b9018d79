"""Memory: recompute first, shrink the batch last."""

from __future__ import annotations

import pytest

from nnunet_cel.planning.memory import fit_to_memory


@pytest.mark.parametrize(
    ("memory", "window", "expected"),
    [
        (11, 256, (16, False)),  # the paper's cards: 16 * 0.55 + 1 = 9.8 GB
        (9, 256, (16, True)),  # 16 * 0.25 + 1 = 5 GB
        (5, 256, (16, True)),
        (4, 256, (12, True)),
        (1, 256, (2, True)),
        (0.1, 256, (2, True)),
        (4, 128, (16, False)),  # a quarter of the area: 16 * 0.1375 + 1 = 3.2 GB
        (80, 256, (16, False)),  # never more than the paper's batch
    ],
)
def test_fit(memory: float, window: int, expected: tuple[int, bool]) -> None:
    """Batch size and checkpointing for a few cards."""
    assert fit_to_memory(memory, window=window) == expected
