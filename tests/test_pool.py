"""The slice pool: exact index, fair draws, fixed validation."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_cel.training.pool import (
    SlicePool,
    StackRequest,
    draw_requests,
    fixed_batches,
    index_slices,
)


@pytest.fixture
def pool() -> SlicePool:
    """Two cases of 4 x 5 x 6 voxels, one with lesions, and one that is -1 outside."""
    with_lesion = np.full((4, 5, 6), -1, dtype=np.int16)
    with_lesion[1:, 1:, 1:] = 0
    with_lesion[2, 3, 4:] = 1
    with_lesion[0, 0, 0] = 2
    without = np.zeros((4, 5, 6), dtype=np.int16)
    volumes = {"a": with_lesion, "b": without}
    cases: Any = SimpleNamespace(
        identifiers=list(volumes),
        load_case=lambda case: (None, volumes[case][None], None, {}),
    )
    return index_slices(cases, [1], progress=False)


def test_index_lists_exactly_the_lesion_bearing_slices(pool: SlicePool) -> None:
    """By hand: x = 2; y = 3; z = 4, 5 of the first case. Label 2 is none of ours."""
    assert pool.lesion.tolist() == [[0, 0, 2], [1, 0, 3], [2, 0, 4], [2, 0, 5]]
    assert len(pool.lesion_free) == 2 * (4 + 5 + 6) - 4


def test_half_preprocessed_case_is_named(tiny_dataset: Path, tmp_path: Path) -> None:
    """Preprocessing that was killed is found out before training."""
    folder = tmp_path / "cases"
    shutil.copytree(tiny_dataset / "FCADensePlans_2d", folder)
    file = folder / "case_01_seg.b2nd"
    file.write_bytes(file.read_bytes()[:1000])

    with pytest.raises(ValueError, match=r"files of case_01 in .* Preprocess the data"):
        index_slices(nnUNetDatasetBlosc2(str(folder)), [1], progress=False)


def draw(pool: SlicePool, batches: int, **kwargs: Any) -> list[Any]:
    """Return the samples of some batches of eight."""
    options = {"batch_size": 8, "oversample_foreground_percent": 1.0, "seed": 1}
    return [
        request
        for number in range(batches)
        for request in draw_requests(number, pool=pool, **options | kwargs)
    ]


def places(requests: Iterable[StackRequest]) -> set[tuple[str, int, int]]:
    """Return the slices of requests."""
    return {(request.case, request.plane, request.index) for request in requests}


def test_planes_are_equally_likely_and_slices_within_them(pool: SlicePool) -> None:
    """Of 4000 samples a third lies in each plane, half of the axial ones at z = 4."""
    requests = draw(pool, 500)

    counts = Counter((request.plane, request.index) for request in requests)
    shares = {key: count / len(requests) for key, count in counts.items()}
    expected = {(0, 2): 1 / 3, (1, 3): 1 / 3, (2, 4): 1 / 6, (2, 5): 1 / 6}
    assert shares == pytest.approx(expected, abs=0.03)
    assert all(request.lesion and request.case == "a" for request in requests)


def test_lower_share_mixes_in_lesion_free_slices(pool: SlicePool) -> None:
    """A quarter of every batch of eight is lesion-free, from both cases."""
    requests = draw(pool, 100, oversample_foreground_percent=0.75)

    flags = np.array([request.lesion for request in requests]).reshape(100, 8)
    assert (flags == [False] * 2 + [True] * 6).all()
    lesion_free = places(request for request in requests if not request.lesion)
    assert {case for case, _, _ in lesion_free} == {"a", "b"}
    assert lesion_free.isdisjoint(places(r for r in requests if r.lesion))


def test_draws_depend_on_seed_process_and_batch_only(pool: SlicePool) -> None:
    """Same numbers, same samples; another seed, process or batch, other samples."""
    first = draw(pool, 3)

    assert draw(pool, 3) == first
    assert draw(pool, 3, seed=2) != first
    assert draw(pool, 3, rank=1) != first
    assert first[:8] != first[8:16]
    assert len({request.seed for request in first}) == len(first)


def test_validation_is_half_lesion_free_and_takes_no_sample_twice(
    pool: SlicePool,
) -> None:
    """It never changes; of 30 slices in all, 4 with lesions, each comes once."""
    (few,) = fixed_batches(pool, 1, batch_size=8)
    assert [request.plane for request in sorted(few) if request.lesion] == [0, 1, 2, 2]

    batches = fixed_batches(pool, 100, batch_size=8)

    assert fixed_batches(pool, 100, batch_size=8) == batches
    assert [len(batch) for batch in batches] == [8, 8, 8, 6]
    requests = [request for batch in batches for request in batch]
    assert sum(request.lesion for request in requests) == 4
    assert len(places(requests)) == 30


def test_processes_share_the_validation(pool: SlicePool) -> None:
    """Together they have every sample, and none is without a share of a batch."""
    options = [{"rank": rank, "world_size": 3} for rank in range(3)]
    shares = [fixed_batches(pool, 4, batch_size=7, **each) for each in options]

    assert [len(share[0]) for share in shares] == [3, 2, 2]
    for number, batch in enumerate(fixed_batches(pool, 4, batch_size=7)):
        together = [request for share in shares for request in share[number]]
        assert sorted(together) == sorted(batch)
    assert len(fixed_batches(pool, 8, batch_size=29, **options[2])[-1]) == 1
