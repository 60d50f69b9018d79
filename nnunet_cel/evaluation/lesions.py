"""Finds lesions in masks, and which of them two masks share.

Words:

- *mask*: True where there is lesion, shape (X, Y, Z).
- *partner*: a lesion of the other mask that shares a voxel.
- *status*: what became of a lesion: a reference lesion is ``hit``, ``missed`` or
  ``dropped``, a predicted one ``hit``, ``false``, ``ignored`` or ``dropped``.

All lesions are handled at once, by sums over voxels and over pairs of lesions, so that
time does not depend on how many there are.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_cel.evaluation.metrics import Counts
from nnunet_cel.evaluation.protocol import Overlap, Protocol

__all__ = [
    "Found",
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

_TOLERANCE = 1e-6  # of volumes and fractions, which are rounded


@dataclass(frozen=True)
class Lesions:
    """The lesions of a mask, numbered from 0.

    Args:
        labels: Number of the lesion + 1 at each voxel, 0 elsewhere, shape (X, Y, Z).
        voxels: Voxels of each lesion, shape (N,).
    """

    labels: Array
    voxels: Array

    def __len__(self) -> int:
        return len(self.voxels)

    @cached_property
    def _statistics(self) -> dict[str, Array]:
        found = cc3d.statistics(self.labels, no_slice_conversion=True)
        return {name: values[1:] for name, values in found.items()}

    @property
    def centroids(self) -> Array:
        """Mean voxel index of each lesion, shape (N, 3)."""
        return self._statistics["centroids"]

    @property
    def boxes(self) -> Array:
        """First and last voxel index of each lesion along each axis, (N, 3, 2)."""
        return self._statistics["bounding_boxes"].reshape(-1, 3, 2).astype(int)

    def means(self, values: Array) -> Array:
        """Return the mean in each lesion of values at all voxels (X, Y, Z)."""
        inside = self.labels > 0
        weights = values[inside].astype(float)
        sums = np.bincount(self.labels[inside] - 1, weights, minlength=len(self))
        return np.asarray(sums / self.voxels)

    def maxima(self, values: Array) -> Array:
        """Return the maximum in each lesion of values at all voxels (X, Y, Z)."""
        numbers = np.arange(1, len(self) + 1)
        return np.asarray(ndimage.maximum(values, self.labels, numbers), dtype=float)


class Found(NamedTuple):
    """What became of the lesions of one map.

    Args:
        status: Status of each lesion.
        overlap: Voxels of each in lesions of the other map that are not dropped.
        partners: Number of partners, not dropped, of each.
    """

    status: Array
    overlap: Array
    partners: Array


class Match(NamedTuple):
    """What became of the lesions of both maps.

    Args:
        reference: Of the reference lesions.
        predicted: Of the predicted lesions.
        counts: How many voxels and lesions there are of each kind.
    """

    reference: Found
    predicted: Found
    counts: Counts


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
    # cc3d fails on some booleans, such as two single voxels in a volume of (3, 1, 1).
    labels, count = cc3d.connected_components(
        np.ascontiguousarray(mask).view(np.uint8),
        connectivity=connectivity,
        return_N=True,
    )
    return Lesions(labels, np.bincount(labels.ravel(), minlength=count + 1)[1:])


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
    both = (reference.labels > 0) & (predicted.labels > 0)
    # numbers of the lesions of each pair, and how many voxels they share
    (first, second), shared = np.unique(
        np.stack([reference.labels[both], predicted.labels[both]]).astype(int) - 1,
        axis=1,
        return_counts=True,
    )
    touches_dropped = np.isin(
        np.arange(len(predicted)), second[dropped_reference[first]]
    )
    kept = ~dropped_reference[first] & ~dropped_predicted[second]
    first, second, shared = first[kept], second[kept], shared[kept]

    def judge(
        lesion: Array, partner: Array, own: Array, other: Array, otherwise: str
    ) -> Found:
        hit = _is_hit(lesion, partner, shared, own, other, protocol.overlap)
        return Found(
            status=np.where(hit, "hit", otherwise).astype(object),
            overlap=np.bincount(lesion, shared, len(own)).astype(int),
            partners=np.bincount(lesion, minlength=len(own)),
        )

    true = judge(first, second, reference.voxels, predicted.voxels, "missed")
    true.status[dropped_reference] = "dropped"
    found = judge(second, first, predicted.voxels, reference.voxels, "false")
    if protocol.on_dropped_reference == "ignored":
        found.status[touches_dropped & (found.overlap == 0)] = "ignored"
    found.status[dropped_predicted] = "dropped"
    tp = int(np.count_nonzero(both))
    counts = Counts(
        tp=tp,
        fp=int(predicted.voxels.sum()) - tp,
        fn=int(reference.voxels.sum()) - tp,
        reference_hit=int((true.status == "hit").sum()),
        reference_missed=int((true.status == "missed").sum()),
        predicted_hit=int((found.status == "hit").sum()),
        predicted_false=int((found.status == "false").sum()),
    )
    return Match(true, found, counts)


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
