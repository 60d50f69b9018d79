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
from typing import Any

import cc3d
import numpy as np
import pandas as pd
from scipy import ndimage

from nnunet_cel.evaluation.metrics import Counts
from nnunet_cel.evaluation.protocol import Overlap, Protocol
from nnunet_cel.resampling import Box
from nnunet_cel.volumes import Array

__all__ = [
    "Lesions",
    "bounding_box",
    "find_lesions",
    "is_dropped",
    "match_lesions",
    "size_bins",
    "tabulate_lesions",
]

_TOLERANCE = 1e-6  # of volumes and fractions, which are rounded


@dataclass(frozen=True)
class Lesions:
    """The lesions of a mask, numbered from 0.

    Args:
        labels: Number of the lesion + 1 at each voxel of the box, 0 elsewhere.
        voxels: Voxels of each lesion, shape (N,).
        box: Where in the volume lesions were looked for.
    """

    labels: Array
    voxels: Array
    box: Box

    def __len__(self) -> int:
        return len(self.voxels)

    def means(self, values: Array) -> Array:
        """Return the mean in each lesion of values at all voxels of the volume."""
        numbers = np.arange(1, len(self) + 1)
        return np.asarray(ndimage.mean(values[self.box], self.labels, numbers))

    def maxima(self, values: Array) -> Array:
        """Return the maximum in each lesion of values at all voxels of the volume."""
        numbers = np.arange(1, len(self) + 1)
        found = ndimage.maximum(values[self.box], self.labels, numbers)
        return np.asarray(found, dtype=float)


def bounding_box(mask: Array) -> Box:
    """Return the smallest box that holds a mask; of an empty one, its first voxel."""
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else (slice(0, 1), slice(0, 1), slice(0, 1))


def find_lesions(mask: Array, connectivity: int, box: Box | None = None) -> Lesions:
    """Return the lesions of a mask.

    Args:
        mask: Booleans, shape (X, Y, Z).
        connectivity: 6, 18 or 26.
        box: Part of the volume that holds them all; None for the smallest.
    """
    box = bounding_box(mask) if box is None else box
    # cc3d fails on some booleans, such as two single voxels in a volume of (3, 1, 1).
    labels, count = cc3d.connected_components(
        mask[box].astype(np.uint8, order="C"), connectivity=connectivity, return_N=True
    )
    return Lesions(labels, np.bincount(labels.ravel(), minlength=count + 1)[1:], box)


def tabulate_lesions(
    lesions: Lesions, affine: Array, protocol: Protocol
) -> pd.DataFrame:
    """Return size and place of each lesion, one row each, in their order.

    Args:
        lesions: The lesions.
        affine: Voxel indices to mm in RAS order, shape (4, 4).
        protocol: Its size bins.
    """
    start = np.array([part.start for part in lesions.box])
    found = cc3d.statistics(lesions.labels, no_slice_conversion=True)
    centroids = found["centroids"][1:] + start
    world = centroids @ affine[:3, :3].T + affine[:3, 3]
    boxes = found["bounding_boxes"][1:].astype(int) + np.repeat(start, 2)
    volumes = lesions.voxels * float(abs(np.linalg.det(affine[:3, :3])))
    columns: dict[str, Any] = {
        "voxels": lesions.voxels,
        "volume_mm3": volumes,
        "size_bin": size_bins(volumes, protocol.size_bins_mm3),
    }
    columns |= zip((f"centroid_{a}" for a in "xyz"), centroids.T, strict=True)
    columns |= zip((f"centroid_{a}_mm" for a in "xyz"), world.T, strict=True)
    ends = (f"box_{a}_{end}" for a in "xyz" for end in ("first", "last"))
    columns |= zip(ends, boxes.T, strict=True)
    return pd.DataFrame(columns)


def is_dropped(lesions: Lesions, protocol: Protocol, voxel_volume: float) -> Array:
    """Return which lesions are too small for the protocol, shape (N,).

    Args:
        lesions: The lesions.
        protocol: Its `min_voxels` and `above_mm3`.
        voxel_volume: Volume of a voxel in mm3.
    """
    least = protocol.above_mm3 * (1 + _TOLERANCE)
    few = lesions.voxels < protocol.min_voxels
    return np.asarray(few | (lesions.voxels * voxel_volume <= least))


