"""Which slices there are to train on, and which of them a batch draws.

The *pool* lists, for every plane, the slices of a set of cases: lesion-bearing and
lesion-free ones. Drawing is separate from reading: a `StackRequest` records everything
random about one sample, and is a pure function of seed, process and batch number. So
batches do not depend on the number of workers, and a resumed training sees the batches
that an uninterrupted one would have seen.

Sampling follows Huang et al. 2024, sections "2.5D MR image slicing strategy" and
"Hyperparameter settings": planes are equally likely, only lesion-bearing slices are
drawn (`oversample_foreground_percent` 1), in random order.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass

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

# Rows of (case, slice index), shape (N, 2), for each of the three planes.
_Rows = tuple[np.ndarray, ...]


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class SlicePool:
    """Lesion-bearing and lesion-free slices of a set of cases, by plane.

    Args:
        cases: Identifiers of the cases.
        lesion: For each plane the rows ``(case number, slice index)`` of lesion-bearing
            slices, shape ``(N, 2)``.
        lesion_free: The same for all other slices.
    """

    cases: tuple[str, ...]
    lesion: _Rows
    lesion_free: _Rows

    @property
    def num_lesion_slices(self) -> int:
        """Lesion-bearing slices of all planes together."""
        return sum(len(rows) for rows in self.lesion)

    @property
    def num_lesion_free_slices(self) -> int:
        """Lesion-free slices of all planes together."""
        return sum(len(rows) for rows in self.lesion_free)

    def iterations(self, batch_size: int) -> int:
        """Batches in one pass over the lesion-bearing slices."""
        return max(1, math.ceil(self.num_lesion_slices / batch_size))


def lesion_labels(labels: LabelManager) -> list[int]:
    """Return the labels that count as lesion: all but background."""
    return [int(label) for label in labels.all_labels if label != 0]


def index_slices(
    dataset: nnUNetBaseDataset,
    labels: Sequence[int],
    *,
    progress: bool = True,
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
    lesion: list[list[np.ndarray]] = [[] for _ in PLANES]
    lesion_free: list[list[np.ndarray]] = [[] for _ in PLANES]
    cases = tuple(dataset.identifiers)
    for number, case in enumerate(
        tqdm(cases, desc="Indexing slices", disable=not progress, leave=False)
    ):
        try:
            _, segmentation, _, _ = dataset.load_case(case)
            label_map = segmentation[:][0]
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"The preprocessed files of {case} in {dataset.source_folder} must be "
                f"whole. Reading them failed: {error!r}. Preprocess the data set "
                "again; it was probably interrupted."
            ) from error
        mask = np.isin(label_map, labels)
        for plane in PLANES:
            others = tuple(axis for axis in PLANES if axis != plane)
            bears_lesion = mask.any(axis=others)
            for rows, chosen in ((lesion, bears_lesion), (lesion_free, ~bears_lesion)):
                indices = np.flatnonzero(chosen)
                rows[plane].append(
                    np.stack([np.full_like(indices, number), indices], axis=1)
                )
    empty = [np.zeros((0, 2), dtype=np.int64)]
    return SlicePool(
        cases=cases,
        lesion=tuple(np.concatenate(empty + rows) for rows in lesion),
        lesion_free=tuple(np.concatenate(empty + rows) for rows in lesion_free),
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
        pool: Slices to draw from.
        batch_size: Samples in a batch.
        oversample_foreground_percent: Share of lesion-bearing samples, in [0, 1].
        seed: Seed of the training.
        rank: Number of the process in distributed training.
    """
    rng = np.random.default_rng((seed, rank, batch_number))
    num_lesion_free = round(batch_size * (1 - oversample_foreground_percent))
    if pool.num_lesion_free_slices == 0:
        num_lesion_free = 0
    if pool.num_lesion_slices == 0:
        num_lesion_free = batch_size
    return [
        _draw(rng, pool, lesion=sample >= num_lesion_free)
        for sample in range(batch_size)
    ]


def _draw(rng: np.random.Generator, pool: SlicePool, *, lesion: bool) -> StackRequest:
    rows_by_plane = pool.lesion if lesion else pool.lesion_free
    plane = int(rng.choice([plane for plane in PLANES if len(rows_by_plane[plane])]))
    case, index = rows_by_plane[plane][rng.integers(len(rows_by_plane[plane]))]
    return StackRequest(
        case=pool.cases[case],
        plane=plane,
        index=int(index),
        lesion=lesion,
        seed=int(rng.integers(2**32)),
    )


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
    num_lesion = min(samples - samples // 2, pool.num_lesion_slices)
    num_lesion_free = min(samples - num_lesion, pool.num_lesion_free_slices)
    chosen: list[tuple[np.ndarray, int, bool]] = []
    for rows_by_plane, lesion, take in (
        (pool.lesion, True, num_lesion),
        (pool.lesion_free, False, num_lesion_free),
    ):
        rows = [(row, plane) for plane in PLANES for row in rows_by_plane[plane]]
        positions = np.linspace(0, len(rows) - 1, take).round().astype(int)
        chosen += [(*rows[position], lesion) for position in positions]
    # neither planes nor lesions should come in runs: batches are shared among processes
    order = np.random.default_rng(0).permutation(len(chosen))
    requests = []
    for seed in order:
        (case, index), plane, lesion = chosen[seed]
        requests.append(
            StackRequest(pool.cases[case], plane, int(index), lesion, seed=int(seed))
        )
    batches = [
        requests[start : start + batch_size] for start in range(0, samples, batch_size)
    ]
    # a process without a share of the last batch would hang the others
    return [batch[rank::world_size] or batch[:1] for batch in batches if batch]
