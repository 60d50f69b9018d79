"""Evaluates one case: a prediction, its reference, and its probabilities if wanted.

The surface of a mask are its voxels that share a face with a voxel outside it; beyond
the border of the volume is outside. A distance is that of voxel centers, from a
surface voxel to the nearest one of the other surface.

*False lesions so far* are the most that a scan has at a threshold or at any higher one.
Below some threshold everything flows together into one lesion that touches all others.
Counted as it is, it would be one hit and no false lesion.

Reference: Maier-Hein et al. 2024, Metrics reloaded, Nat Methods 21:195-212.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import KDTree

from nnunet_cel.evaluation.labels import Labels
from nnunet_cel.evaluation.lesions import (
    bounding_box,
    find_lesions,
    match_lesions,
    tabulate_lesions,
)
from nnunet_cel.evaluation.metrics import Counts, compute_metrics
from nnunet_cel.evaluation.protocol import Protocol
from nnunet_cel.volumes import Array, Volume

__all__ = [
    "BINS",
    "THRESHOLDS",
    "count_reliability",
    "evaluate_case",
    "surface_distances",
    "sweep_thresholds",
]

THRESHOLDS = (0.01, 0.02, *(round(0.05 * i, 2) for i in range(1, 20)), 0.98, 0.99)
"""The thresholds that are tried."""

BINS = np.array([THRESHOLDS[0], *np.arange(1, 11) / 10])
"""Borders of the bins of probabilities; what is below them is left out as air."""

_STATUSES = {
    "reference": ("hit", "missed", "dropped"),
    "prediction": ("hit", "false", "ignored", "dropped"),
}


def evaluate_case(
    prediction: Volume,
    reference: Volume,
    protocol: Protocol,
    *,
    labels: Labels,
    probabilities: Array | None = None,
) -> dict[str, pd.DataFrame]:
    """Compare a prediction with its reference.

    Args:
        prediction: Label map.
        reference: Label map on the same grid.
        protocol: The rules.
        labels: What the values of both label maps mean.
        probabilities: Lesion probability, shape (X, Y, Z).

    Returns:
        ``cases``, ``lesions``: the rows of the files of that name. With probabilities
        also what :func:`sweep_thresholds` and :func:`count_reliability` of the voxels
        returned, as ``sweep`` and ``reliability``.
    """
    predicted_mask = prediction.voxels == labels.lesion
    reference_mask = reference.voxels == labels.lesion
    if labels.ignore is not None:
        left_out = reference.voxels == labels.ignore
        predicted_mask &= ~left_out
        if probabilities is not None:
            probabilities = np.where(left_out, 0, probabilities)
    box = bounding_box(predicted_mask | reference_mask)
    predicted = find_lesions(predicted_mask, protocol.connectivity, box)
    true = find_lesions(reference_mask, protocol.connectivity, box)
    volume = reference.voxel_volume
    hits, found, counts = match_lesions(true, predicted, protocol, volume)
    parts = []
    for name, lesions, judged in (
        ("reference", true, hits),
        ("prediction", predicted, found),
    ):
        table = tabulate_lesions(lesions, reference.affine, protocol)
        table.insert(0, "map", name)
        # numbered from 1 as the largest
        order = table["voxels"].rank(method="first", ascending=False)
        table.insert(1, "lesion", order.astype(int))
        table.insert(2, "status", judged["status"])
        table.insert(6, "overlap_voxels", judged["overlap_voxels"])
        table.insert(7, "overlap_fraction", judged["overlap_voxels"] / lesions.voxels)
        table.insert(8, "partners", judged["partners"])
        if probabilities is not None:
            table["mean_probability"] = lesions.means(probabilities)
            table["max_probability"] = lesions.maxima(probabilities)
        parts.append(table.sort_values("lesion"))
    both = pd.concat(parts, ignore_index=True)
    hd95, assd = surface_distances(
        predicted_mask[box], reference_mask[box], reference.spacing
    )
    counts = replace(counts, hd95=hd95, assd=assd)
    row = compute_metrics(counts, protocol.edge_cases) | _count(counts, both, volume)
    tables = {"cases": pd.DataFrame([row]), "lesions": both}
    if probabilities is not None:
        sweep = sweep_thresholds(probabilities, reference_mask, protocol, volume)
        reliability = count_reliability(probabilities, reference_mask)
        tables |= {"sweep": sweep, "reliability": reliability}
    return tables


def surface_distances(
    prediction: Array, reference: Array, spacing: Sequence[float]
) -> tuple[float, float]:
    """Return HD95 and ASSD in mm, NaN if a mask is empty.

    HD95 is the larger of the 95th percentiles of both directions, ASSD the mean over
    the surface voxels of both masks.

    Args:
        prediction: Mask, shape (X, Y, Z).
        reference: Mask of the same shape.
        spacing: Distance of voxel centers along each axis in mm.
    """
    if not prediction.any() or not reference.any():
        return math.nan, math.nan
    # Lesions are sparse: a tree of their surfaces is faster than a distance map.
    points, others = (
        np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.asarray(spacing)
        for mask in (prediction, reference)
    )
    there, _ = KDTree(others).query(points)
    back, _ = KDTree(points).query(others)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    assd = (there.sum() + back.sum()) / (len(there) + len(back))
    return float(hd95), float(assd)


def sweep_thresholds(
    probabilities: Array, reference: Array, protocol: Protocol, voxel_volume: float
) -> pd.DataFrame:
    """Return what a case has at every threshold, one row each.

    False lesions, and LFDR with them, are those so far.

    Args:
        probabilities: Lesion probability, shape (X, Y, Z).
        reference: Reference mask of the same shape.
        protocol: The rules.
        voxel_volume: Volume of a voxel in mm3.
    """
    box = bounding_box((probabilities > THRESHOLDS[0]) | reference)
    connectivity = protocol.connectivity
    true = find_lesions(reference, connectivity, box)
    rows, false = [], 0
    for threshold in reversed(THRESHOLDS):
        found = find_lesions(probabilities > threshold, connectivity, box)
        counts = match_lesions(true, found, protocol, voxel_volume)[2]
        false = max(false, counts.predicted_false)
        counts = replace(counts, predicted_false=false)
        rows.append(
            {
                "threshold": threshold,
                "hit": counts.reference_hit,
                "lesions": counts.reference_lesions,
                "false": false,
                "predicted": counts.predicted,
                "reference": counts.reference,
                **compute_metrics(counts, protocol.edge_cases),
            }
        )
    return pd.DataFrame(rows)


def count_reliability(probabilities: Array, truth: Array) -> pd.DataFrame:
    """Return count, sum of probability and number of true ones by bins of 0.1.

    Probabilities up to 0.01 are left out, as those of air.

    Args:
        probabilities: From 0 to 1, any shape.
        truth: Whether each is lesion, same shape.
    """
    chosen = probabilities > BINS[0]
    values, true = probabilities[chosen].astype(float), truth[chosen]
    size = len(BINS) - 1
    bins = np.clip(np.digitize(values, BINS) - 1, 0, size - 1)
    return pd.DataFrame(
        {
            "bin": range(size),
            "count": np.bincount(bins, minlength=size),
            "sum": np.bincount(bins, values, size),
            "true": np.bincount(bins, true, size),
        }
    )


def _count(
    counts: Counts, lesions: pd.DataFrame, voxel_volume: float
) -> dict[str, float | int]:
    """Return volumes in ml and numbers of lesions of a case."""
    ml = voxel_volume / 1000
    row: dict[str, float | int] = {
        "reference_ml": counts.reference * ml,
        "predicted_ml": counts.predicted * ml,
        "reference_lesions": counts.reference_lesions,
        "predicted_lesions": counts.predicted_lesions,
    }
    for of_map, statuses in _STATUSES.items():
        name = of_map.replace("prediction", "predicted")
        for status in statuses:
            chosen = (lesions["map"] == of_map) & (lesions["status"] == status)
            row[f"{name}_{status}"] = int(chosen.sum())
            row[f"{name}_{status}_ml"] = float(lesions.loc[chosen, "voxels"].sum() * ml)
    return row | {
        "tp_voxels": counts.tp,
        "fp_voxels": counts.fp,
        "fn_voxels": counts.fn,
        "voxel_mm3": voxel_volume,
    }
