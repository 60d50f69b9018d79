"""Which slices there are to train on, and which of them a batch draws.

Drawing is separate from reading: a `StackRequest` records everything random about one
sample, and is a pure function of seed, process and batch number. So batches do not
depend on the number of workers, and a resumed training sees the batches that an
uninterrupted one would have seen.

Sampling follows Huang et al. 2024, sections "2.5D MR image slicing strategy" and
"Hyperparameter settings": planes are equally likely, only lesion-bearing slices are
drawn (`oversample_foreground_percent` 1), in random order.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from tqdm import tqdm

from nnunet_cel.slicing import PLANES

__all__ = [
    "SlicePool",
    "StackRequest",
    "draw_requests",
    "fixed_batches",
    "index_slices",
    "lesion_labels",
]


@dataclass(frozen=True, order=True)
class StackRequest:
    """Everything random about one sample.

    Args:
        case: Identifier of the case.
        plane: Plane of the slice.
        index: Index of the slice along the plane's axis.
        lesion: Whether the window must hold lesion.
        seed: Seed of the window's placement and of the augmentation.
    """

    case: str
    plane: int
    index: int
    lesion: bool
    seed: int


class SlicePool(NamedTuple):
    """Lesion-bearing and lesion-free slices of a set of cases.

    Args:
        cases: Identifiers of the cases.
        lesion: Rows ``(plane, case number, slice index)`` of lesion-bearing slices in
            ascending order, shape ``(N, 3)``.
        lesion_free: The same for all other slices.
    """

    cases: tuple[str, ...]
    lesion: np.ndarray
    lesion_free: np.ndarray

    def request(self, row: np.ndarray, *, lesion: bool, seed: int) -> StackRequest:
        """Return the request of a row of one of the two lists."""
        plane, case, index = (int(number) for number in row)
        return StackRequest(self.cases[case], plane, index, lesion, seed)


def lesion_labels(labels: LabelManager) -> list[int]:
    """Return the labels that count as lesion: all but background."""
    return [int(label) for label in labels.all_labels if label != 0]


def index_slices(
    dataset: nnUNetBaseDataset, labels: Sequence[int], *, progress: bool = True
) -> SlicePool:
    """Read the segmentations of all cases and list their slices.

    ``class_locations`` of nnU-Net's preprocessing is a sample of voxels and misses
    slices, hence the segmentations themselves.

    Args:
        dataset: Preprocessed cases.
        labels: Labels that count as lesion.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If the files of a case are damaged.
    """
    cases = tuple(dataset.identifiers)
    lesion: list[tuple[int, int, int]] = []
    lesion_free: list[tuple[int, int, int]] = []
    for number, case in enumerate(
        tqdm(cases, desc="Indexing slices", disable=not progress, leave=False)
    ):
        try:
            _, segmentation, _, _ = dataset.load_case(case)
            mask = np.isin(segmentation[:][0], labels)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"The preprocessed files of {case} in {dataset.source_folder} must be "
                f"whole. Reading them failed: {error!r}. Preprocess the data set "
                "again; it was probably interrupted."
            ) from error
        for plane in PLANES:
            others = tuple(axis for axis in PLANES if axis != plane)
            for index, bears_lesion in enumerate(np.asarray(mask.any(axis=others))):
                rows = lesion if bears_lesion else lesion_free
                rows.append((plane, number, index))
    return SlicePool(
        cases,
        *(
            np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)
            for rows in (lesion, lesion_free)
        ),
    )


def draw_requests(
    batch_number: int,
    *,
    pool: SlicePool,
    batch_size: int,
    oversample_foreground_percent: float,
    seed: int,
    rank: int = 0,
) -> list[StackRequest]:
    """Draw one training batch.

    As in nnU-Net, the first ``round(batch_size * (1 - share))`` samples of a batch need
    not hold lesion; here they come from lesion-free slices, if there are any.

    Args:
        batch_number: Number of the batch since the start of the training.
        pool: Slices to draw from; some bear lesions.
        batch_size: Samples in a batch.
        oversample_foreground_percent: Share of lesion-bearing samples, in [0, 1].
        seed: Seed of the training.
        rank: Number of the process in distributed training.
    """
    rng = np.random.default_rng((seed, rank, batch_number))
    num_lesion_free = round(batch_size * (1 - oversample_foreground_percent))
    requests = []
    for sample in range(batch_size):
        lesion = sample >= num_lesion_free or len(pool.lesion_free) == 0
        rows = pool.lesion if lesion else pool.lesion_free
        # rows of plane p are those from bounds[p] to bounds[p + 1]
        bounds = np.searchsorted(rows[:, 0], range(len(PLANES) + 1))
        plane = rng.choice(np.flatnonzero(np.diff(bounds)))
        row = rows[bounds[plane] + rng.integers(bounds[plane + 1] - bounds[plane])]
        requests.append(pool.request(row, lesion=lesion, seed=int(rng.integers(2**32))))
    return requests


def fixed_batches(
    pool: SlicePool,
    count: int,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[StackRequest]]:
    """Choose the fixed batches of the online validation.

    At most half of their samples bear lesions, the rest is lesion-free: most slices of
    a volume are, and false positives must cost. The choice is spread evenly over
    planes, cases and slices and does not change from epoch to epoch, nor with the
    settings.

    Args:
        pool: Slices to choose from, each at most once.
        count: Batches at most.
        batch_size: Samples in a batch of all processes.
        rank: Number of the process in distributed training.
        world_size: Processes that share the batches.
    """
    samples = count * batch_size
    num_lesion = min(samples - samples // 2, len(pool.lesion))
    num_lesion_free = min(samples - num_lesion, len(pool.lesion_free))
    chosen = []
    for rows, lesion, take in (
        (pool.lesion, True, num_lesion),
        (pool.lesion_free, False, num_lesion_free),
    ):
        positions = np.linspace(0, len(rows) - 1, take).round().astype(int)
        chosen += [(row, lesion) for row in rows[positions]]
    # neither planes nor lesions should come in runs: batches are shared among processes
    requests = [
        pool.request(chosen[seed][0], lesion=chosen[seed][1], seed=int(seed))
        for seed in np.random.default_rng(0).permutation(len(chosen))
    ]
    batches = [
        requests[start : start + batch_size]
        for start in range(0, len(requests), batch_size)
    ]
    # a process without a share of the last batch would hang the others
    return [batch[rank::world_size] or batch[:1] for batch in batches]
