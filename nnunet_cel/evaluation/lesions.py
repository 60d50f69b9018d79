"""Finds lesions in masks, and which of them two masks share.

Words:

- *mask*: True where there is lesion, shape (X, Y, Z).
- *partner*: a lesion of the other mask that shares a voxel.
- *status*: what became of a lesion, one of :data:`STATUSES`.

All lesions are handled at once, by sums over voxels and over pairs of lesions, so that
time does not depend on how many there are.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

from nnunet_cel.evaluation.protocol import Overlap, Protocol

__all__ = [
    "STATUSES",
    "Lesions",
    "Match",
    "bounding_box",
    "find_lesions",
    "is_dropped",
    "match_lesions",
    "size_bin_names",
    "size_bins",
]

Array = npt.NDArray[Any]

STATUSES = ("hit", "missed", "false", "ignored", "dropped")
"""Reference lesions are hit, missed or dropped; predicted ones are never missed."""

_TOLERANCE = 1e-6  # of volumes and fractions, which are rounded


@dataclass(frozen=True)
class Lesions:
    """The lesions of a mask, numbered from 0.

    Args:
        labels: Number of the lesion + 1 at each voxel, 0 elsewhere, shape (X, Y, Z).
        index: Flat indices of all lesion voxels, rising, shape (V,).
        number: Number of the lesion at each of them, shape (V,).
        voxels: Voxels of each lesion, shape (N,).
    """

    labels: Array
    index: Array
    number: Array
    voxels: Array

    def __len__(self) -> int:
        return len(self.voxels)

    @cached_property
    def coordinates(self) -> Array:
        """Voxel indices of all lesion voxels, shape (V, 3)."""
        return np.stack(np.unravel_index(self.index, self.labels.shape), axis=1)

    @cached_property
    def centroids(self) -> Array:
        """Mean voxel index of each lesion, shape (N, 3)."""
        return np.stack([self.means(axis) for axis in self.coordinates.T], axis=1)

    @cached_property
    def boxes(self) -> Array:
        """Smallest and largest voxel index of each lesion, shape (N, 2, 3)."""
        if not len(self):
            return np.zeros((0, 2, 3), dtype=int)
        ordered = self.coordinates[np.argsort(self.number, kind="stable")]
        starts = np.concatenate([[0], np.cumsum(self.voxels)[:-1]])
        return np.stack(
            [
                np.minimum.reduceat(ordered, starts),
                np.maximum.reduceat(ordered, starts),
            ],
            axis=1,
        )

    def means(self, values: Array) -> Array:
        """Return the mean in each lesion of values at all lesion voxels (V,)."""
        sums = np.bincount(self.number, values, minlength=len(self))
        return np.asarray(sums / self.voxels)

    def maxima(self, values: Array) -> Array:
        """Return the maximum in each lesion of values at all lesion voxels (V,)."""
        largest = np.full(len(self), -np.inf)
        np.maximum.at(largest, self.number, values)
        return largest


@dataclass(frozen=True)
class Match:
    """What became of the lesions of a case.

    Args:
        reference: Status of each reference lesion.
        predicted: Status of each predicted lesion.
        reference_overlap: Voxels of each reference lesion in predicted lesions that are
            not dropped.
        predicted_overlap: Voxels of each predicted lesion in reference lesions that are
            not dropped.
        reference_partners: Number of partners, not dropped, of each reference lesion.
        predicted_partners: The same of each predicted lesion.
    """

    reference: Array
    predicted: Array
    reference_overlap: Array
    predicted_overlap: Array
    reference_partners: Array
    predicted_partners: Array

    def tally(self) -> dict[str, int]:
        """Return how many lesions were hit, missed and false, by map and status."""
        return {
            "reference_hit": int((self.reference == "hit").sum()),
            "reference_missed": int((self.reference == "missed").sum()),
            "predicted_hit": int((self.predicted == "hit").sum()),
            "predicted_false": int((self.predicted == "false").sum()),
        }


def bounding_box(mask: Array) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds a mask; of an empty one, its first voxel."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = np.flatnonzero(mask.any(axis=others))
        box.append(slice(used[0], used[-1] + 1) if len(used) else slice(0, 1))
    return box[0], box[1], box[2]


def find_lesions(mask: Array, *, connectivity: int) -> Lesions:
    """Return the lesions of a mask.

    Args:
        mask: Booleans, shape (X, Y, Z).
        connectivity: 6, 18 or 26.
    """
    mask = np.ascontiguousarray(mask)
    # cc3d fails on some booleans, such as two single voxels in a volume of (3, 1, 1).
    labels, count = cc3d.connected_components(
        mask.view(np.uint8), connectivity=connectivity, return_N=True
    )
    index = np.flatnonzero(mask)
    number = labels.ravel()[index].astype(np.intp) - 1
    return Lesions(labels, index, number, np.bincount(number, minlength=count))


def is_dropped(lesions: Lesions, protocol: Protocol, voxel_volume: float) -> Array:
    """Return which lesions are too small for the protocol, shape (N,).

    Args:
        lesions: The lesions.
        protocol: Its `min_voxels` and `above_mm3`.
        voxel_volume: Volume of a voxel in mm3.
    """
    least = protocol.above_mm3 * (1 + _TOLERANCE)
    dropped = (lesions.voxels < protocol.min_voxels) | (
        lesions.voxels * voxel_volume <= least
    )
    return np.asarray(dropped)


def match_lesions(
    reference: Lesions, predicted: Lesions, protocol: Protocol, voxel_volume: float
) -> Match:
    """Return which lesions were hit, missed, false, ignored and dropped.

    A lesion can have several partners, and both sides are judged on their own.

    Args:
        reference: Lesions of the reference.
        predicted: Lesions of the prediction, on the same grid.
        protocol: The rules.
        voxel_volume: Volume of a voxel in mm3.
    """
    dropped_reference = is_dropped(reference, protocol, voxel_volume)
    dropped_predicted = is_dropped(predicted, protocol, voxel_volume)
    pairs = _find_pairs(reference, predicted)
    touches_dropped = np.zeros(len(predicted), dtype=bool)
    touches_dropped[pairs[1][dropped_reference[pairs[0]]]] = True
    kept = ~dropped_reference[pairs[0]] & ~dropped_predicted[pairs[1]]
    first, second, shared = (part[kept] for part in pairs)

    def judge(lesion: Array, partner: Array, own: Lesions, other: Lesions) -> Array:
        overlap = protocol.overlap
        return _is_hit(lesion, partner, shared, own.voxels, other.voxels, overlap)

    reference_status = np.where(
        judge(first, second, reference, predicted), "hit", "missed"
    ).astype(object)
    reference_status[dropped_reference] = "dropped"
    predicted_status = np.where(
        judge(second, first, predicted, reference), "hit", "false"
    ).astype(object)
    predicted_overlap = np.bincount(second, shared, len(predicted))
    if protocol.on_dropped_reference == "ignored":
        predicted_status[touches_dropped & (predicted_overlap == 0)] = "ignored"
    predicted_status[dropped_predicted] = "dropped"
    return Match(
        reference=reference_status,
        predicted=predicted_status,
        reference_overlap=np.bincount(first, shared, len(reference)).astype(int),
        predicted_overlap=predicted_overlap.astype(int),
        reference_partners=np.bincount(first, minlength=len(reference)),
        predicted_partners=np.bincount(second, minlength=len(predicted)),
    )


def size_bin_names(borders: tuple[float, ...]) -> list[str]:
    """Return the names of the size bins, such as ``<10``, ``10 to 70`` and ``>70``."""
    texts = [f"{border:g}" for border in borders]
    between = [f"{a} to {b}" for a, b in itertools.pairwise(texts)]
    return [f"<{texts[0]}", *between, f">{texts[-1]}"]


def size_bins(volumes: Array, borders: tuple[float, ...]) -> Array:
    """Return the name of the size bin of each volume.

    A border belongs to the bin above it, the last one to the bin below it.

    Args:
        volumes: Volumes in mm3, shape (N,).
        borders: Borders of the bins in mm3.
    """
    edges = np.array(borders, dtype=float) * (1 - _TOLERANCE)
    edges[-1] = borders[-1] * (1 + _TOLERANCE)
    return np.array(size_bin_names(borders), dtype=object)[np.digitize(volumes, edges)]


def _find_pairs(first: Lesions, second: Lesions) -> tuple[Array, Array, Array]:
    """Return the pairs of lesions that share voxels, and how many they share."""
    partner = second.labels.ravel()[first.index].astype(np.intp) - 1
    both = partner >= 0
    keys, shared = np.unique(
        first.number[both] * max(len(second), 1) + partner[both], return_counts=True
    )
    lesion, partner = np.divmod(keys, max(len(second), 1))
    return lesion, partner, shared


def _is_hit(
    lesion: Array,
    partner: Array,
    shared: Array,
    sizes: Array,
    partner_sizes: Array,
    overlap: Overlap,
) -> Array:
    """Return which lesions of one side are hit.

    Args:
        lesion: Number of the lesion in each pair, shape (P,).
        partner: Number of its partner, shape (P,).
        shared: Voxels that they share, shape (P,).
        sizes: Voxels of each lesion, shape (N,).
        partner_sizes: Voxels of each lesion of the other side, shape (M,).
        overlap: The rule.
    """
    covered = np.bincount(lesion, shared, len(sizes))
    if overlap.rule == "any":
        return np.asarray(covered > 0)
    if overlap.rule == "fraction":
        return np.asarray(covered >= sizes * overlap.fraction * (1 - _TOLERANCE))
    inside = np.bincount(partner, shared, len(partner_sizes))
    outside = 1 - inside[partner] / partner_sizes[partner]
    order = np.lexsort((partner, -shared, lesion))
    lesion, shared, outside = lesion[order], shared[order], outside[order]
    sums = np.cumsum(shared) - shared
    before = sums - (np.cumsum(covered) - covered)[lesion]
    # A partner is looked at as long as those before it are less than gamma.
    looked_at = before < overlap.gamma * covered[lesion] * (1 - _TOLERANCE)
    refused = np.bincount(
        lesion, looked_at & (outside > overlap.beta * (1 + _TOLERANCE)), len(sizes)
    )
    return np.asarray(
        (covered > sizes * overlap.alpha * (1 + _TOLERANCE)) & (refused == 0)
    )