def match_lesions(
    reference: Lesions, predicted: Lesions, protocol: Protocol, voxel_volume: float
) -> tuple[pd.DataFrame, pd.DataFrame, Counts]:
    """Return which lesions were hit, missed, false, ignored and dropped.

    A lesion can have several partners, and both sides are judged on their own.

    Args:
        reference: Lesions of the reference.
        predicted: Lesions of the prediction, in the same box.
        protocol: The rules.
        voxel_volume: Volume of a voxel in mm3.

    Returns:
        One row for each reference lesion: `status`, `overlap_voxels` (in lesions of the
        other map that are not dropped) and number of `partners`; the same of each
        predicted lesion; how many voxels and lesions there are of each kind.
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
    on_dropped = np.zeros(len(predicted), dtype=bool)
    on_dropped[second[dropped_reference[first]]] = True
    kept = ~dropped_reference[first] & ~dropped_predicted[second]
    first, second, shared = first[kept], second[kept], shared[kept]
    sizes = reference.voxels, predicted.voxels
    true = _judge(first, second, shared, *sizes, protocol.overlap, "missed")
    true.loc[dropped_reference, "status"] = "dropped"
    found = _judge(second, first, shared, *sizes[::-1], protocol.overlap, "false")
    if protocol.on_dropped_reference == "ignored":
        found.loc[on_dropped & (found["partners"] == 0), "status"] = "ignored"
    found.loc[dropped_predicted, "status"] = "dropped"
    tp = int(np.count_nonzero(both))
    counts = Counts(
        tp=tp,
        fp=int(sizes[1].sum()) - tp,
        fn=int(sizes[0].sum()) - tp,
        reference_hit=int((true["status"] == "hit").sum()),
        reference_missed=int((true["status"] == "missed").sum()),
        predicted_hit=int((found["status"] == "hit").sum()),
        predicted_false=int((found["status"] == "false").sum()),
    )
    return true, found, counts


def size_bins(volumes: Array, borders: tuple[float, ...]) -> pd.Categorical:
    """Return the size bin of each volume, such as ``<10``, ``10 to 70`` and ``>70``.

    A border belongs to the bin above it, the last one to the bin below it.

    Args:
        volumes: Volumes in mm3, shape (N,).
        borders: Borders of the bins in mm3.
    """
    edges = np.array(borders, dtype=float) * (1 - _TOLERANCE)
    edges[-1] = borders[-1] * (1 + _TOLERANCE)
    texts = [f"{border:g}" for border in borders]
    between = [f"{a} to {b}" for a, b in itertools.pairwise(texts)]
    names = [f"<{texts[0]}", *between, f">{texts[-1]}"]
    return pd.Categorical.from_codes(np.digitize(volumes, edges), names)


def _judge(
    lesion: Array,
    partner: Array,
    shared: Array,
    own: Array,
    others: Array,
    overlap: Overlap,
    failed: str,
) -> pd.DataFrame:
    """Return status (``hit`` or `failed`), overlap and partners of one side's lesions.

    `lesion`, `partner` and `shared` are the numbers of both lesions of each pair and
    the voxels they share; `own` and `others` the voxels of all lesions of each side.
    """
    covered = np.bincount(lesion, shared, len(own))
    hit = covered > 0
    if overlap.rule == "fraction":
        hit = covered >= own * overlap.fraction * (1 - _TOLERANCE)
    elif overlap.rule == "anima":
        inside = np.bincount(partner, shared, len(others))
        outside = (1 - inside / others)[partner]
        pairs = pd.DataFrame({"lesion": lesion, "shared": shared, "outside": outside})
        pairs = pairs.sort_values("shared", ascending=False, kind="stable")
        before = pairs.groupby("lesion")["shared"].cumsum() - pairs["shared"]
        # A partner is looked at as long as those before it are less than gamma.
        enough = overlap.gamma * covered[pairs["lesion"]] * (1 - _TOLERANCE)
        refused = (before < enough) & (
            pairs["outside"] > overlap.beta * (1 + _TOLERANCE)
        )
        hit = covered > own * overlap.alpha * (1 + _TOLERANCE)
        hit[pairs["lesion"][refused]] = False
    return pd.DataFrame(
        {
            "status": np.where(hit, "hit", failed),
            "overlap_voxels": covered.astype(int),
            "partners": np.bincount(lesion, minlength=len(own)),
        }
    )
